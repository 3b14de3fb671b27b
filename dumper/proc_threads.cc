// SPDX-License-Identifier: Apache-2.0
#include "dumper/proc_threads.h"

#include <dirent.h>
#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <system_error>

namespace mprof::dumper {
namespace {

constexpr size_t kPageBytes = 4096;

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// "4711 (a name) S ...": the name may hold blanks and parentheses.
bool parse_stat(const std::string& text, ProcThread& thread) {
  const size_t begin = text.find('(');
  const size_t end = text.rfind(')');
  if (begin == std::string::npos || end == std::string::npos || end + 2 >= text.size())
    return false;
  thread.name = text.substr(begin + 1, end - begin - 1);
  thread.state = text[end + 2];
  return true;
}

uint64_t hex_after(const std::string& text, const char* key) {
  const size_t at = text.find(key);
  return at == std::string::npos ? 0 : strtoull(text.c_str() + at + strlen(key), nullptr, 16);
}

// "running", or the number, six arguments, sp and pc; of a thread in no call "-1", sp and pc.
void parse_call(const std::string& text, ProcThread& thread) {
  std::istringstream in(text);
  if (!(in >> thread.call.number)) return;
  thread.call_known = true;
  in >> std::hex;
  for (uint64_t& argument : thread.call.arguments) {
    std::string word;
    in >> word;
    argument = strtoull(word.c_str(), nullptr, 16);
  }
}

bool is_timed_futex_wait(const SystemCall& call) {
  if (call.number != SYS_futex || call.arguments[3] == 0) return false;
  const uint64_t operation = call.arguments[1] & FUTEX_CMD_MASK;
  return operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET;
}

// signal(7), "never restarted". An ioctl may be anything.
struct CallName {
  long number;
  const char* name;
};
constexpr CallName kCallsWithoutRestart[] = {
    {SYS_poll, "poll"},
    {SYS_ppoll, "ppoll"},
    {SYS_select, "select"},
    {SYS_pselect6, "pselect"},
    {SYS_epoll_wait, "epoll_wait"},
    {SYS_epoll_pwait, "epoll_pwait"},
    {SYS_epoll_pwait2, "epoll_pwait2"},
    {SYS_nanosleep, "nanosleep"},
    {SYS_clock_nanosleep, "clock_nanosleep"},
    {SYS_pause, "pause"},
    {SYS_rt_sigsuspend, "sigsuspend"},
    {SYS_rt_sigtimedwait, "sigtimedwait"},
    {SYS_msgrcv, "msgrcv"},
    {SYS_msgsnd, "msgsnd"},
    {SYS_semop, "semop"},
    {SYS_semtimedop, "semtimedop"},
    {SYS_io_getevents, "io_getevents"},
    {SYS_io_pgetevents, "io_pgetevents"},
    {SYS_io_uring_enter, "io_uring_enter"},
    {SYS_recvmmsg, "recvmmsg"},
    {SYS_ioctl, "ioctl"},
    {SYS_restart_syscall, "a call that was interrupted before"},
};

constexpr long kCallsOnDescriptors[] = {SYS_read,     SYS_readv,   SYS_write,   SYS_writev,
                                        SYS_recvfrom, SYS_recvmsg, SYS_sendto,  SYS_sendmsg,
                                        SYS_sendmmsg, SYS_accept,  SYS_accept4, SYS_connect};

bool is_call_on_descriptor(long number) {
  return std::find(std::begin(kCallsOnDescriptors), std::end(kCallsOnDescriptors), number) !=
         std::end(kCallsOnDescriptors);
}

class Descriptor {
 public:
  explicit Descriptor(long fd) : fd_(static_cast<int>(fd)) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

bool has_timeout(int socket, int option) {
  timeval timeout{};
  socklen_t bytes = sizeof timeout;
  return getsockopt(socket, SOL_SOCKET, option, &timeout, &bytes) != 0 || timeout.tv_sec != 0 ||
         timeout.tv_usec != 0;
}

// Calls on sockets with SO_RCVTIMEO or SO_SNDTIMEO are not restarted. One that cannot be looked at
// may have it.
bool may_have_timeout(uint32_t pid, uint64_t fd) {
  std::error_code error;
  const auto link = std::filesystem::path(fmt::format("/proc/{}/fd/{}", pid, fd));
  const std::string name = std::filesystem::read_symlink(link, error).string();
  if (error == std::errc::no_such_file_or_directory) return false;  // the call is over
  if (!error && !name.starts_with("socket:")) return false;
  const Descriptor process(syscall(SYS_pidfd_open, pid, 0));
  const Descriptor socket(process.fd() < 0 ? -1 : syscall(SYS_pidfd_getfd, process.fd(), fd, 0));
  return socket.fd() < 0 || has_timeout(socket.fd(), SO_RCVTIMEO) ||
         has_timeout(socket.fd(), SO_SNDTIMEO);
}

}  // namespace

std::optional<ProcThread> thread_of_process(uint32_t pid, uint32_t tid) {
  const std::string folder = fmt::format("/proc/{}/task/{}/", pid, tid);
  ProcThread thread;
  thread.tid = tid;
  if (!parse_stat(read_file(folder + "stat"), thread)) return std::nullopt;
  const std::string status = read_file(folder + "status");
  thread.blocked = hex_after(status, "\nSigBlk:");
  thread.caught = hex_after(status, "\nSigCgt:");
  parse_call(read_file(folder + "syscall"), thread);
  return thread;
}

std::vector<ProcThread> threads_of_process(uint32_t pid) {
  std::vector<ProcThread> threads;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(
      opendir(fmt::format("/proc/{}/task", pid).c_str()), closedir);
  if (folder == nullptr) return threads;
  while (const dirent* entry = readdir(folder.get())) {
    uint32_t tid = 0;
    const char* end = entry->d_name + strlen(entry->d_name);
    if (std::from_chars(entry->d_name, end, tid).ptr != end) continue;
    if (auto thread = thread_of_process(pid, tid)) threads.push_back(std::move(*thread));
  }
  std::sort(threads.begin(), threads.end(),
            [](const ProcThread& a, const ProcThread& b) { return a.tid < b.tid; });
  // The folder is read in parts, and threads come and go: none twice.
  threads.erase(std::unique(threads.begin(), threads.end(),
                            [](const auto& a, const auto& b) { return a.tid == b.tid; }),
                threads.end());
  return threads;
}

const char* call_without_restart(uint32_t pid, const SystemCall& call, bool is_libcs) {
  if (is_timed_futex_wait(call) && !is_libcs) return "futex with a timeout";
  for (const CallName& known : kCallsWithoutRestart)
    if (known.number == call.number) return known.name;
  if (is_call_on_descriptor(call.number) && may_have_timeout(pid, call.arguments[0]))
    return "on a socket with a timeout";
  return nullptr;
}

// A page a piece: the kernel stops before the first piece that it cannot read.
size_t read_memory(uint32_t pid, uint64_t address, void* out, size_t bytes) {
  std::array<iovec, 64> pieces{};
  size_t count = 0;
  size_t asked = 0;
  while (asked < bytes && count < pieces.size()) {
    const uint64_t at = address + asked;
    const size_t piece = std::min(bytes - asked, kPageBytes - at % kPageBytes);
    pieces[count++] = {reinterpret_cast<void*>(at), piece};
    asked += piece;
  }
  const iovec local{out, asked};
  const ssize_t got = process_vm_readv(static_cast<pid_t>(pid), &local, 1, pieces.data(), count, 0);
  return got < 0 ? 0 : static_cast<size_t>(got);
}

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/signal_thread.h"

#include <fmt/format.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace mprof::dumper {
namespace {

namespace fs = std::filesystem;

std::string task_file(const Dump& dump, uint32_t tid, const char* name) {
  return fmt::format("/proc/{}/task/{}/{}", dump.header().pid, tid, name);
}

struct Status {
  char state = '?';
  uint64_t blocked = 0;
  uint64_t caught = 0;
};

std::optional<Status> status_of(const Dump& dump, uint32_t tid) {
  std::ifstream in(task_file(dump, tid, "status"));
  if (!in) return std::nullopt;
  Status status;
  for (std::string line; std::getline(in, line);) {
    const auto value = [&] { return line.substr(line.find('\t') + 1); };
    if (line.starts_with("State:")) status.state = value().front();
    if (line.starts_with("SigBlk:")) status.blocked = std::stoull(value(), nullptr, 16);
    if (line.starts_with("SigCgt:")) status.caught = std::stoull(value(), nullptr, 16);
  }
  return status;
}

// The system call that a thread is in, as far as /proc says.
struct Call {
  enum class Kind { kUnknown, kRunning, kInside } kind = Kind::kUnknown;
  long number = -1;
  std::array<uint64_t, 6> arguments{};
};

Call call_of(const Dump& dump, uint32_t tid) {
  Call call;
  std::ifstream in(task_file(dump, tid, "syscall"));
  std::string word;
  if (!(in >> word)) return call;
  call.kind = word == "running" ? Call::Kind::kRunning : Call::Kind::kInside;
  if (call.kind == Call::Kind::kRunning) return call;
  call.number = std::strtol(word.c_str(), nullptr, 10);
  for (uint64_t& argument : call.arguments)
    if (in >> word) argument = std::strtoull(word.c_str(), nullptr, 16);
  return call;
}

// signal(7), "never restarted". An ioctl may be anything.
bool is_never_restarted(long number) {
  switch (number) {
    case SYS_pause:
    case SYS_rt_sigsuspend:
    case SYS_rt_sigtimedwait:
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
    case SYS_msgrcv:
    case SYS_msgsnd:
    case SYS_semop:
    case SYS_semtimedop:
    case SYS_io_getevents:
    case SYS_io_pgetevents:
    case SYS_io_uring_enter:
    case SYS_restart_syscall:
    case SYS_recvmmsg:
    case SYS_ioctl: return true;
    default: return false;
  }
}

// A futex with a timeout is not restarted; glibc's own waits, which hooks know of, try again.
bool is_timed_futex(const Call& call) {
  if (call.number != SYS_futex || call.arguments[3] == 0) return false;
  const uint64_t operation = call.arguments[1] & FUTEX_CMD_MASK;
  return operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET;
}

bool is_call_on_descriptor(long number) {
  switch (number) {
    case SYS_read:
    case SYS_readv:
    case SYS_write:
    case SYS_writev:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect: return true;
    default: return false;
  }
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
bool may_have_timeout(const Dump& dump, uint64_t fd) {
  std::error_code error;
  const fs::path link = fmt::format("/proc/{}/fd/{}", dump.header().pid, fd);
  const std::string name = fs::read_symlink(link, error).string();
  if (error == std::errc::no_such_file_or_directory) return false;  // the call is over
  if (!error && !name.starts_with("socket:")) return false;
  const Descriptor process(syscall(SYS_pidfd_open, dump.header().pid, 0));
  const Descriptor socket(process.fd() < 0 ? -1 : syscall(SYS_pidfd_getfd, process.fd(), fd, 0));
  return socket.fd() < 0 || has_timeout(socket.fd(), SO_RCVTIMEO) ||
         has_timeout(socket.fd(), SO_SNDTIMEO);
}

// The row of a thread that has not ended; nullptr: hooks do not know of it.
const format::ThreadRow* row_of(const Dump& dump, uint32_t tid) {
  for (uint32_t i = 0; i < dump.rows(format::TableId::kThreads); ++i) {
    const format::ThreadRow* row = dump.thread_row(i);
    if (row != nullptr && row->tid.load(std::memory_order_acquire) == tid &&
        row->end_ticks.load(std::memory_order_relaxed) == 0)
      return row;
  }
  return nullptr;
}

bool is_parked(const format::ThreadRow* row) {
  return row != nullptr && row->parked.load(std::memory_order_acquire) % 2 == 1;
}

bool is_known_wait(const format::ThreadRow* row) {
  return row != nullptr && row->wait_kind.load(std::memory_order_acquire) != 0;
}

bool would_be_interrupted(const Dump& dump, const Call& call, const format::ThreadRow* row) {
  if (call.kind != Call::Kind::kInside) return false;
  return is_never_restarted(call.number) || (is_timed_futex(call) && !is_known_wait(row)) ||
         (is_call_on_descriptor(call.number) && may_have_timeout(dump, call.arguments[0]));
}

bool has_signal(uint64_t set, uint32_t number) { return (set >> (number - 1) & 1) != 0; }

std::vector<uint32_t> tasks_of(uint32_t pid) {
  std::vector<uint32_t> tids;
  std::error_code error;
  for (fs::directory_iterator entry(fmt::format("/proc/{}/task", pid), error), end;
       !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    uint32_t tid = 0;
    std::from_chars(name.data(), name.data() + name.size(), tid);
    tids.push_back(tid);
  }
  return tids;
}

}  // namespace

std::optional<std::string> why_not_signal(const Dump& dump, uint32_t tid) {
  const uint32_t number = dump.header().signal_number.load(std::memory_order_acquire);
  if (number == 0 || number > 64)
    return "the program has handlers of its own for every signal that mprof could use";
  const auto status = status_of(dump, tid);
  if (!status || status->state == 'Z' || status->state == 'X') return "it has ended";
  if (status->state == 'T' || status->state == 't') return "it is stopped";
  if (!has_signal(status->caught, number))
    return fmt::format("signal {} has no handler in it", number);
  if (has_signal(status->blocked, number)) return fmt::format("it blocks signal {}", number);
  const format::ThreadRow* row = row_of(dump, tid);
  if (is_parked(row) || would_be_interrupted(dump, call_of(dump, tid), row))
    return "it waits in a call that a signal would interrupt";
  return std::nullopt;
}

bool signal_thread(const Dump& dump, uint32_t tid) {
  if (dump.life() != Life::kRunning) return false;
  const auto number = static_cast<int>(dump.header().signal_number.load(std::memory_order_acquire));
  siginfo_t info{};
  info.si_signo = number;
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_uid = getuid();
  info.si_value.sival_int = format::kSignalCookie;
  return syscall(SYS_rt_tgsigqueueinfo, dump.header().pid, tid, number, &info) == 0;
}

ThreadsToAsk threads_to_ask(const Dump& dump) {
  ThreadsToAsk found;
  for (const uint32_t tid : tasks_of(dump.header().pid)) {
    if (auto why = why_not_signal(dump, tid))
      found.why_none = fmt::format("thread {}: {}", tid, *why);
    else
      found.tids.push_back(tid);
  }
  std::stable_partition(found.tids.begin(), found.tids.end(), [&](uint32_t tid) {
    const auto status = status_of(dump, tid);
    return status && status->state == 'R';
  });
  return found;
}

}  // namespace mprof::dumper

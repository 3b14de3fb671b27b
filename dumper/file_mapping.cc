// SPDX-License-Identifier: Apache-2.0
#include "dumper/file_mapping.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <system_error>
#include <utility>

namespace mprof::dumper {
namespace {

// A range that the SIGBUS handler repairs. `end` is stored last and cleared first, so the handler
// never sees half a range.
struct Guard {
  std::atomic<bool> taken{false};
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> shrunk{false};
};
constexpr int kMaxGuards = 4096;
Guard guards[kMaxGuards];

const uintptr_t kPage = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));

bool repair(uintptr_t address) {
  for (Guard& guard : guards) {
    const uintptr_t end = guard.end.load(std::memory_order_acquire);
    if (address >= end || address < guard.begin.load(std::memory_order_relaxed)) continue;
    guard.shrunk.store(true, std::memory_order_relaxed);
    void* page = reinterpret_cast<void*>(address & ~(kPage - 1));
    return mmap(page, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                0) != MAP_FAILED;
  }
  return false;
}

void on_sigbus(int signal_number, siginfo_t* info, void*) {
  const int saved_errno = errno;
  if (!repair(reinterpret_cast<uintptr_t>(info->si_addr))) signal(signal_number, SIG_DFL);
  errno = saved_errno;
}

void install_handler_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGBUS, &action, nullptr);
  });
}

int take_guard(uintptr_t begin, uintptr_t end) {
  for (int i = 0; i < kMaxGuards; ++i) {
    if (guards[i].taken.exchange(true, std::memory_order_acquire)) continue;
    guards[i].shrunk.store(false, std::memory_order_relaxed);
    guards[i].begin.store(begin, std::memory_order_relaxed);
    guards[i].end.store(end, std::memory_order_release);
    return i;
  }
  return -1;
}

void drop_guard(int index) {
  guards[index].end.store(0, std::memory_order_relaxed);
  guards[index].taken.store(false, std::memory_order_release);
}

}  // namespace

FileMapping::FileMapping(int fd, uint64_t offset, uint64_t bytes, bool writable) : bytes_(bytes) {
  install_handler_once();
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* place =
      mmap(nullptr, bytes, protection, MAP_SHARED | MAP_NORESERVE, fd, static_cast<off_t>(offset));
  if (place == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  data_ = static_cast<std::byte*>(place);
  const auto begin = reinterpret_cast<uintptr_t>(place);
  guard_ = take_guard(begin, begin + bytes);
  if (guard_ >= 0) return;
  munmap(place, bytes);
  throw std::system_error(EMFILE, std::generic_category(), "too many dumps open at once");
}

FileMapping::FileMapping(FileMapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      guard_(std::exchange(other.guard_, -1)) {}

FileMapping& FileMapping::operator=(FileMapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(guard_, other.guard_);
  return *this;
}

FileMapping::~FileMapping() {
  if (data_ == nullptr) return;
  drop_guard(guard_);
  munmap(data_, bytes_);
}

bool FileMapping::shrunk() const {
  return guard_ >= 0 && guards[guard_].shrunk.load(std::memory_order_relaxed);
}

}  // namespace mprof::dumper

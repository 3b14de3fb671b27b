// SPDX-License-Identifier: Apache-2.0
#include "dumper/proc_threads.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>
#include <string>
#include <thread>

#include "tests/unit/catch.h"

namespace mprof::dumper {
namespace {

const auto pid = static_cast<uint32_t>(getpid());

TEST_CASE("proc_threads: every thread of a process is there, with its name") {
  std::promise<uint32_t> tid;
  std::promise<void> go;
  std::thread thread([&] {
    pthread_setname_np(pthread_self(), "odd) name (");
    tid.set_value(static_cast<uint32_t>(syscall(SYS_gettid)));
    go.get_future().wait();
  });
  const uint32_t wanted = tid.get_future().get();
  const auto threads = threads_of_process(pid);
  const auto found = std::find_if(threads.begin(), threads.end(),
                                  [&](const ProcThread& one) { return one.tid == wanted; });
  REQUIRE(found != threads.end());
  CHECK(found->name == "odd) name (");
  CHECK((found->state == 'S' || found->state == 'R'));
  CHECK(std::any_of(threads.begin(), threads.end(),
                    [](const ProcThread& one) { return one.tid == pid; }));
  go.set_value();
  thread.join();
}

TEST_CASE("proc_threads: signals that are caught and blocked") {
  std::promise<void> blocked;
  std::promise<void> go;
  std::atomic<uint32_t> tid{0};
  signal(SIGUSR2, [](int) {});
  std::thread thread([&] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    tid = static_cast<uint32_t>(syscall(SYS_gettid));
    blocked.set_value();
    go.get_future().wait();
  });
  blocked.get_future().wait();
  const auto found = thread_of_process(pid, tid);
  REQUIRE(found);
  CHECK((found->blocked >> (SIGUSR1 - 1) & 1) == 1);
  CHECK((found->blocked >> (SIGUSR2 - 1) & 1) == 0);
  CHECK((found->caught >> (SIGUSR2 - 1) & 1) == 1);
  CHECK((found->caught >> (SIGURG - 1) & 1) == 0);
  go.set_value();
  thread.join();
  signal(SIGUSR2, SIG_DFL);
}

TEST_CASE("proc_threads: which calls a signal ends for good") {
  SystemCall call;
  call.number = SYS_poll;
  CHECK(std::string(call_without_restart(pid, call, false)) == "poll");
  call.number = SYS_read;
  CHECK(call_without_restart(pid, call, false) == nullptr);
  call.number = -1;
  CHECK(call_without_restart(pid, call, false) == nullptr);
  call.number = SYS_futex;
  CHECK(call_without_restart(pid, call, false) == nullptr);  // without a deadline it goes on
  call.arguments[3] = 0x1000;
  CHECK(call_without_restart(pid, call, false) != nullptr);
  CHECK(call_without_restart(pid, call, true) == nullptr);  // libc makes it go on
  call.arguments[1] = 1;                                    // FUTEX_WAKE
  CHECK(call_without_restart(pid, call, false) == nullptr);
}

TEST_CASE("proc_threads: memory is read up to where it ends") {
  constexpr size_t kPage = 4096;
  void* pages =
      mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(pages != MAP_FAILED);
  memset(pages, 'x', kPage);
  munmap(static_cast<char*>(pages) + kPage, kPage);
  std::string copy(2 * kPage, '\0');
  const auto address = reinterpret_cast<uint64_t>(pages) + 100;
  CHECK(read_memory(pid, address, copy.data(), copy.size()) == kPage - 100);
  CHECK(copy[0] == 'x');
  CHECK(read_memory(pid, 16, copy.data(), 8) == 0);
  munmap(pages, kPage);
}

}  // namespace
}  // namespace mprof::dumper

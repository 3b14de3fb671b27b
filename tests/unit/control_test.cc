// SPDX-License-Identifier: Apache-2.0
// The test's own process is the target: the dump is one that it has mapped, and its handler answers
// as libmprof.so does.
#include "dumper/control.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "dumper/signal_thread.h"
#include "tests/unit/catch.h"
#include "tests/unit/small_dump.h"

namespace mprof::dumper {
namespace {

using testing::SmallDump;
using testing::TempDir;

constexpr int kSignal = SIGURG;
std::atomic<format::DumpHeader*> answering;
std::atomic<int> answers;

void answer(int, siginfo_t* info, void*) {
  if (info->si_code != SI_QUEUE || info->si_value.sival_int != format::kSignalCookie) return;
  ++answers;
  format::Control& control = answering.load()->control;
  control.applied_epoch.store(control.epoch.load());
}

class Target {
 public:
  explicit Target(uint32_t pid = static_cast<uint32_t>(getpid()))
      : file_(dir_ / "target.mprof", 64, pid) {
    answering = file_.header();
    answers = 0;
    for (uint32_t row = 0; row < SmallDump::kThreads; ++row) file_.thread(row)->tid.store(0);
    file_.header()->signal_number.store(kSignal);
    struct sigaction action = {};
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(kSignal, &action, nullptr);
  }
  ~Target() { signal(kSignal, SIG_DFL); }
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  [[nodiscard]] format::DumpHeader& header() { return *file_.header(); }
  [[nodiscard]] const std::string& path() const { return file_.path(); }
  [[nodiscard]] Dump open(Access access = Access::kWrite) const {
    return Dump::open(file_.path(), access);
  }
  format::ThreadRow& row_of(uint32_t tid) {
    format::ThreadRow& row = *file_.thread(0);
    row.tid.store(tid);
    return row;
  }

 private:
  TempDir dir_;
  SmallDump file_;
};

uint32_t own_tid() { return static_cast<uint32_t>(gettid()); }

// Another thread of the target, that has come to sleep in what it does.
class SleepingThread {
 public:
  SleepingThread(std::function<void()> sleep, std::function<void()> wake)
      : wake_(std::move(wake)), thread_([this, sleep] {
          tid_ = own_tid();
          sleep();
        }) {
    while (tid_ == 0 || !sleeps()) std::this_thread::yield();
  }
  ~SleepingThread() {
    wake_();
    thread_.join();
  }
  SleepingThread(const SleepingThread&) = delete;
  SleepingThread& operator=(const SleepingThread&) = delete;
  [[nodiscard]] uint32_t tid() const { return tid_; }

 private:
  [[nodiscard]] bool sleeps() const {
    std::ifstream in("/proc/self/task/" + std::to_string(tid_) + "/syscall");
    std::string word;
    in >> word;
    // A futex is what it may meet on its way.
    return !word.empty() && word != "running" && word != "202";
  }
  std::function<void()> wake_;
  std::atomic<uint32_t> tid_{0};
  std::thread thread_;
};

SettingsChange all_five() {
  SettingsChange change;
  set_heap_rate(change, "--heap-rate", "64k");
  set_block_rate(change, "--block-rate", "5000");
  set_mutex_fraction(change, "--mutex-fraction", "7");
  set_cpu(change, "--cpu", "250");
  set_trace(change, "--trace", "on");
  return change;
}

TEST_CASE("control: what is wanted is stored, and a thread that is asked puts it in force") {
  Target target;
  const ChangeResult result = change_settings(target.open(), all_five());
  CHECK(result.in_force);
  CHECK(answers == 1);
  const format::Control& control = target.header().control;
  CHECK(control.heap_rate_bytes == 65536);
  CHECK(control.block_rate_ns == 5000);
  CHECK(control.mutex_fraction == 7);
  CHECK(control.cpu_hz == 250);
  CHECK(control.trace == 1);
  CHECK(control.applied_epoch == control.epoch);
}

TEST_CASE("control: what is not asked for stays as it is wanted") {
  Target target;
  target.header().control.block_rate_ns = 11;
  target.header().control.cpu_hz = 100;
  target.header().control.trace = 1;
  SettingsChange change;
  set_cpu(change, "--cpu", "off");
  CHECK(change_settings(target.open(), change).in_force);
  CHECK(target.header().control.block_rate_ns == 11);
  CHECK(target.header().control.cpu_hz == 0);
  CHECK(target.header().control.trace == 1);
}

TEST_CASE("control: the settings that are shown are those in force") {
  Target target;
  CHECK(settings_text(target.open()) ==
        "heap rate 1, block rate 0, mutex fraction 0, cpu off, trace off");
  target.header().cpu_hz = 100;
  target.header().trace_on = 1;
  CHECK(settings_text(target.open()) ==
        "heap rate 1, block rate 0, mutex fraction 0, cpu 100 Hz, trace on");
}

TEST_CASE("control: where nobody may be asked, it says so and has asked nobody") {
  Target target;
  target.row_of(own_tid()).parked.store(1);
  const ChangeResult result = change_settings(target.open(), all_five());
  CHECK_FALSE(result.in_force);
  CHECK(answers == 0);
  CHECK(result.after_ms < 500);
  CHECK(target.header().control.epoch == 1);
  const std::string text = result_text(target.open(), result);
  CHECK(text.find("takes effect when the program wakes") != std::string::npos);
  CHECK(text.find("a call that a signal would interrupt") != std::string::npos);
}

TEST_CASE("control: a thread that is not asked does not keep another one from being asked") {
  Target target;
  int pipes[2];
  REQUIRE(pipe(pipes) == 0);
  const SleepingThread sleeper(
      [&] {
        pollfd wait{pipes[0], POLLIN, 0};
        poll(&wait, 1, -1);
      },
      [&] { (void)!write(pipes[1], "x", 1); });
  CHECK(change_settings(target.open(), all_five()).in_force);
  const ThreadsToAsk threads = threads_to_ask(target.open());
  CHECK(threads.tids == std::vector<uint32_t>{own_tid()});
}

TEST_CASE("control: of a target that has ended, or that is another user's, one line says so") {
  Target target;
  SECTION("ended") {
    target.header().end_state = format::EndState::kClean;
    CHECK_THROWS_WITH(change_settings(target.open(), all_five()), Catch::Contains("has ended"));
  }
  SECTION("not writable") {
    CHECK_THROWS_WITH(change_settings(target.open(Access::kRead), all_five()),
                      Catch::Contains("may not be written by this user"));
  }
  CHECK(target.header().control.epoch == 0);
}

TEST_CASE("control: values that are not accepted are refused with what is") {
  SettingsChange change;
  for (const char* rate : {"1", "4095", "-1", "x", "", "2048G"})
    CHECK_THROWS_WITH(set_heap_rate(change, "--heap-rate", rate),
                      Catch::Contains("--heap-rate") && Catch::Contains("4096 to 1099511627776"));
  CHECK_THROWS_WITH(set_block_rate(change, "--block-rate", "3600000000001"),
                    Catch::Contains("nanoseconds, 0 to 3600000000000"));
  CHECK_THROWS_WITH(set_mutex_fraction(change, "--mutex-fraction", "1048577"),
                    Catch::Contains("0 to 1048576"));
  for (const char* hz : {"10001", "yes", "", "-1"})
    CHECK_THROWS_WITH(set_cpu(change, "--cpu", hz), Catch::Contains("on (100), off"));
  for (const char* trace : {"", "1", "start", "ON"})
    CHECK_THROWS_WITH(set_trace(change, "--trace", trace), Catch::Contains("on or off"));
  CHECK(change.empty());
  set_heap_rate(change, "--heap-rate", "0");
  set_cpu(change, "--cpu", "on");
  CHECK(change.heap_rate_bytes == 0);
  CHECK(change.cpu_hz == 100);
}

TEST_CASE("signal thread: a parked thread, one that blocks the signal, and no signal at all") {
  Target target;
  CHECK_FALSE(why_not_signal(target.open(), own_tid()));
  target.row_of(own_tid()).parked.store(3);
  CHECK(why_not_signal(target.open(), own_tid()));
  target.row_of(own_tid()).parked.store(4);
  CHECK_FALSE(why_not_signal(target.open(), own_tid()));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, kSignal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  CHECK(why_not_signal(target.open(), own_tid()) == "it blocks signal 23");
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  signal(kSignal, SIG_DFL);
  CHECK(why_not_signal(target.open(), own_tid()) == "signal 23 has no handler in it");
  target.header().signal_number.store(0);
  CHECK(why_not_signal(target.open(), own_tid()));
}

TEST_CASE("signal thread: a row of a thread that had the number before says nothing") {
  Target target;
  target.row_of(own_tid()).parked.store(1);
  target.row_of(own_tid()).end_ticks.store(1);
  CHECK_FALSE(why_not_signal(target.open(), own_tid()));
}

TEST_CASE("signal thread: calls that are never restarted are left alone, others are not") {
  Target target;
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  const auto wake = [&] { (void)!write(ends[1], "x", 1); };
  char byte;
  SECTION("nanosleep") {
    const SleepingThread sleeper([] { usleep(300000); }, [] {});
    CHECK(why_not_signal(target.open(), sleeper.tid()));
  }
  SECTION("a read of a socket") {
    const SleepingThread reader([&] { (void)!read(ends[0], &byte, 1); }, wake);
    CHECK_FALSE(why_not_signal(target.open(), reader.tid()));
  }
  SECTION("a read of a socket with a timeout") {
    const timeval timeout{60, 0};
    REQUIRE(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
    const SleepingThread reader([&] { (void)!recv(ends[0], &byte, 1, 0); }, wake);
    CHECK(why_not_signal(target.open(), reader.tid()));
  }
  SECTION("a read of a pipe") {
    int pipes[2];
    REQUIRE(pipe(pipes) == 0);
    const SleepingThread reader([&] { (void)!read(pipes[0], &byte, 1); },
                                [&] { (void)!write(pipes[1], "x", 1); });
    CHECK_FALSE(why_not_signal(target.open(), reader.tid()));
  }
  close(ends[0]);
  close(ends[1]);
}

TEST_CASE("signal thread: nothing is sent to a process that is not the dump's") {
  Target target;
  target.header().start_time_clock_ticks += 1;
  CHECK_FALSE(signal_thread(target.open(), own_tid()));
  CHECK(answers == 0);
}

}  // namespace
}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
// A thread of this process that stands still, and its stack as the walk from outside has it: that
// reads /proc and memory as it does of any process.
#include "dumper/outside_stack.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <string>
#include <thread>

#include "tests/unit/catch.h"

namespace mprof::dumper {
namespace {

const auto pid = static_cast<uint32_t>(getpid());
const auto always = [] { return true; };

struct Standing {
  uint32_t tid = 0;
  StandingRegisters registers;
  uint64_t outer_pc = 0;  // where the caller's caller goes on
};

std::atomic<uint64_t> sink;

// The registers are its caller's, as the library publishes them.
[[gnu::noinline]] void stand(std::promise<Standing>& where, std::future<void> go,
                             uint64_t outer_pc) {
  const auto* frame = static_cast<const uint64_t*>(__builtin_frame_address(0));
  where.set_value({static_cast<uint32_t>(syscall(SYS_gettid)),
                   {frame[1], reinterpret_cast<uint64_t>(frame + 2), frame[0]},
                   outer_pc});
  go.wait();
  ++sink;
}
[[gnu::noinline]] void stand_below(std::promise<Standing>& where, std::future<void> go) {
  stand(where, std::move(go), reinterpret_cast<uint64_t>(__builtin_return_address(0)));
  ++sink;
}

class StandingThread {
 public:
  StandingThread() {
    thread_ = std::thread([this] {
      stand_below(where_, go_.get_future());
      ++sink;
    });
    standing = where_.get_future().get();
  }
  ~StandingThread() {
    go_.set_value();
    thread_.join();
  }
  StandingThread(const StandingThread&) = delete;
  StandingThread& operator=(const StandingThread&) = delete;

  Standing standing;

 private:
  std::promise<Standing> where_;
  std::promise<void> go_;
  std::thread thread_;
};

TEST_CASE("outside_stack: the stack of a thread that stands still is whole") {
  const StandingThread thread;
  OutsideStacks stacks(pid);
  const auto walk = stacks.walk(thread.standing.tid, thread.standing.registers, 64, always);
  INFO(stacks.problem());
  REQUIRE(walk);
  CHECK(walk->complete);
  CHECK_FALSE(walk->truncated);
  REQUIRE(walk->pcs.size() >= 3);
  CHECK(walk->pcs[0] == thread.standing.registers.pc);
  CHECK(walk->pcs[1] == thread.standing.outer_pc);
}

TEST_CASE("outside_stack: as many frames as asked for") {
  const StandingThread thread;
  OutsideStacks stacks(pid);
  const auto walk = stacks.walk(thread.standing.tid, thread.standing.registers, 2, always);
  REQUIRE(walk);
  CHECK(walk->pcs.size() == 2);
  CHECK(walk->truncated);
  CHECK_FALSE(walk->complete);
}

TEST_CASE("outside_stack: a thread that moved on has none") {
  const StandingThread thread;
  OutsideStacks stacks(pid);
  CHECK_FALSE(
      stacks.walk(thread.standing.tid, thread.standing.registers, 64, [] { return false; }));
  CHECK(stacks.problem() == "it did not stand still");
}

TEST_CASE("outside_stack: registers that lead nowhere are no crash") {
  OutsideStacks stacks(pid);
  CHECK_FALSE(stacks.walk(pid, {0x1000, 0x1000, 0}, 64, always));
  CHECK(stacks.problem() == "its memory cannot be read by this user");
  const uint64_t word = 0;
  const auto walk = stacks.walk(pid, {7, reinterpret_cast<uint64_t>(&word), 7}, 64, always);
  if (walk) CHECK_FALSE(walk->complete);
}

TEST_CASE("outside_stack: a process that is not there is a problem") {
  OutsideStacks stacks(0x7ffffffe);
  CHECK_FALSE(stacks.walk(1, {1, 1, 1}, 64, always));
  CHECK_FALSE(stacks.problem().empty());
}

TEST_CASE("outside_stack: a module is known by where it lies") {
  OutsideStacks stacks(pid);
  const auto here = reinterpret_cast<uint64_t>(&stand_below);
  const auto module = stacks.module_at(here);
  REQUIRE(module);
  CHECK(module->path.ends_with("outside_stack_unit_test"));
  CHECK(module->start <= here);
  CHECK(here < module->end);
  CHECK_FALSE(module->build_id_hex.empty());
  CHECK_FALSE(stacks.module_at(16));
}

}  // namespace
}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "preload/thread_stacks.h"

#include <signal.h>
#include <ucontext.h>

#include <atomic>
#include <chrono>

#include "format/rendezvous.h"
#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using test::in_threads;
using test::ReaderView;
using test::Recording;

format::Control& control() { return header->control; }

uint32_t ask(uint32_t rendezvous = 0) {
  control().arrived.store(0);
  control().rendezvous.store(rendezvous);
  return control().stacks_request.fetch_add(1) + 1;
}

// A frame of this function is in the stack.
[[gnu::noinline]] void answer_from_here() {
  const auto* frame = static_cast<const uintptr_t*>(__builtin_frame_address(0));
  answer_stack_request({frame[1], reinterpret_cast<uintptr_t>(frame + 2), frame[0]});
}

const format::ThreadRow& own_row(const ReaderView& view) {
  return view.row<format::ThreadRow>(format::TableId::kThreads, self.row - 1);
}

uint64_t leaf_pc(const ReaderView& view, uint32_t stack) {
  return view.row<format::StackNode>(format::TableId::kStackNodes, stack).pc;
}

// A thread of a test ends before its recording does; its row stays.
void leave() {
  self.block = nullptr;
  self.row = 0;
}

TEST_CASE("thread_stacks: a thread answers a request once, with its stack") {
  const Recording recording;
  CHECK_FALSE(is_asked_for_stack());
  const uint32_t request = ask();
  CHECK(is_asked_for_stack());
  answer_from_here();
  CHECK_FALSE(is_asked_for_stack());
  const ReaderView view;
  const format::ThreadRow& row = own_row(view);
  CHECK(row.answer.load() == request);
  CHECK(row.answer_ticks.load() >= row.start_ticks);
  REQUIRE(row.answer_stack.load() != format::kNoRow);
  CHECK(leaf_pc(view, row.answer_stack.load()) != 0);
  leave();
}

TEST_CASE("thread_stacks: the next request is another one") {
  const Recording recording;
  ask();
  answer_from_here();
  const uint32_t second = ask();
  CHECK(is_asked_for_stack());
  answer_from_here();
  CHECK(own_row(ReaderView()).answer.load() == second);
  leave();
}

TEST_CASE("thread_stacks: inside mprof a thread does not answer") {
  const Recording recording;
  own_block();
  ask();
  {
    const Guard guard(Guard::kAtWork);
    answer_from_here();
  }
  CHECK(own_row(ReaderView()).answer.load() == 0);
  CHECK(is_asked_for_stack());  // so that it does later
  leave();
}

uintptr_t interrupted_pc;

void on_signal(int, siginfo_t*, void* context) {
  const greg_t* words = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  interrupted_pc = static_cast<uintptr_t>(words[REG_RIP]);
  errno = ENOTTY;
  answer_stack_request({interrupted_pc + 1, static_cast<uintptr_t>(words[REG_RSP]),
                        static_cast<uintptr_t>(words[REG_RBP])});
  if (errno != ENOTTY) interrupted_pc = 0;
}

TEST_CASE("thread_stacks: in a handler the leaf is what was interrupted, and errno is kept") {
  const Recording recording;
  own_block();
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO;
  REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
  ask();
  raise(SIGUSR1);
  const ReaderView view;
  const uint32_t stack = own_row(view).answer_stack.load();
  REQUIRE(stack != format::kNoRow);
  CHECK(leaf_pc(view, stack) == interrupted_pc + 1);
  leave();
}

TEST_CASE("thread_stacks: at a rendezvous nobody answers before all have come") {
  const Recording recording;
  constexpr uint32_t kThreads = 4;
  const uint32_t request = ask(kThreads);
  std::atomic<uint32_t> answered_early{0};
  in_threads(kThreads, [&](int number) {
    std::this_thread::sleep_for(milliseconds(number * 5));
    const bool is_last = number == kThreads - 1;
    if (is_last) {
      const ReaderView view;
      for (uint32_t i = 0; i < view.used(format::TableId::kThreads); ++i)
        if (view.row<format::ThreadRow>(format::TableId::kThreads, i).answer.load() != 0)
          ++answered_early;
    }
    answer_from_here();
  });
  CHECK(answered_early == 0);
  CHECK(control().released.load() == format::all_met(request));
  const ReaderView view;
  uint32_t answered = 0;
  for (uint32_t i = 0; i < view.used(format::TableId::kThreads); ++i)
    answered +=
        view.row<format::ThreadRow>(format::TableId::kThreads, i).answer.load() == request ? 1 : 0;
  CHECK(answered == kThreads);
}

TEST_CASE("thread_stacks: who waits for one that never comes gives up for all") {
  const Recording recording;
  const uint32_t request = ask(3);
  const auto start = steady_clock::now();
  in_threads(2, [](int) { answer_from_here(); });
  const auto took = steady_clock::now() - start;
  CHECK(took >= milliseconds(45));
  CHECK(took < milliseconds(5000));
  CHECK(control().released.load() == format::gave_up(request));
}

TEST_CASE("thread_stacks: who comes late does not wait") {
  const Recording recording;
  const uint32_t request = ask(3);
  control().released.store(format::gave_up(request));
  const auto start = steady_clock::now();
  answer_from_here();
  CHECK(steady_clock::now() - start < milliseconds(45));
  CHECK(own_row(ReaderView()).answer.load() == request);
  leave();
}

}  // namespace
}  // namespace mprof::preload

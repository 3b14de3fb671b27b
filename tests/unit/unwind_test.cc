// SPDX-License-Identifier: Apache-2.0
// libunwind is the oracle: every walk here is compared frame by frame with unw_step(), and each
// is done twice, from scratch and with the thread's previous walk.
#include "preload/unwind.h"

#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define UNW_LOCAL_ONLY
#include <libunwind.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "preload/rule_cache.h"
#include "preload/unwind_object.h"
#include "tests/unit/catch.h"

#if defined(__GNUC__) && !defined(__clang__)
// The interesting code has no frame pointers, also in a debug build.
#pragma GCC optimize("O2,omit-frame-pointer")
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MPROF_TEST_IS_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MPROF_TEST_IS_SANITIZED
#endif
#endif

using namespace mprof::preload;

namespace {

struct Frame {
  uintptr_t pc;
  uintptr_t sp;
  bool operator==(const Frame&) const = default;
};

StackBounds bounds_of_this_thread() {
  pthread_attr_t attributes;
  void* low = nullptr;
  size_t size = 0;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &low, &size);
  pthread_attr_destroy(&attributes);
  return {reinterpret_cast<uintptr_t>(low), reinterpret_cast<uintptr_t>(low) + size};
}

// What one thread's captures found. Filled in places where nothing may be asserted: in signal
// handlers, below qsort, on fibers.
struct Recorder {
  StackBounds bounds = bounds_of_this_thread();
  UnwindMode mode = UnwindMode::kAuto;
  Walk walks[2] = {};
  Walk scratch = {};
  int captures = 0;
  int wrong_frames = 0;   // against libunwind
  int wrong_repeats = 0;  // with the previous walk, against from scratch
  int wrong_shares = 0;   // shared_with_previous, against a plain comparison
  int signal_frames = 0;
  size_t deepest = 0;
  WalkEnd end = WalkEnd::kNone;
  std::vector<Frame> ours, theirs;  // the last that differed, or the last

  void capture();
  void compare(const Walk& walk, const Walk& previous);
};

Recorder* recorder = nullptr;

std::vector<Frame> frames_of(const Walk& walk) {
  std::vector<Frame> frames;
  for (uint32_t i = 0; i < walk.count; ++i)
    frames.push_back({walk.frames[i].pc, walk.frames[i].sp});
  return frames;
}

bool same_walk(const Walk& a, const Walk& b) {
  if (a.count != b.count || a.end != b.end) return false;
  for (uint32_t i = 0; i < a.count; ++i) {
    const WalkedFrame& x = a.frames[i];
    const WalkedFrame& y = b.frames[i];
    if (x.pc != y.pc || x.sp != y.sp || x.fp != y.fp) return false;
  }
  return true;
}

uint32_t shared_frames(const Walk& a, const Walk& b) {
  if (a.end != b.end || a.epoch != b.epoch) return 0;
  uint32_t shared = 0;
  while (shared < a.count && shared < b.count &&
         a.frames[a.count - 1 - shared].pc == b.frames[b.count - 1 - shared].pc) {
    ++shared;
  }
  return shared;
}

void Recorder::compare(const Walk& walk, const Walk& previous) {
  ++captures;
  end = walk.end;
  deepest = std::max<size_t>(deepest, walk.count);
  wrong_repeats += same_walk(walk, scratch) ? 0 : 1;
  if (previous.end != WalkEnd::kNone) {
    wrong_shares += walk.shared_with_previous == shared_frames(walk, previous) ? 0 : 1;
  }
}

// Walks from its caller; then libunwind does, from the same place.
[[gnu::noinline]] void Recorder::capture() {
  const auto* frame = static_cast<const uintptr_t*>(__builtin_frame_address(0));
  const Registers start = {frame[1], reinterpret_cast<uintptr_t>(frame + 2), frame[0]};
  static constexpr Walk kEmpty = {};
  Walk& walk = walks[captures % 2];
  const Walk& previous = walks[(captures + 1) % 2];
  walk_stack(start, bounds, mode, kMaxDepth, kEmpty, scratch);
  walk_stack(start, bounds, mode, kMaxDepth, previous, walk);
  compare(walk, previous);

  unw_context_t context;
  unw_cursor_t cursor;
  unw_getcontext(&context);
  unw_init_local(&cursor, &context);
  std::vector<Frame> expected;
  for (;;) {
    if (unw_step(&cursor) <= 0 || expected.size() == kMaxDepth) break;
    const bool was_signal = unw_is_signal_frame(&cursor) > 0;  // this frame was interrupted
    unw_word_t pc = 0;
    unw_word_t sp = 0;
    unw_get_reg(&cursor, UNW_REG_IP, &pc);
    unw_get_reg(&cursor, UNW_REG_SP, &sp);
    if (pc == 0) break;
    signal_frames += was_signal ? 1 : 0;
    expected.push_back({pc + (was_signal ? 1 : 0), sp});
  }
  const std::vector<Frame> found = frames_of(walk);
  if (found != expected) ++wrong_frames;
  if (found != expected || wrong_frames == 0) {
    ours = found;
    theirs = expected;
  }
}

// The compiler must not turn the calls of the tests into jumps, nor drop them.
[[gnu::noinline]] void capture_here() {
  recorder->capture();
  asm volatile("" ::: "memory");
}

void check(const Recorder& used, int captures) {
  CHECK(used.captures == captures);
  CHECK(used.wrong_frames == 0);
  if (used.wrong_frames != 0) {
    for (size_t i = 0; i < std::max(used.ours.size(), used.theirs.size()); ++i) {
      const Frame a = i < used.ours.size() ? used.ours[i] : Frame{};
      const Frame b = i < used.theirs.size() ? used.theirs[i] : Frame{};
      UNSCOPED_INFO(i << std::hex << ": " << a.pc << " " << a.sp << " | " << b.pc << " " << b.sp);
    }
    CHECK(used.ours == used.theirs);
  }
  CHECK(used.wrong_repeats == 0);
  CHECK(used.wrong_shares == 0);
}

struct Recording {
  std::unique_ptr<Recorder> kept = std::make_unique<Recorder>();
  Recording() {
    REQUIRE(rule_cache_init());
    recorder = kept.get();
  }
  ~Recording() { recorder = nullptr; }
  Recorder* operator->() { return kept.get(); }
  Recorder& operator*() { return *kept; }
};

template <int kDepth, typename T>
[[gnu::noinline]] T deep(T value) {
  if constexpr (kDepth == 0) {
    capture_here();
    return value;
  } else {
    T below = deep<kDepth - 1, T>(value);
    asm volatile("" : "+r"(below));
    return below + 1;
  }
}

[[gnu::noinline]] int recurse(int depth, const std::function<void()>& leaf) {
  if (depth == 0) {
    leaf();
    return 0;
  }
  volatile int below = recurse(depth - 1, leaf);
  return below + 1;
}

[[gnu::noinline]] size_t with_alloca(size_t bytes) {
  auto* block = static_cast<volatile char*>(alloca(bytes));
  block[bytes - 1] = 1;
  capture_here();
  return static_cast<size_t>(block[bytes - 1]);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wvla"
[[gnu::noinline]] int with_vla(int count) {
  int values[count];  // NOLINT: a variable-length array is the point
  std::fill(values, values + count, 1);
  asm volatile("" ::"r"(values) : "memory");
  capture_here();
  return values[count - 1];
}
#pragma GCC diagnostic pop

struct alignas(64) Aligned {
  char bytes[64];
};

[[gnu::noinline]] int with_realigned_frame(int argument) {
  Aligned local;
  std::memset(&local, argument, sizeof(local));
  asm volatile("" ::"r"(&local) : "memory");
  capture_here();
  return local.bytes[3];
}

// gcc needs a second argument pointer (r10) when such a frame also has variable size.
[[gnu::noinline]] int with_realigned_alloca(int count, int a, int b, int c, int d, int e, int f,
                                            int on_stack) {
  Aligned local;
  auto* block = static_cast<volatile char*>(alloca(static_cast<size_t>(count)));
  block[0] = static_cast<char>(a + b + c + d + e + f + on_stack);
  asm volatile("" ::"r"(&local) : "memory");
  capture_here();
  return block[0];
}

int compare_ints(const void* a, const void* b) {
  capture_here();
  return *static_cast<const int*>(a) - *static_cast<const int*>(b);
}

[[gnu::noinline]] void throw_at(int depth) {
  if (depth == 0) throw std::runtime_error("thrown to be caught");
  throw_at(depth - 1);
  asm volatile("" ::: "memory");
}

struct CapturesWhenDestroyed {
  ~CapturesWhenDestroyed() { capture_here(); }
};

void on_signal(int) { capture_here(); }

void set_handler(int signal, int flags) {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = flags;
  sigaction(signal, &action, nullptr);
}

struct AlternateStack {
  std::vector<char> memory = std::vector<char>(256 * 1024);
  AlternateStack() {
    stack_t stack = {};
    stack.ss_sp = memory.data();
    stack.ss_size = memory.size();
    sigaltstack(&stack, nullptr);
  }
  ~AlternateStack() {
    stack_t off = {};
    off.ss_flags = SS_DISABLE;
    sigaltstack(&off, nullptr);
  }
};

}  // namespace

TEST_CASE("unwind: deep templates, lambdas and recursion without frame pointers") {
  Recording used;
  CHECK(deep<40, long>(1) == 41);
  CHECK(deep<17, short>(1) == 18);
  const auto lambda = [](int depth) { return recurse(depth, [] { capture_here(); }); };
  CHECK(lambda(100) == 100);
  check(*used, 3);
  CHECK(used->end == WalkEnd::kComplete);
  CHECK(used->deepest > 100);
}

TEST_CASE("unwind: frames of variable size and realigned frames") {
  Recording used;
  CHECK(with_alloca(100) == 1);
  CHECK(with_alloca(5000) == 1);
  CHECK(with_vla(77) == 1);
  CHECK(with_realigned_frame(5) == 5);
  CHECK(with_realigned_alloca(300, 1, 2, 3, 4, 5, 6, 7) == 28);
  for (int size = 1; size < 200; ++size) with_realigned_alloca(size, 0, 0, 0, 0, 0, 0, size);
  check(*used, 204);
  CHECK(used->end == WalkEnd::kComplete);
}

TEST_CASE("unwind: through callbacks of libc and libstdc++") {
  Recording used;
  std::vector<int> values = {5, 3, 9, 1, 7};
  qsort(values.data(), values.size(), sizeof(int), compare_ints);
  const int key = 7;
  CHECK(bsearch(&key, values.data(), values.size(), sizeof(int), compare_ints) != nullptr);
  std::vector<int> others = {4, 2, 8};
  std::sort(others.begin(), others.end(), [](int a, int b) { return capture_here(), a < b; });
  std::function<void(int)> function = [&](int depth) {
    if (depth == 0) return capture_here();
    function(depth - 1);
    asm volatile("" ::: "memory");
  };
  function(10);
  CHECK(used->captures > 8);
  check(*used, used->captures);
}

TEST_CASE("unwind: while and after exceptions are thrown and caught") {
  Recording used;
  for (int i = 0; i < 3; ++i) {
    try {
      const CapturesWhenDestroyed guard;  // in the unwinder's second phase: a landing pad
      throw_at(i * 5);
    } catch (const std::exception&) {
      capture_here();
    }
    capture_here();
  }
  check(*used, 9);
}

TEST_CASE("unwind: from a signal handler on the normal stack") {
  Recording used;
  set_handler(SIGUSR1, 0);
  recurse(20, [] { raise(SIGUSR1); });
  recurse(20, [] { raise(SIGUSR1); });
  check(*used, 2);
  CHECK(used->signal_frames == 2);
  CHECK(used->end == WalkEnd::kComplete);
}

TEST_CASE("unwind: from a signal handler on an alternate stack") {
  Recording used;
  const AlternateStack alternate;
  set_handler(SIGUSR2, SA_ONSTACK);
  for (int i = 0; i < 10; ++i) recurse(5 + i, [] { raise(SIGUSR2); });
  check(*used, 10);
  CHECK(used->signal_frames == 10);
  CHECK(used->end == WalkEnd::kComplete);
}

TEST_CASE("unwind: a timer interrupts code at any instruction") {
  // The asynchronous case: prologues, epilogues, PLT stubs. libunwind guesses at some of these
  // places, so what is asked is that nearly all agree, and that all repeat.
  Recording used;
  set_handler(SIGALRM, SA_RESTART);
  const itimerval often = {{0, 200}, {0, 200}};
  setitimer(ITIMER_REAL, &often, nullptr);
  std::vector<int> values(1000);
  std::mt19937 random(1);
  while (used->captures < 500) {
    std::generate(values.begin(), values.end(), random);
    qsort(values.data(), values.size(), sizeof(int), [](const void* a, const void* b) {
      const int x = *static_cast<const int*>(a);
      const int y = *static_cast<const int*>(b);
      return x < y ? -1 : x > y ? 1 : 0;
    });
  }
  const itimerval off = {};
  setitimer(ITIMER_REAL, &off, nullptr);
  signal(SIGALRM, SIG_IGN);
#ifndef __SANITIZE_THREAD__  // which runs handlers later, from frames of its own
  CHECK(used->signal_frames >= used->captures);
#endif
  CHECK(used->wrong_frames <= used->captures / 50);
  CHECK(used->wrong_repeats == 0);
  CHECK(used->wrong_shares == 0);
}

namespace {

ucontext_t main_context;
ucontext_t fiber_context;

void fiber_main() {
  recurse(12, [] { capture_here(); });
  swapcontext(&fiber_context, &main_context);
  recurse(14, [] { capture_here(); });
}

}  // namespace

TEST_CASE("unwind: on a fiber, whose stack is in no known bounds") {
  Recording used;
  std::vector<char> stack(128 * 1024);
  getcontext(&fiber_context);
  fiber_context.uc_stack.ss_sp = stack.data();
  fiber_context.uc_stack.ss_size = stack.size();
  fiber_context.uc_link = &main_context;
  makecontext(&fiber_context, fiber_main, 0);
  errno = 4711;
  swapcontext(&main_context, &fiber_context);
  capture_here();
  swapcontext(&main_context, &fiber_context);
  CHECK(errno == 4711);
  CHECK(used->captures == 3);
  CHECK(used->wrong_repeats == 0);
  CHECK(used->wrong_shares == 0);
  CHECK(used->wrong_frames == 0);
}

namespace {

// The walk below runs on this stack, painted before; `used` is what it left unpainted.
struct PaintedStack {
  static constexpr unsigned char kPaint = 0xa5;
  std::vector<unsigned char> bytes = std::vector<unsigned char>(256 * 1024, kPaint);
  uintptr_t walk_began_at = 0;
  [[nodiscard]] size_t used() const {
    const auto lowest =
        std::find_if(bytes.begin(), bytes.end(), [](auto b) { return b != kPaint; });
    return walk_began_at - reinterpret_cast<uintptr_t>(bytes.data()) -
           static_cast<size_t>(lowest - bytes.begin());
  }
};

PaintedStack* painted = nullptr;

void walk_on_painted_stack() {
  const auto* frame = static_cast<const uintptr_t*>(__builtin_frame_address(0));
  const Registers start = {reinterpret_cast<uintptr_t>(&qsort) + 20,
                           reinterpret_cast<uintptr_t>(frame), frame[0]};
  static constexpr Walk kEmpty = {};
  rule_cache_flush();
  painted->walk_began_at = reinterpret_cast<uintptr_t>(frame);
  walk_stack(start, {}, UnwindMode::kAuto, kMaxDepth, kEmpty, recorder->scratch);
}

}  // namespace

TEST_CASE("unwind: a cold walk needs little stack") {
#ifdef MPROF_TEST_IS_SANITIZED
  constexpr size_t kLimitBytes = 32 * 1024;  // red zones
#else
  constexpr size_t kLimitBytes = 4 * 1024;  // 1.2 KiB when optimized
#endif
  Recording used;
  PaintedStack stack;
  painted = &stack;
  walk_on_painted_stack();  // binds the libc functions: the lazy binding needs 3 KiB itself
  getcontext(&fiber_context);
  fiber_context.uc_stack.ss_sp = stack.bytes.data();
  fiber_context.uc_stack.ss_size = stack.bytes.size();
  fiber_context.uc_link = &main_context;
  makecontext(&fiber_context, walk_on_painted_stack, 0);
  swapcontext(&main_context, &fiber_context);
  CHECK(used->scratch.count >= 1);
  INFO("used " << stack.used());
  CHECK(stack.used() > 100);
  CHECK(stack.used() < kLimitBytes);
}

TEST_CASE("unwind: a new thread is complete at its start") {
  std::unique_ptr<Recorder> kept;
  std::thread([&] {
    Recording used;
    recurse(7, [] { capture_here(); });
    deep<5, int>(0);
    kept = std::move(used.kept);
  }).join();
  check(*kept, 2);
  CHECK(kept->end == WalkEnd::kComplete);
}

TEST_CASE("unwind: without bounds every read goes through the kernel") {
  Recording used;
  used->bounds = {};
  recurse(60, [] { capture_here(); });
  recurse(50, [] { capture_here(); });
  check(*used, 2);
  CHECK(used->end == WalkEnd::kComplete);
}

// Hand-made call frame information, in functions that do what it says. Each calls the function
// in rdi. `cfi_by_expression` has the CFA at rsp + 24 as `breg7 rsp+16; lit8; plus`, and rbp
// saved at CFA-24 as an expression; `cfi_odd_rbp` saves rbp at CFA-24 behind a pushed r10;
// `cfi_nested` remembers and restores its state. `no_cfi` has a frame pointer and no CFI.
asm(R"(
.text
.type cfi_by_expression, @function
cfi_by_expression:
.cfi_startproc
  pushq $0
  .cfi_escape 0x0f, 4, 0x77, 8, 0x38, 0x22
  pushq %rbp
  .cfi_escape 0x0f, 4, 0x77, 16, 0x38, 0x22
  .cfi_escape 0x10, 6, 3, 0x09, 0xe8, 0x22
  movq $0x1234, %rbp
  subq $8, %rsp
  .cfi_escape 0x0f, 4, 0x77, 24, 0x38, 0x22
  call *%rdi
  addq $8, %rsp
  popq %rbp
  popq %rdx
  .cfi_def_cfa rsp, 8
  .cfi_same_value rbp
  ret
.cfi_endproc
.size cfi_by_expression, .-cfi_by_expression

.type cfi_nested, @function
cfi_nested:
.cfi_startproc
  pushq %rbp
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset rbp, 0
  testq %rdi, %rdi
  jnz 1f
  .cfi_remember_state
  popq %rbp
  .cfi_adjust_cfa_offset -8
  .cfi_restore rbp
  ret
1:
  .cfi_restore_state
  xorl %ebp, %ebp
  call *%rdi
  popq %rbp
  .cfi_adjust_cfa_offset -8
  .cfi_restore rbp
  ret
.cfi_endproc
.size cfi_nested, .-cfi_nested

.type cfi_in_r10, @function
cfi_in_r10:
.cfi_startproc
  leaq 8(%rsp), %r10
  .cfi_def_cfa r10, 0
  subq $8, %rsp
  call *%rdi
  addq $8, %rsp
  .cfi_def_cfa rsp, 8
  ret
.cfi_endproc
.size cfi_in_r10, .-cfi_in_r10

.type no_cfi, @function
no_cfi:
  pushq %rbp
  movq %rsp, %rbp
  call *%rdi
  popq %rbp
  ret
.size no_cfi, .-no_cfi

.type no_cfi_no_fp, @function
no_cfi_no_fp:
  pushq %rbp
  movq $0x77, %rbp
  call *%rdi
  popq %rbp
  ret
.size no_cfi_no_fp, .-no_cfi_no_fp
)");
extern "C" {
using CallsItsArgument = void(void (*)());
CallsItsArgument cfi_by_expression, cfi_nested, cfi_in_r10, no_cfi, no_cfi_no_fp;
}

TEST_CASE("unwind: hand-made call frame information with expressions and restored state") {
  Recording used;
  cfi_by_expression(capture_here);
  cfi_nested(capture_here);
  cfi_by_expression([] { cfi_nested([] { cfi_by_expression(capture_here); }); });
  check(*used, 3);
  CHECK(used->end == WalkEnd::kComplete);
}

TEST_CASE("unwind: a rule with an unknown register ends the walk and is not guessed at") {
  Recording used;
  cfi_in_r10(capture_here);
  CHECK(used->end == WalkEnd::kUnsupportedRule);
  CHECK(used->walks[0].count == 2);
  CHECK(used->wrong_repeats == 0);
}

TEST_CASE("unwind: code without information is passed by its frame pointer") {
  Recording used;
  no_cfi(capture_here);
  CHECK(used->end == WalkEnd::kComplete);
  const uint32_t frames = used->walks[0].count;
  capture_here();
  CHECK(used->walks[1].count == frames - 1);
  CHECK(used->wrong_repeats == 0);
}

TEST_CASE("unwind: code without information and without frame pointer ends the walk") {
  Recording used;
  no_cfi_no_fp(capture_here);
  CHECK(used->end == WalkEnd::kNoUnwindInfo);
  CHECK(used->walks[0].count == 2);
  used->mode = UnwindMode::kDwarf;
  no_cfi(capture_here);
  CHECK(used->end == WalkEnd::kNoUnwindInfo);
  CHECK(used->wrong_repeats == 0);
}

namespace {

// A made-up stack for frame pointers: each frame is {caller's fp, return address}.
struct FakeStack {
  alignas(16) uintptr_t words[64] = {};
  uintptr_t at(size_t i) const { return reinterpret_cast<uintptr_t>(words + i); }
  void frame(size_t i, uintptr_t caller_fp, uintptr_t pc) {
    words[i] = caller_fp;
    words[i + 1] = pc;
  }
};

// The pcs of nobody's code: low addresses, where nothing is mapped.
constexpr uintptr_t kJitCode = 0x10000;

Walk walk_fake(const FakeStack& stack, size_t fp_index, UnwindMode mode,
               uint32_t depth = kMaxDepth) {
  Walk walk = {};
  const Walk empty = {};
  walk_stack({kJitCode, stack.at(0), stack.at(fp_index)}, bounds_of_this_thread(), mode, depth,
             empty, walk);
  return walk;
}

}  // namespace

TEST_CASE("unwind: frame pointers of a made-up stack") {
  FakeStack stack;
  stack.frame(2, stack.at(6), kJitCode + 1);
  stack.frame(6, stack.at(20), kJitCode + 2);
  stack.frame(20, 0, kJitCode + 3);
  const UnwindMode mode = GENERATE(UnwindMode::kFramePointer, UnwindMode::kAuto);
  const Walk walk = walk_fake(stack, 2, mode);
  if (mode == UnwindMode::kFramePointer) {
    CHECK(walk.end == WalkEnd::kComplete);
    REQUIRE(walk.count == 4);
    CHECK(walk.frames[3].pc == kJitCode + 3);
  } else {
    // Not a return address of any object, and the chain does not go on: not believed.
    CHECK(walk.end == WalkEnd::kNoUnwindInfo);
    REQUIRE(walk.count == 3);
  }
  CHECK(walk.frames[1].pc == kJitCode + 1);
  CHECK(walk.frames[1].sp == stack.at(4));
  CHECK(walk.frames[1].fp == stack.at(6));
  CHECK(walk.frames[2].sp == stack.at(8));
}

TEST_CASE("unwind: a return address of zero is the end") {
  FakeStack stack;
  stack.frame(2, stack.at(6), kJitCode + 1);
  stack.frame(6, 0, 0);
  const Walk walk = walk_fake(stack, 2, UnwindMode::kAuto);
  CHECK(walk.end == WalkEnd::kComplete);
  CHECK(walk.count == 2);
}

TEST_CASE("unwind: a walk stops at the depth that was asked for and says so") {
  FakeStack stack;
  for (size_t i = 2; i < 60; i += 2) stack.frame(i, stack.at(i + 2), kJitCode + i);
  for (const uint32_t depth : {1u, 2u, 7u}) {
    const Walk walk = walk_fake(stack, 2, UnwindMode::kFramePointer, depth);
    CHECK(walk.end == WalkEnd::kTruncated);
    CHECK(walk.count == depth);
  }
}

TEST_CASE("unwind: frame pointers that do not lead up end the walk") {
  FakeStack stack;
  stack.frame(6, stack.at(6), kJitCode + 1);  // a loop
  Walk walk = walk_fake(stack, 6, UnwindMode::kFramePointer);
  CHECK(walk.end == WalkEnd::kBadFramePointer);
  CHECK(walk.count <= 2);
  stack.frame(6, stack.at(2), kJitCode + 1);  // down
  walk = walk_fake(stack, 6, UnwindMode::kFramePointer);
  CHECK(walk.end == WalkEnd::kBadFramePointer);
  stack.frame(6, stack.at(9) + 1, kJitCode + 1);  // not aligned
  walk = walk_fake(stack, 6, UnwindMode::kFramePointer);
  CHECK(walk.end == WalkEnd::kBadFramePointer);
}

TEST_CASE("unwind: garbage registers end the walk without a fault") {
  std::mt19937_64 random(7);
  const StackBounds bounds = bounds_of_this_thread();
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const auto code = reinterpret_cast<uintptr_t>(&qsort);
  auto walk = std::make_unique<Walk>();
  const auto any = [&]() -> uintptr_t {
    switch (random() % 7) {
      case 0: return random();
      case 1: return here + random() % 4096;
      case 2: return bounds.high - random() % 64;
      case 3: return code + random() % 100000;
      case 4: return ~uintptr_t{0} - random() % 64;
      case 5: return random() % 64;
      default: return (here + random() % 65536) & ~uintptr_t{7};
    }
  };
  const Walk empty = {};
  errno = 99;
  for (int i = 0; i < 20000; ++i) {
    const auto mode = static_cast<UnwindMode>(random() % 3);
    const StackBounds known = random() % 4 != 0 ? bounds : StackBounds{any(), 0};
    const Walk& previous = random() % 2 != 0 ? *walk : empty;
    auto out = std::make_unique<Walk>();
    walk_stack({any(), any(), any()}, known, mode, kMaxDepth, previous, *out);
    REQUIRE(out->count <= kMaxDepth);
    REQUIRE(out->count >= 1);
    REQUIRE(out->end != WalkEnd::kNone);
    walk = std::move(out);
  }
  CHECK(errno == 99);
}

TEST_CASE("unwind: garbage words on the stack end the walk without a fault") {
  std::mt19937_64 random(11);
  FakeStack stack;
  const auto code = reinterpret_cast<uintptr_t>(&qsort);
  for (int i = 0; i < 20000; ++i) {
    for (uintptr_t& word : stack.words) {
      switch (random() % 4) {
        case 0: word = code + random() % 1000000; break;
        case 1: word = stack.at(random() % 64); break;
        case 2: word = reinterpret_cast<uintptr_t>(&walk_fake) + random() % 10000; break;
        default: word = random(); break;
      }
    }
    const Walk walk = walk_fake(stack, random() % 60, static_cast<UnwindMode>(random() % 3));
    REQUIRE(walk.end != WalkEnd::kNone);
  }
}

namespace {

std::mt19937 tree_random(3);
int tree_captures = 0;

// A random call tree: frames of several shapes, captured at many leaves.
[[gnu::noinline]] int random_tree(int depth);
[[gnu::noinline]] int random_tree_big(int depth) {
  volatile char block[500];
  block[depth] = 1;
  return random_tree(depth) + block[depth];
}
[[gnu::noinline]] int random_tree_alloca(int depth) {
  auto* block = static_cast<volatile char*>(alloca(tree_random() % 300 + 1));
  block[0] = 1;
  return random_tree(depth) + block[0];
}
[[gnu::noinline]] int random_tree_aligned(int depth) {
  Aligned local;
  local.bytes[0] = 1;
  asm volatile("" ::"r"(&local) : "memory");
  return random_tree(depth) + local.bytes[0];
}

void walk_tree_leaf() {
  const auto* frame = static_cast<const uintptr_t*>(__builtin_frame_address(0));
  const Registers start = {frame[1], reinterpret_cast<uintptr_t>(frame + 2), frame[0]};
  Recorder& used = *recorder;
  Walk& walk = used.walks[used.captures % 2];
  const Walk& previous = used.walks[(used.captures + 1) % 2];
  static constexpr Walk kEmpty = {};
  const uint32_t depth = tree_random() % 50 == 0 ? 10 : kMaxDepth;
  walk_stack(start, used.bounds, used.mode, depth, kEmpty, used.scratch);
  walk_stack(start, used.bounds, used.mode, depth, previous, walk);
  used.compare(walk, previous);
  ++tree_captures;
}

int random_tree(int depth) {
  int sum = 0;
  for (unsigned calls = 1 + tree_random() % 3; calls > 0; --calls) {
    if (depth == 0) {
      walk_tree_leaf();
      continue;
    }
    switch (tree_random() % 4) {
      case 0: sum += random_tree(depth - 1); break;
      case 1: sum += random_tree_big(depth - 1); break;
      case 2: sum += random_tree_alloca(depth - 1); break;
      default: sum += random_tree_aligned(depth - 1); break;
    }
  }
  asm volatile("" : "+r"(sum));
  return sum;
}

}  // namespace

TEST_CASE("unwind: with the previous walk or without, 100000 times the same result") {
  Recording used;
  used->mode = GENERATE(UnwindMode::kAuto, UnwindMode::kDwarf, UnwindMode::kFramePointer);
  const int wanted = used->mode == UnwindMode::kAuto ? 100000 : 2000;
  tree_captures = 0;
  while (tree_captures < wanted) random_tree(static_cast<int>(4 + tree_random() % 6));
  CHECK(used->captures >= wanted);
  CHECK(used->wrong_repeats == 0);
  CHECK(used->wrong_shares == 0);
}

TEST_CASE("unwind: a flush of the rules makes the previous walk's records void") {
  Recording used;
  recurse(10, [] { capture_here(); });
  rule_cache_flush();
  recurse(11, [] { capture_here(); });
  CHECK(used->walks[0].epoch != used->walks[1].epoch);
  check(*used, 2);
}

TEST_CASE("unwind: many threads walk while rules are flushed") {
  REQUIRE(rule_cache_init());
  std::atomic<int> wrong = 0;
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      auto used = std::make_unique<Recorder>();
      for (int round = 0; round < 2000; ++round) {
        recurse(round % 40, [&] {
          const auto* frame = static_cast<const uintptr_t*>(__builtin_frame_address(0));
          walk_stack({frame[1], reinterpret_cast<uintptr_t>(frame + 2), frame[0]}, used->bounds,
                     UnwindMode::kAuto, kMaxDepth, used->walks[(round + 1) % 2],
                     used->walks[round % 2]);
        });
        if (used->walks[round % 2].end != WalkEnd::kComplete) ++wrong;
      }
    });
  }
  std::thread flusher([&] {
    while (!stop) rule_cache_flush();
  });
  for (std::thread& thread : threads) thread.join();
  stop = true;
  flusher.join();
  CHECK(wrong == 0);
}

namespace {

constexpr uintptr_t kSomePc = 0x7f1234567890;
constexpr UnwindRule kSomeRule = {RuleKind::kCfaFromSp, FpPlace::kSame, 64, 0};

}  // namespace

TEST_CASE("rule cache: a rule that was computed before a flush is not found after it") {
  REQUIRE(rule_cache_init());
  const RuleLookup before;
  before.insert(kSomePc, kSomeRule);
  CHECK(before.find(kSomePc) == inline_token(kSomeRule));
  CHECK(before.find(kSomePc + 1) == 0);
  rule_cache_flush();
  const RuleLookup after;
  CHECK(after.epoch() != before.epoch());
  CHECK(after.find(kSomePc) == 0);
  before.insert(kSomePc, kSomeRule);  // late
  CHECK(after.find(kSomePc) == 0);
  after.insert(kSomePc, kSomeRule);
  CHECK(after.find(kSomePc) == inline_token(kSomeRule));
}

TEST_CASE("rule cache: an epoch's number that comes round again finds nothing old") {
  REQUIRE(rule_cache_init());
  RuleLookup().insert(kSomePc, kSomeRule);
  int stale = 0;
  for (int i = 0; i < 0x10000; ++i) {
    rule_cache_flush();
    stale += RuleLookup().find(kSomePc) != 0 ? 1 : 0;
  }
  CHECK(stale == 0);
}

TEST_CASE("rule cache: two pcs of one set both stay, a third takes the older one's place") {
  REQUIRE(rule_cache_init());
  const RuleLookup rules;
  constexpr uintptr_t kDistance = kRuleSets;
  rules.insert(kSomePc, kSomeRule);
  rules.insert(kSomePc + kDistance, kSomeRule);
  CHECK(rules.find(kSomePc) != 0);
  CHECK(rules.find(kSomePc + kDistance) != 0);
  rules.insert(kSomePc + 2 * kDistance, kSomeRule);
  CHECK(rules.find(kSomePc) == 0);
  CHECK(rules.find(kSomePc + kDistance) != 0);
  CHECK(rules.find(kSomePc + 2 * kDistance) != 0);
}

TEST_CASE("rule cache: addresses of more than 47 bits are not cached") {
  REQUIRE(rule_cache_init());
  const RuleLookup rules;
  constexpr uintptr_t kHigh = uintptr_t{1} << 47;
  rules.insert(kSomePc, kSomeRule);
  rules.insert(kSomePc + 2 * kHigh, kSomeRule);
  CHECK(rules.find(kSomePc) != 0);
  CHECK(rules.find(kSomePc + kHigh) == 0);
  CHECK(rules.find(kSomePc + 2 * kHigh) == 0);
}

TEST_CASE("rule cache: rules survive both packings") {
  REQUIRE(rule_cache_init());
  const RuleLookup rules;
  std::mt19937 random(5);
  int wide = 0;
  for (uintptr_t i = 0; i < 5000; ++i) {
    UnwindRule rule;
    rule.kind = static_cast<RuleKind>(1 + random() % 7);
    rule.fp_place = static_cast<FpPlace>(random() % 4);
    rule.cfa_offset = static_cast<int32_t>(random() % 64) * 1024 - 20000;
    rule.fp_offset = static_cast<int32_t>(random() % 20) * 8 - 100;
    const uintptr_t pc = 0x550000000000 + i;
    rules.insert(pc, rule);
    const RuleToken token = rules.find(pc);
    if (token == 0) continue;  // the wide rules are full, which is allowed
    if (is_inline(token)) {
      if (rule.fp_place == FpPlace::kSame) rule.fp_offset = 0;
      CHECK(pack_rule(rule_of_token(token)) == pack_rule(rule));
    } else {
      ++wide;
      CHECK(pack_rule(rule_cache_wide_rule(token)) == pack_rule(rule));
    }
  }
  CHECK(wide > 1000);
  const UnwindRule too_large = {RuleKind::kCfaFromSp, FpPlace::kSame, 1 << 30, 0};
  CHECK(pack_rule(too_large) == 0);
}

TEST_CASE("rule cache: what compilers emit for most functions is an inline rule") {
  for (int32_t offset = 8; offset < 16384; offset += 8) {
    CHECK(is_inline(inline_token({RuleKind::kCfaFromSp, FpPlace::kSame, offset, 0})));
    CHECK(is_inline(inline_token({RuleKind::kCfaFromSp, FpPlace::kAtCfa, offset, -48})));
  }
  CHECK(is_inline(inline_token({RuleKind::kCfaFromFp, FpPlace::kAtCfa, 16, -16})));
  CHECK(inline_token({RuleKind::kCfaFromSp, FpPlace::kSame, 16384, 0}) == 0);
  CHECK(inline_token({RuleKind::kCfaFromSp, FpPlace::kSame, 12, 0}) == 0);
  CHECK(inline_token({RuleKind::kCfaFromSp, FpPlace::kAtCfa, 16, -8}) == 0);
}

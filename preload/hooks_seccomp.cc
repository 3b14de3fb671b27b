// SPDX-License-Identifier: Apache-2.0
// prctl() and syscall(): how a program sets up seccomp.
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include "preload/clock.h"
#include "preload/low.h"
#include "preload/real_locks.h"
#include "preload/seccomp.h"

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace

namespace {

using Mode = SeccompRequest::Mode;

template <class Call>
auto request(Mode mode, long filter, Call&& call) {
  const SeccompRequest request(mode, reinterpret_cast<const void*>(filter));
  const auto result = call();
  if (result < 0) request.refused();
  return result;
}

Mode mode_of_prctl(long option, long mode) {
  if (option != PR_SET_SECCOMP) return Mode::kNone;
  if (mode == SECCOMP_MODE_STRICT) return Mode::kStrict;
  return mode == SECCOMP_MODE_FILTER ? Mode::kFilter : Mode::kNone;
}

Mode mode_of_seccomp(long operation) {
  if (operation == SECCOMP_SET_MODE_STRICT) return Mode::kStrict;
  return operation == SECCOMP_SET_MODE_FILTER ? Mode::kFilter : Mode::kNone;
}

}  // namespace

extern "C" {

// Without the cycle counter there is no time: clock_gettime() reads it, too.
// The arguments beyond those that an option has are whatever is there, and go on as they are.
MPROF_EXPORT int prctl(int option, long a, long b, long c, long d) noexcept {
  if (option == PR_SET_TSC && a == PR_TSC_SIGSEGV) stop_clocks();
  return request(mode_of_prctl(option, a), b, [=] { return real_locks.prctl(option, a, b, c, d); });
}

// Reached from syscall() below, with its arguments where they are.
[[gnu::visibility("hidden")]] long mprof_seccomp(long number, long a, long b, long c, long d,
                                                 long e, long f) {
  const bool is_prctl = number == SYS_prctl;
  const Mode mode = is_prctl ? mode_of_prctl(static_cast<int>(a), b) : mode_of_seccomp(a);
  return request(mode, c, [=] { return real_locks.syscall(number, a, b, c, d, e, f); });
}

// Any other call goes on without a trace: some of them return twice, or on another stack.
static_assert(SYS_futex == 202 && SYS_seccomp == 317 && SYS_prctl == 157);
[[gnu::naked]] MPROF_EXPORT long syscall(long, ...) noexcept {
  asm("cmpq $202, %%rdi\n\t"
      "je mprof_futex\n\t"
      "cmpq $317, %%rdi\n\t"
      "je mprof_seccomp\n\t"
      "cmpq $157, %%rdi\n\t"
      "je mprof_seccomp\n\t"
      "jmp *%c0+mprof_real_locks(%%rip)"
      :
      : "i"(offsetof(RealLocks, syscall)));
}

}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
// Functions by which a program sets or asks for a signal's action: of the signal that mprof uses it
// sees its own action, never mprof's handler. Handlers are set so that their return is noted. And
// those by which a thread comes not to want any signal of ours: its mask, its alternate stack.
//
// Threads: any. Signals: safe. Allocates: no. Blocks: no.
#include <errno.h>
#include <signal.h>

#include <atomic>
#include <cstdint>

#include "format/thread_table.h"
#include "preload/cpu_sampler.h"
#include "preload/handler_returns.h"
#include "preload/low.h"
#include "preload/real_locks.h"
#include "preload/signals.h"

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace
using mprof::format::kSignalBlocked;
using mprof::format::kSmallSignalStack;

namespace {

constexpr int kSystemV = static_cast<int>(SA_RESETHAND) | SA_NODEFER;

bool is_own(int number) { return number != 0 && number == own_signal(); }

// Signals that siginterrupt() has spoken of: signal() then depends on it.
constinit std::atomic<uint64_t> interrupting = 0;

int set_action(int number, const struct sigaction* action, struct sigaction* before) {
  if (action == nullptr || !is_function(action->sa_handler) || !is_usual(number))
    return real_locks.sigaction(number, action, before);
  return set_marked(number, *action, before);
}

// Signals whose handler blocks ours, and was not set so.
constinit std::atomic<uint64_t> ours_added = 0;

// A handler on an alternate stack blocks our signal: such a stack may have room for one frame of
// the kernel's, and not for another. The program does not see that. A handler that was set before
// our signal became another one blocks the old one: late, that one comes all the same.
int set_others_action(int number, const struct sigaction* action, struct sigaction* before) {
  const int ours = own_signal();
  const uint64_t bit = uint64_t{1} << (number & 63);
  const bool was_added = (ours_added.load(std::memory_order_relaxed) & bit) != 0;
  const bool adds = action != nullptr && ours != 0 && (action->sa_flags & SA_ONSTACK) != 0 &&
                    is_function(action->sa_handler) && sigismember(&action->sa_mask, ours) == 0;
  struct sigaction with_ours;
  if (adds) {
    with_ours = *action;
    sigaddset(&with_ours.sa_mask, ours);
  }
  const int result = set_action(number, adds ? &with_ours : action, before);
  if (result != 0) return result;
  if (before != nullptr && was_added) sigdelset(&before->sa_mask, ours);
  if (action != nullptr && adds != was_added) ours_added.fetch_xor(bit, std::memory_order_relaxed);
  return result;
}

// As libc's signal().
sighandler_t set_function(int number, sighandler_t handler) {
  const bool is_simple = is_usual(number) && is_function(handler) &&
                         (interrupting.load(std::memory_order_relaxed) >> (number - 1) & 1) == 0;
  if (!is_simple) return real_locks.signal(number, handler);
  struct sigaction action = {};
  struct sigaction before;
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaddset(&action.sa_mask, number);
  return set_marked(number, action, &before) == 0 ? before.sa_handler : SIG_ERR;
}

// signal() and its relatives: they set a function with the flags of their own, and give the one
// before. `real(number, handler)` tells the kernel.
template <class Real>
sighandler_t set_handler(int number, sighandler_t handler, int flags, Real&& real) {
  if (!is_own(number) || handler == SIG_ERR) return real(number, handler);
  struct sigaction action = {};
  struct sigaction before;
  action.sa_handler = handler;
  action.sa_flags = flags;
  if (!program_sets_action(number, &action, &before)) return before.sa_handler;
  const sighandler_t kernels = real(number, handler);
  return kernels == SIG_ERR ? SIG_ERR : before.sa_handler;
}

// One of our signals that came to a thread which blocks it would be the program's to see: pending,
// in a signalfd, in the program that it becomes. What is blocked before, though nobody said so
// here, is so by a handler's mask, and not for long. `set` and `before` may be one.
template <class Real>
int change_mask(int how, const sigset_t* set, sigset_t* before, Real&& real) {
  const int ours = own_signal();
  if (set == nullptr || ours == 0) return real(how, set, before);
  const bool has_ours = sigismember(set, ours) == 1;
  const bool unblocks = has_ours ? how == SIG_UNBLOCK : how == SIG_SETMASK;
  sigset_t masked;
  if (before == nullptr) before = &masked;
  const bool is_said = has_ours && how != SIG_UNBLOCK && set_unsignalled(kSignalBlocked, true);
  const int result = real(how, set, before);
  const bool is_new = result == 0 && sigismember(before, ours) == 0;
  if (is_said ? !is_new : unblocks && result == 0) set_unsignalled(kSignalBlocked, false);
  return result;
}

}  // namespace

extern "C" {

MPROF_EXPORT int sigaction(int number, const struct sigaction* action,
                           struct sigaction* before) noexcept {
  if (!is_own(number)) return set_others_action(number, action, before);
  struct sigaction programs;
  const bool has_moved = program_sets_action(number, action, &programs);
  if (has_moved && set_action(number, action, nullptr) != 0) return -1;
  if (before != nullptr) *before = programs;
  return 0;
}

MPROF_EXPORT sighandler_t signal(int number, sighandler_t handler) noexcept {
  return set_handler(number, handler, SA_RESTART, set_function);
}

MPROF_EXPORT sighandler_t bsd_signal(int number, sighandler_t handler) noexcept {
  return set_handler(number, handler, SA_RESTART, set_function);
}

MPROF_EXPORT sighandler_t sysv_signal(int number, sighandler_t handler) noexcept {
  return set_handler(number, handler, kSystemV, real_locks.sysv_signal);
}

MPROF_EXPORT sighandler_t __sysv_signal(int number, sighandler_t handler) noexcept {
  return set_handler(number, handler, kSystemV, real_locks.sysv_signal);
}

MPROF_EXPORT sighandler_t sigset(int number, sighandler_t handler) noexcept {
  if (!is_own(number) || handler != SIG_HOLD)
    return set_handler(number, handler, 0, real_locks.sigset);
  struct sigaction before;
  program_sets_action(number, nullptr, &before);
  const sighandler_t kernels = real_locks.sigset(number, SIG_HOLD);
  return kernels == SIG_HOLD || kernels == SIG_ERR ? kernels : before.sa_handler;
}

MPROF_EXPORT int sigignore(int number) noexcept {
  if (!is_own(number)) return real_locks.sigignore(number);
  return set_handler(number, SIG_IGN, 0, real_locks.signal) == SIG_ERR ? -1 : 0;
}

// Without SA_RESTART our timers and questions would interrupt the program's calls. The program's
// action is none that could.
MPROF_EXPORT int siginterrupt(int number, int flag) noexcept {
  if (is_own(number)) return 0;
  if (is_usual(number))
    interrupting.fetch_or(uint64_t{1} << (number - 1), std::memory_order_relaxed);
  return real_locks.siginterrupt(number, flag);
}

MPROF_EXPORT int sigprocmask(int how, const sigset_t* set, sigset_t* before) noexcept {
  return change_mask(how, set, before, [](auto... all) { return real_locks.sigprocmask(all...); });
}

MPROF_EXPORT int pthread_sigmask(int how, const sigset_t* set, sigset_t* before) noexcept {
  return change_mask(how, set, before,
                     [](auto... all) { return real_locks.pthread_sigmask(all...); });
}

MPROF_EXPORT int signalfd(int fd, const sigset_t* set, int flags) noexcept {
  if (set != nullptr) program_reads_signals(*set);
  return real_locks.signalfd(fd, set, flags);
}

MPROF_EXPORT int sigaltstack(const stack_t* stack, stack_t* before) noexcept {
  const bool fits = stack == nullptr || handler_fits(*stack);
  const bool is_said = !fits && set_unsignalled(kSmallSignalStack, true);
  const int result = real_locks.sigaltstack(stack, before);
  if (result == 0 ? stack != nullptr && fits : is_said) set_unsignalled(kSmallSignalStack, false);
  return result;
}

}  // extern "C"

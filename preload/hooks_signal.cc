// SPDX-License-Identifier: Apache-2.0
// Functions by which a program sets or asks for a signal's action: of the signal that mprof uses it
// sees its own action, never mprof's handler. Handlers are set so that their return is noted.
//
// Threads: any. Signals: safe. Allocates: no. Blocks: no.
#include <errno.h>
#include <signal.h>

#include <atomic>
#include <cstdint>

#include "preload/handler_returns.h"
#include "preload/low.h"
#include "preload/real_locks.h"
#include "preload/signals.h"

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace

namespace {

constexpr int kSystemV = static_cast<int>(SA_RESETHAND) | SA_NODEFER;

bool is_own(int number) { return number != 0 && number == own_signal(); }

// Signals that siginterrupt() has spoken of: signal() then depends on it.
constinit std::atomic<uint64_t> interrupting = 0;

bool is_function(sighandler_t handler) {
  return handler != SIG_DFL && handler != SIG_IGN && handler != SIG_ERR && handler != SIG_HOLD;
}

int set_action(int number, const struct sigaction* action, struct sigaction* before) {
  if (action == nullptr || !is_function(action->sa_handler) || !is_usual(number))
    return real_locks.sigaction(number, action, before);
  return set_marked(number, *action, before);
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

}  // namespace

extern "C" {

MPROF_EXPORT int sigaction(int number, const struct sigaction* action,
                           struct sigaction* before) noexcept {
  if (!is_own(number)) return set_action(number, action, before);
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

}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
#include "preload/signals.h"

#include <string.h>
#include <ucontext.h>

#include <atomic>

#include "preload/control.h"
#include "preload/cpu_sampler.h"
#include "preload/dump_file.h"
#include "preload/handler_returns.h"
#include "preload/lifecycle.h"
#include "preload/low.h"
#include "preload/real_locks.h"
#include "preload/sampler.h"
#include "preload/spin.h"
#include "preload/stacks.h"
#include "preload/sys.h"
#include "preload/thread_stacks.h"
#include "preload/waiting.h"

namespace mprof::preload {
namespace {

constexpr int kSignals[] = {SIGURG, SIGPROF, SIGSTKFLT};

std::atomic<int> number_in_use;
struct sigaction programs_action;  // for that signal; SIG_DFL or SIG_IGN
std::atomic<bool> actions_locked;

// With all signals blocked: a handler of this thread that came in between would wait for itself.
class ActionsLock {
 public:
  ActionsLock() {
    sigset_t all;
    sigfillset(&all);
    sys::sigprocmask(SIG_SETMASK, &all, &before_);
    locked_ = spin_until([] { return !actions_locked.exchange(true, std::memory_order_acquire); });
  }
  ~ActionsLock() {
    if (locked_) actions_locked.store(false, std::memory_order_release);
    sys::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  ActionsLock(const ActionsLock&) = delete;
  ActionsLock& operator=(const ActionsLock&) = delete;

 private:
  sigset_t before_;
  bool locked_;
};

// own_row() is its parent's then.
bool is_vfork_child() { return static_cast<uint32_t>(sys::getpid()) != header->pid; }

bool is_from_controller(const siginfo_t& info) {
  return info.si_code == SI_QUEUE && info.si_value.sival_int == format::kSignalCookie;
}
bool is_from_timer(const siginfo_t& info) {
  return info.si_code == SI_TIMER &&
         (info.si_value.sival_int == kTickCookie || info.si_value.sival_int == kNudgeCookie);
}

// Somebody else's. Ignored by default is SIGURG alone.
void hand_on(int number) {
  if (number == SIGURG || programs_action.sa_handler == SIG_IGN) return;
  struct sigaction defaults = {};
  real_locks.sigaction(number, &defaults, nullptr);
  sys::tgkill(sys::getpid(), sys::gettid(), number);  // when this handler returns
}

Registers registers_of(const void* context) {
  const greg_t* words = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  // A walk looks up pc - 1, as it does for return addresses.
  return {static_cast<uintptr_t>(words[REG_RIP]) + 1, static_cast<uintptr_t>(words[REG_RSP]),
          static_cast<uintptr_t>(words[REG_RBP])};
}

void handle(int number, siginfo_t* info, void* context) {
  if (!is_own_signal(*info)) return hand_on(number);
  const ErrnoGuard keep_errno;
  if (!recording()) return;
  note_cut_call(*static_cast<const ucontext_t*>(context));
  const Registers interrupted = registers_of(context);
  if (is_from_timer(*info)) cpu_tick(*info, interrupted);
  notice_control();
  notice_heap_rate();
  if (is_asked_for_stack()) answer_stack_request(interrupted);
}

// A handler of the program that jumped out of ours would leave a mess. But those that are ignored
// by default stay unblocked: the kernel drops such a signal at once only where it is not blocked,
// else it may end a call of another thread before it is found to be ignored.
sigset_t blocked_meanwhile() {
  sigset_t set;
  sigfillset(&set);
  for (const int number : {SIGCHLD, SIGCONT, SIGURG, SIGWINCH}) sigdelset(&set, number);
  return set;
}

bool take(int number) {
  struct sigaction before;
  if (real_locks.sigaction(number, nullptr, &before) != 0 || is_function(before.sa_handler))
    return false;
  if (number != SIGURG && before.sa_handler == SIG_IGN)
    return false;  // a child would not ignore it
  struct sigaction ours = {};
  ours.sa_sigaction = handle;
  ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  ours.sa_mask = blocked_meanwhile();
  if (real_locks.sigaction(number, &ours, nullptr) != 0) return false;
  programs_action = before;
  return true;
}

// The first free one behind `last` in the list; 0 as `last`: of all.
int take_next(int last) {
  bool behind = last == 0;
  for (const int number : kSignals) {
    if (behind && take(number)) return number;
    behind |= number == last;
  }
  return 0;
}

}  // namespace

void signals_init() {
  if (number_in_use.load(std::memory_order_relaxed) == 0)  // a forked child has its parent's
    number_in_use.store(take_next(0), std::memory_order_relaxed);
}

void signals_publish() {
  header->signal_number.store(static_cast<uint32_t>(own_signal()), std::memory_order_release);
}

bool is_own_signal(const siginfo_t& info) {
  return is_from_timer(info) || is_from_controller(info);
}

int own_signal() { return number_in_use.load(std::memory_order_relaxed); }

bool program_sets_action(int number, const struct sigaction* action, struct sigaction* before) {
  const ActionsLock lock;
  if (number != own_signal()) return true;  // another thread was faster
  *before = programs_action;
  if (action == nullptr) return false;
  if (!is_function(action->sa_handler)) {
    programs_action = *action;
    return false;
  }
  number_in_use.store(take_next(number), std::memory_order_relaxed);
  if (recording()) signals_publish();
  cpu_signal_changed();
  return true;
}

// SIGURG alone can be let go at any time: one that is on its way is ignored.
void program_reads_signals(const sigset_t& set) {
  if (own_signal() != SIGURG || sigismember(&set, SIGURG) != 1) return;
  {
    const ActionsLock lock;
    if (own_signal() != SIGURG) return;  // another thread was faster
    const struct sigaction programs = programs_action;
    int other = 0;
    for (const int number : kSignals)
      if (other == 0 && sigismember(&set, number) == 0 && take(number)) other = number;
    if (other == 0) return;
    real_locks.sigaction(SIGURG, &programs, nullptr);
    number_in_use.store(other, std::memory_order_relaxed);
    if (recording()) signals_publish();
    cpu_signal_changed();
  }
  format::ThreadRow* row = recording() ? own_row() : nullptr;
  if (row != nullptr && !is_vfork_child()) cpu_thread_is_unsignalled(*row, why_unsignalled());
}

bool set_unsignalled(uint32_t reason, bool holds) {
  format::ThreadRow* row = recording() ? own_row() : nullptr;
  if (row == nullptr) return false;
  const uint32_t before = row->unsignalled.load(std::memory_order_relaxed);
  const uint32_t after = holds ? before | reason : before & ~reason;
  if (after == before || is_vfork_child()) return false;
  cpu_thread_is_unsignalled(*row, after);
  return true;
}

}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
// Waits that are no locks: conditions, semaphores, barriers, the end of a thread, raw futexes.
//
// pthread_cond_*, sem_*wait and pthread_*join are cancellation points: a thread that is cancelled
// in one is unwound through the hook's frame, in which only a wait for a condition has something to
// undo.
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include "preload/lock_hook.h"
#include "preload/low.h"
#include "preload/real_locks.h"
#include "preload/waiting.h"

// Of libc's ABI, though no header declares them any more: what pthread_cleanup_push() in C without
// exceptions is made of costs a setjmp.
extern "C" void _pthread_cleanup_push(_pthread_cleanup_buffer* buffer, void (*routine)(void*),
                                      void* argument);
extern "C" void _pthread_cleanup_pop(_pthread_cleanup_buffer* buffer, int execute);

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace
using mprof::format::WaitEnd;
using mprof::format::WaitKind;

namespace {

// Nanoseconds since a deadline, 0 before it.
uint64_t ns_past(clockid_t clock, const timespec& deadline) {
  timespec now;
  clock_gettime(clock, &now);
  const int64_t ns = (now.tv_sec - deadline.tv_sec) * 1000000000 + (now.tv_nsec - deadline.tv_nsec);
  return ns > 0 ? static_cast<uint64_t>(ns) : 0;
}

// The release of the mutex in a wait; it is charged before, since there is no moment after it.
void give_up_watched(const pthread_mutex_t* mutex, uint64_t now, CallSite site) {
  if (WatchedLock* entry = due_at(mutex, now, own_releases(), tracing()))
    end_release(begin_release(*entry, mutex, WaitKind::kMutex, now), site);
}

// A wait for a condition gives its mutex up, which may let others in, and takes it again.
template <class Call, class Overshoot>
[[gnu::always_inline]] inline int wait_for_condition(const void* condition,
                                                     const pthread_mutex_t* mutex, CallSite site,
                                                     Call&& call, int timed_out,
                                                     Overshoot&& overshoot_ns) {
  if (!contention_on.load(std::memory_order_relaxed)) return call();
  const uint64_t now = ticks();
  if (is_watched(mutex) && is_last_unlock(mutex)) give_up_watched(mutex, now, site);
  ConditionWait wait;
  wait.wait.kind = WaitKind::kCond;
  wait.wait.object = condition;
  wait.wait.site = site;
  wait.mutex = mutex;
  begin_condition_wait(wait, now);
  // A thread that is cancelled in here takes its node out, before handlers of its own free things.
  _pthread_cleanup_buffer cleanup;
  _pthread_cleanup_push(&cleanup, abandon_condition_wait, &wait);
  const int error = call();
  _pthread_cleanup_pop(&cleanup, 0);
  if (error == timed_out)
    end_condition_wait(wait, WaitEnd::kGaveUp, overshoot_ns());
  else
    end_condition_wait(wait, end_of_wait(error, error == 0 || error == EOWNERDEAD), 0);
  return error;
}

// Runs `call`, the real signal; the release is dated before it, and told after it.
template <class Call>
[[gnu::always_inline]] inline int signal_waiters(const void* condition, bool all, CallSite site,
                                                 Call&& call) {
  const uint64_t traced_at = note_signal(condition, all);
  const int error = call();
  if (traced_at != 0 && error == 0) trace_release(site, traced_at, WaitKind::kCond, condition);
  return error;
}

[[gnu::noinline]] int signal_waited_for(pthread_cond_t* condition) {
  return signal_waiters(condition, false, MPROF_CALL_SITE(),
                        [=] { return real_locks.pthread_cond_signal(condition); });
}
[[gnu::noinline]] int broadcast_waited_for(pthread_cond_t* condition) {
  return signal_waiters(condition, true, MPROF_CALL_SITE(),
                        [=] { return real_locks.pthread_cond_broadcast(condition); });
}
[[gnu::noinline]] int cnd_signal_waited_for(cnd_t* condition) {
  return signal_waiters(condition, false, MPROF_CALL_SITE(),
                        [=] { return real_locks.cnd_signal(condition); });
}
[[gnu::noinline]] int cnd_broadcast_waited_for(cnd_t* condition) {
  return signal_waiters(condition, true, MPROF_CALL_SITE(),
                        [=] { return real_locks.cnd_broadcast(condition); });
}

constexpr int kNever = -1;
uint64_t no_overshoot() { return 0; }

// pthread_condattr_setclock(): bit 1 of __wrefs.
clockid_t clock_of(const pthread_cond_t* condition) {
  return (condition->__data.__wrefs & 2) != 0 ? CLOCK_MONOTONIC : CLOCK_REALTIME;
}

// errno tells: EINVAL came at once.
bool semaphore_was_waited_for(int result) { return result == 0 || errno != EINVAL; }

template <class Call>
[[gnu::always_inline]] inline int wait_for_semaphore(sem_t* semaphore, CallSite site, Call&& call) {
  return timed_wait(WaitKind::kSemaphore, semaphore, site, false, call, semaphore_was_waited_for);
}

// glibc keeps the value in the first 32 bits. If it is not 0, the real function hardly ever waits:
// only if the last one is taken this instant. When every wait is to be seen, it is tried.
bool is_worth_a_try(sem_t* semaphore) {
  return records_every_wait.load(std::memory_order_relaxed) ||
         std::atomic_ref(*reinterpret_cast<uint32_t*>(semaphore)).load(std::memory_order_relaxed) ==
             0;
}

bool take_at_once(sem_t* semaphore) {
  const int before = errno;
  if (real_locks.sem_trywait(semaphore) == 0) return true;
  errno = before;
  return false;
}

[[gnu::noinline]] int sem_wait_busy(sem_t* semaphore) {
  return wait_for_semaphore(semaphore, MPROF_CALL_SITE(),
                            [=] { return real_locks.sem_wait(semaphore); });
}
// By jumps, as everything before a slow half.
[[gnu::noinline]] int sem_wait_tried(sem_t* semaphore) {
  real_locks.pthread_testcancel();
  return take_at_once(semaphore) ? 0 : sem_wait_busy(semaphore);
}
// With a deadline, any signal's handler ends the call.
template <class Call>
[[gnu::always_inline]] inline int wait_for_semaphore_parked(sem_t* semaphore, CallSite site,
                                                            Call&& call) {
  return wait_for_semaphore(semaphore, site, [&] {
    const ParkedCall parked = park(site);
    int result = call();
    while (result != 0 && errno == EINTR && was_cut(parked)) result = call();
    unpark(parked);
    return result;
  });
}
[[gnu::noinline]] int sem_timedwait_busy(sem_t* semaphore, const timespec* deadline) {
  return wait_for_semaphore_parked(semaphore, MPROF_CALL_SITE(),
                                   [=] { return real_locks.sem_timedwait(semaphore, deadline); });
}
[[gnu::noinline]] int sem_clockwait_busy(sem_t* semaphore, clockid_t clock,
                                         const timespec* deadline) {
  return wait_for_semaphore_parked(semaphore, MPROF_CALL_SITE(), [=] {
    return real_locks.sem_clockwait(semaphore, clock, deadline);
  });
}

// glibc keeps the number of those that wait in the second 32 bits.
bool has_waiters(sem_t* semaphore) {
  return std::atomic_ref(reinterpret_cast<uint32_t*>(semaphore)[1])
             .load(std::memory_order_relaxed) != 0;
}

[[gnu::noinline]] int sem_post_waited_for(sem_t* semaphore) {
  const CallSite site = MPROF_CALL_SITE();
  const uint64_t now = ticks();
  const int result = real_locks.sem_post(semaphore);
  if (result == 0) trace_release(site, now, WaitKind::kSemaphore, semaphore);
  return result;
}

bool join_has_waited(int error) { return error == 0 || error == ETIMEDOUT; }

template <class Call>
[[gnu::always_inline]] inline int wait_for_end(pthread_t thread, CallSite site, Call&& call) {
  return timed_wait(WaitKind::kJoin, reinterpret_cast<const void*>(thread), site, false, call,
                    join_has_waited);
}

[[gnu::noinline]] int join_running(pthread_t thread, void** result) {
  return wait_for_end(thread, MPROF_CALL_SITE(),
                      [=] { return real_locks.pthread_join(thread, result); });
}
[[gnu::noinline]] int timedjoin_running(pthread_t thread, void** result, const timespec* deadline) {
  return wait_for_end(thread, MPROF_CALL_SITE(),
                      [=] { return real_locks.pthread_timedjoin_np(thread, result, deadline); });
}
[[gnu::noinline]] int clockjoin_running(pthread_t thread, void** result, clockid_t clock,
                                        const timespec* deadline) {
  return wait_for_end(thread, MPROF_CALL_SITE(), [=] {
    return real_locks.pthread_clockjoin_np(thread, result, clock, deadline);
  });
}
[[gnu::noinline]] int thrd_join_running(thrd_t thread, int* result) {
  return wait_for_end(thread, MPROF_CALL_SITE(),
                      [=] { return real_locks.thrd_join(thread, result); });
}

[[gnu::noinline]] int yield_traced() {
  trace_yield(MPROF_CALL_SITE());
  return real_locks.sched_yield();
}

bool is_futex_wait(long operation) {
  switch (operation & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_WAIT_REQUEUE_PI:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2: return true;
    default: return false;
  }
}

bool is_futex_wake(long operation) {
  switch (operation & FUTEX_CMD_MASK) {
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
    case FUTEX_WAKE_OP:
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_UNLOCK_PI: return true;
    default: return false;
  }
}

// The kernel tells how many it woke; an unlock hands the lock over.
bool has_woken(long result, long operation) {
  return result > 0 || (result == 0 && (operation & FUTEX_CMD_MASK) == FUTEX_UNLOCK_PI);
}

[[gnu::noinline]] long traced_wake(CallSite site, long number, long address, long operation, long c,
                                   long d, long e, long f) {
  const uint64_t now = ticks();
  const long result = real_locks.syscall(number, address, operation, c, d, e, f);
  if (has_woken(result, operation))
    trace_release(site, now, WaitKind::kFutex, reinterpret_cast<const void*>(address));
  return result;
}

// A timed wait for a raw futex may come back early for no reason at all; who calls it knows that.
long parked_futex(CallSite site, long number, long address, long operation, long c, long d, long e,
                  long f) {
  const ParkedCall parked = park(site);
  const long result = real_locks.syscall(number, address, operation, c, d, e, f);
  unpark(parked);
  return result;
}

// EAGAIN: the word had changed, there was nothing to wait for.
bool futex_has_waited(long result) { return result == 0 || errno == ETIMEDOUT || errno == EINTR; }

}  // namespace

extern "C" {

MPROF_EXPORT int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  return wait_for_condition(
      condition, mutex, MPROF_CALL_SITE(),
      [=] { return real_locks.pthread_cond_wait(condition, mutex); }, kNever, no_overshoot);
}

MPROF_EXPORT int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                                        const timespec* deadline) {
  return wait_for_condition(
      condition, mutex, MPROF_CALL_SITE(),
      [=] { return real_locks.pthread_cond_timedwait(condition, mutex, deadline); }, ETIMEDOUT,
      [=] { return ns_past(clock_of(condition), *deadline); });
}

MPROF_EXPORT int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                                        clockid_t clock, const timespec* deadline) {
  return wait_for_condition(
      condition, mutex, MPROF_CALL_SITE(),
      [=] { return real_locks.pthread_cond_clockwait(condition, mutex, clock, deadline); },
      ETIMEDOUT, [=] { return ns_past(clock, *deadline); });
}

MPROF_EXPORT int pthread_cond_signal(pthread_cond_t* condition) noexcept {
  if (is_waited_for(condition)) return signal_waited_for(condition);
  return real_locks.pthread_cond_signal(condition);
}

MPROF_EXPORT int pthread_cond_broadcast(pthread_cond_t* condition) noexcept {
  if (is_waited_for(condition)) return broadcast_waited_for(condition);
  return real_locks.pthread_cond_broadcast(condition);
}

MPROF_EXPORT int cnd_wait(cnd_t* condition, mtx_t* mutex) {
  return wait_for_condition(
      condition, mutex_of(mutex), MPROF_CALL_SITE(),
      [=] { return real_locks.cnd_wait(condition, mutex); }, kNever, no_overshoot);
}

MPROF_EXPORT int cnd_timedwait(cnd_t* condition, mtx_t* mutex, const timespec* deadline) {
  return wait_for_condition(
      condition, mutex_of(mutex), MPROF_CALL_SITE(),
      [=] { return real_locks.cnd_timedwait(condition, mutex, deadline); }, thrd_timedout,
      [=] { return ns_past(CLOCK_REALTIME, *deadline); });
}

MPROF_EXPORT int cnd_signal(cnd_t* condition) {
  if (is_waited_for(condition)) return cnd_signal_waited_for(condition);
  return real_locks.cnd_signal(condition);
}

MPROF_EXPORT int cnd_broadcast(cnd_t* condition) {
  if (is_waited_for(condition)) return cnd_broadcast_waited_for(condition);
  return real_locks.cnd_broadcast(condition);
}

// libc's sem_wait and sem_timedwait act upon a cancellation even if they need not wait; its
// sem_clockwait does not.

MPROF_EXPORT int sem_wait(sem_t* semaphore) {
  return is_worth_a_try(semaphore) ? sem_wait_tried(semaphore) : real_locks.sem_wait(semaphore);
}

MPROF_EXPORT int sem_timedwait(sem_t* semaphore, const timespec* deadline) {
  if (is_deadline(deadline)) {
    real_locks.pthread_testcancel();
    if (take_at_once(semaphore)) return 0;
  }
  return sem_timedwait_busy(semaphore, deadline);
}

MPROF_EXPORT int sem_clockwait(sem_t* semaphore, clockid_t clock, const timespec* deadline) {
  if (is_wait_clock(clock) && is_deadline(deadline) && take_at_once(semaphore)) return 0;
  return sem_clockwait_busy(semaphore, clock, deadline);
}

// Async-signal-safe. After the real post the semaphore may be gone.
MPROF_EXPORT int sem_post(sem_t* semaphore) noexcept {
  if (tracing() && has_waiters(semaphore)) [[unlikely]]
    return sem_post_waited_for(semaphore);
  return real_locks.sem_post(semaphore);
}

// A yield is told before it is made.
MPROF_EXPORT int sched_yield() noexcept {
  if (tracing()) [[unlikely]]
    return yield_traced();
  return real_locks.sched_yield();
}

// The last one to come, who is told so, has not waited.
MPROF_EXPORT int pthread_barrier_wait(pthread_barrier_t* barrier) noexcept {
  return timed_wait(
      WaitKind::kBarrier, barrier, MPROF_CALL_SITE(), false,
      [=] { return real_locks.pthread_barrier_wait(barrier); },
      [](int result) { return result == 0; });
}

MPROF_EXPORT int pthread_join(pthread_t thread, void** result) {
  const int error = real_locks.pthread_tryjoin_np(thread, result);
  return error == EBUSY ? join_running(thread, result) : error;
}

MPROF_EXPORT int pthread_timedjoin_np(pthread_t thread, void** result, const timespec* deadline) {
  return timedjoin_running(thread, result, deadline);
}

MPROF_EXPORT int pthread_clockjoin_np(pthread_t thread, void** result, clockid_t clock,
                                      const timespec* deadline) {
  return clockjoin_running(thread, result, clock, deadline);
}

MPROF_EXPORT int thrd_join(thrd_t thread, int* result) { return thrd_join_running(thread, result); }

// Reached from syscall(), with its arguments where they are.
[[gnu::visibility("hidden")]] long mprof_futex(long number, long address, long operation, long c,
                                               long d, long e, long f) {
  const CallSite site = MPROF_CALL_SITE();
  if (!is_futex_wait(operation)) {
    if (tracing() && is_futex_wake(operation))
      return traced_wake(site, number, address, operation, c, d, e, f);
    return real_locks.syscall(number, address, operation, c, d, e, f);
  }
  const auto call = [=] { return parked_futex(site, number, address, operation, c, d, e, f); };
  return timed_wait(WaitKind::kFutex, reinterpret_cast<const void*>(address), site, false, call,
                    futex_has_waited);
}

}  // extern "C"

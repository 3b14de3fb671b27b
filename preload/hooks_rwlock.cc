// SPDX-License-Identifier: Apache-2.0
// Reader-writer locks. A release counts when it lets somebody in: a writer's, or the last reader's.
#include <errno.h>

#include "preload/lock_hook.h"
#include "preload/low.h"
#include "preload/real_locks.h"

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace
using mprof::format::WaitKind;

namespace {

bool rwlock_was_waited_for(int error) { return error == 0 || error == ETIMEDOUT; }

// Alone in the process, a lock that is taken is this thread's own, and to wait for it is EDEADLK.
bool is_alone_with(const pthread_rwlock_t* lock) {
  return single_threaded() && lock->__data.__shared == 0;
}

// glibc: bits 3 and up of __readers count the readers; a writer's thread id is in __cur_writer.
bool is_last_holder(const pthread_rwlock_t* lock) {
  return lock->__data.__cur_writer != 0 || lock->__data.__readers >> 3 == 1;
}

WaitKind held_as(const pthread_rwlock_t* lock) {
  return lock->__data.__cur_writer != 0 ? WaitKind::kRwlockWrite : WaitKind::kRwlockRead;
}

template <class Call>
[[gnu::always_inline]] inline int wait_to_read(pthread_rwlock_t* lock, CallSite site, Call&& call) {
  return timed_wait(WaitKind::kRwlockRead, lock, site, true, call, rwlock_was_waited_for);
}
template <class Call>
[[gnu::always_inline]] inline int wait_to_write(pthread_rwlock_t* lock, CallSite site,
                                                Call&& call) {
  return timed_wait(WaitKind::kRwlockWrite, lock, site, true, call, rwlock_was_waited_for);
}

[[gnu::noinline]] int rdlock_busy(pthread_rwlock_t* lock) {
  return wait_to_read(lock, MPROF_CALL_SITE(),
                      [=] { return real_locks.pthread_rwlock_rdlock(lock); });
}
[[gnu::noinline]] int wrlock_busy(pthread_rwlock_t* lock) {
  return wait_to_write(lock, MPROF_CALL_SITE(),
                       [=] { return real_locks.pthread_rwlock_wrlock(lock); });
}
[[gnu::noinline]] int timedrdlock_busy(pthread_rwlock_t* lock, const timespec* deadline) {
  return wait_to_read(lock, MPROF_CALL_SITE(),
                      [=] { return real_locks.pthread_rwlock_timedrdlock(lock, deadline); });
}
[[gnu::noinline]] int timedwrlock_busy(pthread_rwlock_t* lock, const timespec* deadline) {
  return wait_to_write(lock, MPROF_CALL_SITE(),
                       [=] { return real_locks.pthread_rwlock_timedwrlock(lock, deadline); });
}
[[gnu::noinline]] int clockrdlock_busy(pthread_rwlock_t* lock, clockid_t clock,
                                       const timespec* deadline) {
  return wait_to_read(lock, MPROF_CALL_SITE(),
                      [=] { return real_locks.pthread_rwlock_clockrdlock(lock, clock, deadline); });
}
[[gnu::noinline]] int clockwrlock_busy(pthread_rwlock_t* lock, clockid_t clock,
                                       const timespec* deadline) {
  return wait_to_write(lock, MPROF_CALL_SITE(), [=] {
    return real_locks.pthread_rwlock_clockwrlock(lock, clock, deadline);
  });
}

// Two readers that leave at once must not each take the other for the last one: when it matters,
// they leave one after the other.
[[gnu::noinline]] int rwlock_unlock_due(pthread_rwlock_t* lock, WatchedLock& entry, uint64_t now) {
  return charged_shared_release(
      entry, lock, held_as(lock), now, MPROF_CALL_SITE(), [=] { return is_last_holder(lock); },
      [=] { return real_locks.pthread_rwlock_unlock(lock); });
}

[[gnu::noinline]] int rwlock_unlock_watched(pthread_rwlock_t* lock) {
  const uint64_t now = ticks();
  WatchedLock* entry = find_watched(lock);
  if (entry != nullptr && (is_point_before(*entry, now) || tracing()))
    return rwlock_unlock_due(lock, *entry, now);
  if (entry == nullptr)
    tidy_home(lock, now);
  else if (is_last_holder(lock))
    note_release(*entry, lock, now, own_releases());
  return real_locks.pthread_rwlock_unlock(lock);
}

}  // namespace

extern "C" {

MPROF_EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t* lock) noexcept {
  if (is_alone_with(lock)) return real_locks.pthread_rwlock_rdlock(lock);
  const int error = real_locks.pthread_rwlock_tryrdlock(lock);
  if (error != EBUSY) [[likely]]
    return error;
  return rdlock_busy(lock);
}

MPROF_EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t* lock) noexcept {
  if (is_alone_with(lock)) return real_locks.pthread_rwlock_wrlock(lock);
  const int error = real_locks.pthread_rwlock_trywrlock(lock);
  if (error != EBUSY) [[likely]]
    return error;
  return wrlock_busy(lock);
}

// libc refuses a wrong deadline or clock even if the lock is free.

MPROF_EXPORT int pthread_rwlock_timedrdlock(pthread_rwlock_t* lock,
                                            const timespec* deadline) noexcept {
  const int error = is_deadline(deadline) ? real_locks.pthread_rwlock_tryrdlock(lock) : EBUSY;
  return error == EBUSY ? timedrdlock_busy(lock, deadline) : error;
}

MPROF_EXPORT int pthread_rwlock_timedwrlock(pthread_rwlock_t* lock,
                                            const timespec* deadline) noexcept {
  const int error = is_deadline(deadline) ? real_locks.pthread_rwlock_trywrlock(lock) : EBUSY;
  return error == EBUSY ? timedwrlock_busy(lock, deadline) : error;
}

MPROF_EXPORT int pthread_rwlock_clockrdlock(pthread_rwlock_t* lock, clockid_t clock,
                                            const timespec* deadline) noexcept {
  const bool valid = is_wait_clock(clock) && is_deadline(deadline);
  const int error = valid ? real_locks.pthread_rwlock_tryrdlock(lock) : EBUSY;
  return error == EBUSY ? clockrdlock_busy(lock, clock, deadline) : error;
}

MPROF_EXPORT int pthread_rwlock_clockwrlock(pthread_rwlock_t* lock, clockid_t clock,
                                            const timespec* deadline) noexcept {
  const bool valid = is_wait_clock(clock) && is_deadline(deadline);
  const int error = valid ? real_locks.pthread_rwlock_trywrlock(lock) : EBUSY;
  return error == EBUSY ? clockwrlock_busy(lock, clock, deadline) : error;
}

MPROF_EXPORT int pthread_rwlock_unlock(pthread_rwlock_t* lock) noexcept {
  if (is_watched(lock)) [[unlikely]]
    return rwlock_unlock_watched(lock);
  return real_locks.pthread_rwlock_unlock(lock);
}

}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
// Mutexes, C11's too (the same objects behind other names), and spin locks.
#include <errno.h>
#include <linux/futex.h>

#include "preload/lock_hook.h"
#include "preload/low.h"
#include "preload/real_locks.h"
#include "preload/sys.h"

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace
using mprof::format::WaitKind;

namespace {

// EDEADLK, EINVAL and the like come without a wait. ENOTRECOVERABLE may come after one.
bool mutex_was_waited_for(int error) {
  return error == 0 || error == EOWNERDEAD || error == ETIMEDOUT || error == ENOTRECOVERABLE;
}

[[gnu::noinline]] int mutex_lock_busy(pthread_mutex_t* mutex) {
  return timed_wait(
      WaitKind::kMutex, mutex, MPROF_CALL_SITE(), true,
      [=] { return real_locks.pthread_mutex_lock(mutex); }, mutex_was_waited_for);
}

// A robust mutex is not tried: of one that cannot be recovered, glibc's trylock says so and leaves
// it locked, which its lock does not. Its lock word has the thread id of the holder.
constexpr int kRobust = 16;  // in __kind
[[gnu::always_inline]] inline bool is_robust(const pthread_mutex_t* mutex) {
  return (mutex->__data.__kind & kRobust) != 0;
}
bool is_held_by_another(const pthread_mutex_t* mutex) {
  const int holder = mutex->__data.__lock & FUTEX_TID_MASK;
  return holder != 0 && holder != sys::gettid();
}
bool is_robust_without_wait(const pthread_mutex_t* mutex) {
  return is_robust(mutex) && !is_held_by_another(mutex);
}
int try_unless_robust(pthread_mutex_t* mutex) {
  return is_robust(mutex) ? EBUSY : real_locks.pthread_mutex_trylock(mutex);
}

[[gnu::noinline]] int robust_lock(pthread_mutex_t* mutex) {
  return is_held_by_another(mutex) ? mutex_lock_busy(mutex) : real_locks.pthread_mutex_lock(mutex);
}

[[gnu::noinline]] int mutex_timedlock_busy(pthread_mutex_t* mutex, const timespec* deadline) {
  return timed_wait(
      WaitKind::kMutex, mutex, MPROF_CALL_SITE(), true,
      [=] { return real_locks.pthread_mutex_timedlock(mutex, deadline); }, mutex_was_waited_for);
}

[[gnu::noinline]] int mutex_clocklock_busy(pthread_mutex_t* mutex, clockid_t clock,
                                           const timespec* deadline) {
  return timed_wait(
      WaitKind::kMutex, mutex, MPROF_CALL_SITE(), true,
      [=] { return real_locks.pthread_mutex_clocklock(mutex, clock, deadline); },
      mutex_was_waited_for);
}

[[gnu::noinline]] int mutex_unlock_due(pthread_mutex_t* mutex, WatchedLock& entry, uint64_t now) {
  return charged_release(entry, mutex, WaitKind::kMutex, now, MPROF_CALL_SITE(),
                         [=] { return real_locks.pthread_mutex_unlock(mutex); });
}

[[gnu::noinline]] int mutex_unlock_watched(pthread_mutex_t* mutex) {
  if (!is_last_unlock(mutex)) return real_locks.pthread_mutex_unlock(mutex);
  const uint64_t now = ticks();
  if (WatchedLock* entry = due_at(mutex, now, own_releases(), tracing()))
    return mutex_unlock_due(mutex, *entry, now);
  return real_locks.pthread_mutex_unlock(mutex);
}

// C11: thrd_success is 0; anything else but these two came at once.
bool mtx_was_waited_for(int result) { return result == thrd_success || result == thrd_timedout; }

[[gnu::noinline]] int mtx_lock_busy(mtx_t* mutex) {
  return timed_wait(
      WaitKind::kMutex, mutex, MPROF_CALL_SITE(), true, [=] { return real_locks.mtx_lock(mutex); },
      mtx_was_waited_for);
}

[[gnu::noinline]] int mtx_timedlock_busy(mtx_t* mutex, const timespec* deadline) {
  return timed_wait(
      WaitKind::kMutex, mutex, MPROF_CALL_SITE(), true,
      [=] { return real_locks.mtx_timedlock(mutex, deadline); }, mtx_was_waited_for);
}

[[gnu::noinline]] int mtx_unlock_due(mtx_t* mutex, WatchedLock& entry, uint64_t now) {
  return charged_release(entry, mutex, WaitKind::kMutex, now, MPROF_CALL_SITE(),
                         [=] { return real_locks.mtx_unlock(mutex); });
}

[[gnu::noinline]] int mtx_unlock_watched(mtx_t* mutex) {
  if (!is_last_unlock(mutex_of(mutex))) return real_locks.mtx_unlock(mutex);
  const uint64_t now = ticks();
  if (WatchedLock* entry = due_at(mutex, now, own_releases(), tracing()))
    return mtx_unlock_due(mutex, *entry, now);
  return real_locks.mtx_unlock(mutex);
}

[[gnu::noinline]] int spin_lock_busy(pthread_spinlock_t* lock) {
  return timed_wait(
      WaitKind::kSpin, lock, MPROF_CALL_SITE(), true,
      [=] { return real_locks.pthread_spin_lock(lock); }, [](int error) { return error == 0; });
}

const void* address_of(pthread_spinlock_t* lock) { return const_cast<const int*>(lock); }

[[gnu::noinline]] int spin_unlock_due(pthread_spinlock_t* lock, WatchedLock& entry, uint64_t now) {
  return charged_release(entry, lock, WaitKind::kSpin, now, MPROF_CALL_SITE(),
                         [=] { return real_locks.pthread_spin_unlock(lock); });
}

[[gnu::noinline]] int spin_unlock_watched(pthread_spinlock_t* lock) {
  const uint64_t now = ticks();
  if (WatchedLock* entry = due_at(address_of(lock), now, own_releases(), tracing()))
    return spin_unlock_due(lock, *entry, now);
  return real_locks.pthread_spin_unlock(lock);
}

}  // namespace

extern "C" {

MPROF_EXPORT int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  if (is_alone_with(mutex)) return real_locks.pthread_mutex_lock(mutex);
  if (is_robust(mutex)) [[unlikely]]
    return robust_lock(mutex);
  const int error = real_locks.pthread_mutex_trylock(mutex);
  if (error != EBUSY) [[likely]]
    return error;
  return mutex_lock_busy(mutex);
}

MPROF_EXPORT int pthread_mutex_timedlock(pthread_mutex_t* mutex,
                                         const timespec* deadline) noexcept {
  if (is_robust_without_wait(mutex)) return real_locks.pthread_mutex_timedlock(mutex, deadline);
  const int error = try_unless_robust(mutex);
  if (error != EBUSY) return error;
  return mutex_timedlock_busy(mutex, deadline);
}

MPROF_EXPORT int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock,
                                         const timespec* deadline) noexcept {
  if (!is_wait_clock(clock) || is_robust_without_wait(mutex))
    return real_locks.pthread_mutex_clocklock(mutex, clock, deadline);
  const int error = try_unless_robust(mutex);
  if (error != EBUSY) return error;
  return mutex_clocklock_busy(mutex, clock, deadline);
}

MPROF_EXPORT int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  if (is_watched(mutex)) [[unlikely]]
    return mutex_unlock_watched(mutex);
  return real_locks.pthread_mutex_unlock(mutex);
}

MPROF_EXPORT int mtx_lock(mtx_t* mutex) {
  if (is_alone_with(mutex_of(mutex))) return real_locks.mtx_lock(mutex);
  const int result = real_locks.mtx_trylock(mutex);
  if (result != thrd_busy) [[likely]]
    return result;
  return mtx_lock_busy(mutex);
}

MPROF_EXPORT int mtx_timedlock(mtx_t* mutex, const timespec* deadline) {
  const int result = real_locks.mtx_trylock(mutex);
  if (result != thrd_busy) return result;
  return mtx_timedlock_busy(mutex, deadline);
}

MPROF_EXPORT int mtx_unlock(mtx_t* mutex) {
  if (is_watched(mutex)) [[unlikely]]
    return mtx_unlock_watched(mutex);
  return real_locks.mtx_unlock(mutex);
}

MPROF_EXPORT int pthread_spin_lock(pthread_spinlock_t* lock) noexcept {
  const int error = real_locks.pthread_spin_trylock(lock);
  if (error != EBUSY) [[likely]]
    return error;
  return spin_lock_busy(lock);
}

MPROF_EXPORT int pthread_spin_unlock(pthread_spinlock_t* lock) noexcept {
  if (is_watched(address_of(lock))) [[unlikely]]
    return spin_unlock_watched(lock);
  return real_locks.pthread_spin_unlock(lock);
}

}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
// What the lock hooks have in common: a wait around a real call, a release around another.
//
// A hook's fast half tries (only "busy" is contention; every other answer is the program's) and
// jumps to a slow half, whose frame then stands where the hook's would: its caller is the program.
//
// The layouts of pthread_mutex_t and pthread_rwlock_t that are read here are part of glibc's ABI.
#pragma once

#include <errno.h>
#include <pthread.h>
#include <threads.h>
#include <time.h>

#include "preload/clock.h"
#include "preload/contention.h"
#include "preload/single_thread.h"

namespace mprof::preload {

// What a call that waited came back with; C11's thrd_success is 0, too. `has_waited`: it did not
// fail at once.
inline format::WaitEnd end_of_wait(long result, bool has_waited) {
  if (!has_waited) return format::WaitEnd::kAtOnce;
  return result == 0 || result == EOWNERDEAD ? format::WaitEnd::kGotIt : format::WaitEnd::kGaveUp;
}

// Runs `call` as a wait for `object`; `has_waited(result)`: it did not fail at once.
template <class Call, class HasWaited>
[[gnu::always_inline]] inline auto timed_wait(format::WaitKind kind, const volatile void* object,
                                              CallSite site, bool is_lock, Call&& call,
                                              HasWaited&& has_waited) {
  Wait wait;
  wait.kind = kind;
  wait.object = const_cast<const void*>(object);
  wait.site = site;
  begin_wait(wait, is_lock);
  const auto result = call();
  end_wait(wait, end_of_wait(result, has_waited(result)));
  return result;
}

// Runs `call`, which releases `lock` if it gives 0; the release of a watched lock, and due or to be
// traced.
template <class Call>
[[gnu::always_inline]] inline int charged_release(WatchedLock& entry, const volatile void* lock,
                                                  format::WaitKind held, uint64_t now,
                                                  CallSite site, Call&& call) {
  const Release release = begin_release(entry, const_cast<const void*>(lock), held, now);
  const int error = call();
  if (error == 0) end_release(release, site);
  return error;
}

// The same for a lock that several can hold: `is_last()` says whether the release lets anybody in.
template <class IsLast, class Call>
[[gnu::always_inline]] inline int charged_shared_release(WatchedLock& entry, const void* lock,
                                                         format::WaitKind held, uint64_t now,
                                                         CallSite site, IsLast&& is_last,
                                                         Call&& call) {
  if (!may_record()) return call();
  self.inside = Guard::kAtWork;  // a handler that interrupts here must not leave another lock
  const bool alone = begin_leaving(entry, lock);
  const Release release = alone && is_last() ? charge(entry, lock, held, now) : Release{};
  const int error = call();
  if (alone) end_leaving(entry);
  self.inside = 0;
  if (error == 0) end_release(release, site);
  return error;
}

// libc checks these before it looks at the lock, and so before any attempt of ours.
inline bool is_deadline(const timespec* time) {
  return time->tv_nsec >= 0 && time->tv_nsec < 1000000000;
}
inline bool is_wait_clock(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC;
}

inline constexpr int kProcessShared = 128;  // in __kind

// C11's mutexes are libc's own behind another name.
inline const pthread_mutex_t* mutex_of(const mtx_t* mutex) {
  return reinterpret_cast<const pthread_mutex_t*>(mutex);
}

// Nobody can hold the mutex but this thread: libc then leaves its atomics out, a trylock does not.
[[gnu::always_inline]] inline bool is_alone_with(const pthread_mutex_t* mutex) {
  return single_threaded() && (mutex->__data.__kind & kProcessShared) == 0;
}

// Whether an unlock gives the mutex up: not the inner ones of a recursive mutex.
inline bool is_last_unlock(const pthread_mutex_t* mutex) {
  return (mutex->__data.__kind & 3) != PTHREAD_MUTEX_RECURSIVE_NP || mutex->__data.__count <= 1;
}

}  // namespace mprof::preload

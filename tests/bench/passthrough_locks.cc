// SPDX-License-Identifier: Apache-2.0
// passthrough_locks.so: what libmprof.so takes over for its block, mutex and threadcreate profiles,
// forwarded to the next library, and nothing else. Its cost is the floor of any LD_PRELOAD lock
// profiler; mprof's own cost is what comes on top. Linked with libmprof.so's exports.map, so that a
// function here that libmprof.so leaves alone is left alone here too.
//
// Threads    Any. A pointer is found at its function's first call; threads that look it up at the
//            same time find the same one.
// Unwinding  A thread may be cancelled inside a wait. Every call is a tail call, a single jump: no
//            frame of ours is on the stack then.
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <threads.h>
#include <time.h>

#include <algorithm>
#include <string_view>

#define MPROF_FORWARD extern "C" __attribute__((visibility("default")))

namespace {

// glibc keeps the condition variables of before 2003, laid out differently, under the same names.
void* find(const char* name) {
  void* found = nullptr;
  if (std::string_view(name).starts_with("pthread_cond_"))
    found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
  if (found == nullptr) found = dlsym(RTLD_NEXT, name);  // pthread_cond_clockwait is younger
  if (found == nullptr) __builtin_trap();
  return found;
}

// A function's name as a template argument.
template <size_t size>
struct Name {
  consteval Name(const char (&from)[size]) { std::copy_n(from, size, text); }
  char text[size];
};

// The function of that name in the next library.
template <Name name, class Result, class... Arguments>
struct Next {
  static Result first_call(Arguments... arguments) {
    const auto found = reinterpret_cast<Result (*)(Arguments...)>(find(name.text));
    __atomic_store_n(&call, found, __ATOMIC_RELAXED);
    return found(arguments...);
  }
  static inline Result (*call)(Arguments...) = first_call;
};

template <Name name, class Result = int, class... Arguments>
Result next(Arguments... arguments) {
  return Next<name, Result, Arguments...>::call(arguments...);
}

}  // namespace

MPROF_FORWARD int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  return next<"pthread_mutex_lock">(mutex);
}
MPROF_FORWARD int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept {
  return next<"pthread_mutex_trylock">(mutex);
}
MPROF_FORWARD int pthread_mutex_timedlock(pthread_mutex_t* mutex,
                                          const timespec* deadline) noexcept {
  return next<"pthread_mutex_timedlock">(mutex, deadline);
}
MPROF_FORWARD int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock,
                                          const timespec* deadline) noexcept {
  return next<"pthread_mutex_clocklock">(mutex, clock, deadline);
}
MPROF_FORWARD int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  return next<"pthread_mutex_unlock">(mutex);
}

MPROF_FORWARD int pthread_rwlock_rdlock(pthread_rwlock_t* lock) noexcept {
  return next<"pthread_rwlock_rdlock">(lock);
}
MPROF_FORWARD int pthread_rwlock_tryrdlock(pthread_rwlock_t* lock) noexcept {
  return next<"pthread_rwlock_tryrdlock">(lock);
}
MPROF_FORWARD int pthread_rwlock_timedrdlock(pthread_rwlock_t* lock,
                                             const timespec* deadline) noexcept {
  return next<"pthread_rwlock_timedrdlock">(lock, deadline);
}
MPROF_FORWARD int pthread_rwlock_clockrdlock(pthread_rwlock_t* lock, clockid_t clock,
                                             const timespec* deadline) noexcept {
  return next<"pthread_rwlock_clockrdlock">(lock, clock, deadline);
}
MPROF_FORWARD int pthread_rwlock_wrlock(pthread_rwlock_t* lock) noexcept {
  return next<"pthread_rwlock_wrlock">(lock);
}
MPROF_FORWARD int pthread_rwlock_trywrlock(pthread_rwlock_t* lock) noexcept {
  return next<"pthread_rwlock_trywrlock">(lock);
}
MPROF_FORWARD int pthread_rwlock_timedwrlock(pthread_rwlock_t* lock,
                                             const timespec* deadline) noexcept {
  return next<"pthread_rwlock_timedwrlock">(lock, deadline);
}
MPROF_FORWARD int pthread_rwlock_clockwrlock(pthread_rwlock_t* lock, clockid_t clock,
                                             const timespec* deadline) noexcept {
  return next<"pthread_rwlock_clockwrlock">(lock, clock, deadline);
}
MPROF_FORWARD int pthread_rwlock_unlock(pthread_rwlock_t* lock) noexcept {
  return next<"pthread_rwlock_unlock">(lock);
}

MPROF_FORWARD int pthread_cond_wait(pthread_cond_t* cond, pthread_mutex_t* mutex) {
  return next<"pthread_cond_wait">(cond, mutex);
}
MPROF_FORWARD int pthread_cond_timedwait(pthread_cond_t* cond, pthread_mutex_t* mutex,
                                         const timespec* deadline) {
  return next<"pthread_cond_timedwait">(cond, mutex, deadline);
}
MPROF_FORWARD int pthread_cond_clockwait(pthread_cond_t* cond, pthread_mutex_t* mutex,
                                         clockid_t clock, const timespec* deadline) {
  return next<"pthread_cond_clockwait">(cond, mutex, clock, deadline);
}
MPROF_FORWARD int pthread_cond_signal(pthread_cond_t* cond) noexcept {
  return next<"pthread_cond_signal">(cond);
}
MPROF_FORWARD int pthread_cond_broadcast(pthread_cond_t* cond) noexcept {
  return next<"pthread_cond_broadcast">(cond);
}

MPROF_FORWARD int pthread_spin_lock(pthread_spinlock_t* lock) noexcept {
  return next<"pthread_spin_lock">(lock);
}
MPROF_FORWARD int pthread_spin_trylock(pthread_spinlock_t* lock) noexcept {
  return next<"pthread_spin_trylock">(lock);
}
MPROF_FORWARD int pthread_spin_unlock(pthread_spinlock_t* lock) noexcept {
  return next<"pthread_spin_unlock">(lock);
}

MPROF_FORWARD int sem_wait(sem_t* semaphore) { return next<"sem_wait">(semaphore); }
MPROF_FORWARD int sem_trywait(sem_t* semaphore) noexcept { return next<"sem_trywait">(semaphore); }
MPROF_FORWARD int sem_timedwait(sem_t* semaphore, const timespec* deadline) {
  return next<"sem_timedwait">(semaphore, deadline);
}
MPROF_FORWARD int sem_clockwait(sem_t* semaphore, clockid_t clock, const timespec* deadline) {
  return next<"sem_clockwait">(semaphore, clock, deadline);
}
MPROF_FORWARD int sem_post(sem_t* semaphore) noexcept { return next<"sem_post">(semaphore); }

MPROF_FORWARD int pthread_barrier_wait(pthread_barrier_t* barrier) noexcept {
  return next<"pthread_barrier_wait">(barrier);
}

MPROF_FORWARD int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                 void* (*start)(void*), void* argument) noexcept {
  return next<"pthread_create">(thread, attributes, start, argument);
}
MPROF_FORWARD int pthread_join(pthread_t thread, void** result) {
  return next<"pthread_join">(thread, result);
}
MPROF_FORWARD int pthread_setname_np(pthread_t thread, const char* name) noexcept {
  return next<"pthread_setname_np">(thread, name);
}
MPROF_FORWARD int pthread_tryjoin_np(pthread_t thread, void** result) noexcept {
  return next<"pthread_tryjoin_np">(thread, result);
}
MPROF_FORWARD int pthread_timedjoin_np(pthread_t thread, void** result, const timespec* deadline) {
  return next<"pthread_timedjoin_np">(thread, result, deadline);
}
MPROF_FORWARD int pthread_clockjoin_np(pthread_t thread, void** result, clockid_t clock,
                                       const timespec* deadline) {
  return next<"pthread_clockjoin_np">(thread, result, clock, deadline);
}

MPROF_FORWARD int mtx_lock(mtx_t* mutex) { return next<"mtx_lock">(mutex); }
MPROF_FORWARD int mtx_trylock(mtx_t* mutex) { return next<"mtx_trylock">(mutex); }
MPROF_FORWARD int mtx_timedlock(mtx_t* mutex, const timespec* deadline) {
  return next<"mtx_timedlock">(mutex, deadline);
}
MPROF_FORWARD int mtx_unlock(mtx_t* mutex) { return next<"mtx_unlock">(mutex); }
MPROF_FORWARD int cnd_wait(cnd_t* cond, mtx_t* mutex) { return next<"cnd_wait">(cond, mutex); }
MPROF_FORWARD int cnd_timedwait(cnd_t* cond, mtx_t* mutex, const timespec* deadline) {
  return next<"cnd_timedwait">(cond, mutex, deadline);
}
MPROF_FORWARD int cnd_signal(cnd_t* cond) { return next<"cnd_signal">(cond); }
MPROF_FORWARD int cnd_broadcast(cnd_t* cond) { return next<"cnd_broadcast">(cond); }
MPROF_FORWARD int thrd_create(thrd_t* thread, thrd_start_t start, void* argument) {
  return next<"thrd_create">(thread, start, argument);
}
MPROF_FORWARD int thrd_join(thrd_t thread, int* result) {
  return next<"thrd_join">(thread, result);
}

// Declared here and not in a header, which says `...`: all six arguments are handed on, whatever
// the number takes.
MPROF_FORWARD long syscall(long number, long a, long b, long c, long d, long e, long f) {
  return next<"syscall", long>(number, a, b, c, d, e, f);
}

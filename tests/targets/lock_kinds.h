// SPDX-License-Identifier: Apache-2.0
// The kinds of lock that lock_truth.cc makes threads wait for: how each is taken and let go, under
// the name that the profiles must have for it.
//
// kAcquire and kRelease are the functions themselves where that is possible, so that a site is what
// calls them. kLock is the symbol of the lock, 0x and a word where it has none, - where the C++
// library waits somewhere else. `prepare` makes the lock; false where this user may not have it.
// For lock_truth.cc alone: the locks are plain globals, as programs have them.
#pragma once

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <threads.h>

#include <condition_variable>
#include <future>
#include <latch>
#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <thread>

#include "tests/targets/lock_events.h"

using lock_events::fail;
using lock_events::in_ms;
using lock_events::nap_ms;

struct PthreadMutex {
  static constexpr const char* kWait = "mutex";
  static bool prepare() { return true; }
  static constexpr auto kAcquire = pthread_mutex_lock;
  static constexpr auto kRelease = pthread_mutex_unlock;
  static void set(pthread_mutex_t* mutex, int type, int protocol = PTHREAD_PRIO_NONE,
                  int robustness = PTHREAD_MUTEX_STALLED, int sharing = PTHREAD_PROCESS_PRIVATE) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, type);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutexattr_setrobust(&attributes, robustness);
    pthread_mutexattr_setpshared(&attributes, sharing);
    if (protocol == PTHREAD_PRIO_PROTECT)
      pthread_mutexattr_setprioceiling(&attributes, sched_get_priority_min(SCHED_FIFO));
    if (pthread_mutex_init(mutex, &attributes) != 0) fail("pthread_mutex_init");
    pthread_mutexattr_destroy(&attributes);
  }
};

pthread_mutex_t normal_mutex;
struct NormalMutex : PthreadMutex {
  static constexpr const char *kName = "NormalMutex", *kLock = "normal_mutex";
  static auto* object() { return &normal_mutex; }
  static bool prepare() { return set(object(), PTHREAD_MUTEX_NORMAL), true; }
};
pthread_mutex_t recursive_mutex;
struct RecursiveMutex : PthreadMutex {
  static constexpr const char *kName = "RecursiveMutex", *kLock = "recursive_mutex";
  static auto* object() { return &recursive_mutex; }
  static bool prepare() { return set(object(), PTHREAD_MUTEX_RECURSIVE), true; }
};
pthread_mutex_t errorcheck_mutex;
struct ErrorcheckMutex : PthreadMutex {
  static constexpr const char *kName = "ErrorcheckMutex", *kLock = "errorcheck_mutex";
  static auto* object() { return &errorcheck_mutex; }
  static bool prepare() { return set(object(), PTHREAD_MUTEX_ERRORCHECK), true; }
};
pthread_mutex_t adaptive_mutex;
struct AdaptiveMutex : PthreadMutex {
  static constexpr const char *kName = "AdaptiveMutex", *kLock = "adaptive_mutex";
  static auto* object() { return &adaptive_mutex; }
  static bool prepare() { return set(object(), PTHREAD_MUTEX_ADAPTIVE_NP), true; }
};
pthread_mutex_t robust_mutex;
struct RobustMutex : PthreadMutex {
  static constexpr const char *kName = "RobustMutex", *kLock = "robust_mutex";
  static auto* object() { return &robust_mutex; }
  static bool prepare() {
    return set(object(), PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST), true;
  }
};
pthread_mutex_t inheriting_mutex;
struct InheritingMutex : PthreadMutex {
  static constexpr const char *kName = "InheritingMutex", *kLock = "inheriting_mutex";
  static auto* object() { return &inheriting_mutex; }
  static bool prepare() { return set(object(), PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT), true; }
};
pthread_mutex_t ceiling_mutex;
// A thread that has no real-time priority cannot take a mutex with a ceiling.
bool run_fifo() {
  const sched_param lowest = {sched_get_priority_min(SCHED_FIFO)};
  return pthread_setschedparam(pthread_self(), SCHED_FIFO, &lowest) == 0;
}
bool may_run_fifo() {
  const sched_param none = {0};
  return run_fifo() && pthread_setschedparam(pthread_self(), SCHED_OTHER, &none) == 0;
}
template <void (*body)()>
void as_fifo() {
  run_fifo();
  body();
}
struct CeilingMutex : PthreadMutex {
  static constexpr const char *kName = "CeilingMutex", *kLock = "ceiling_mutex";
  static auto* object() { return &ceiling_mutex; }
  static bool prepare() {
    set(object(), PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_PROTECT);
    return may_run_fifo();
  }
};
pthread_mutex_t* shared_page_mutex;
struct ProcessSharedMutex : PthreadMutex {
  static constexpr const char *kName = "ProcessSharedMutex", *kLock = "0x: shared page";
  static auto* object() { return shared_page_mutex; }
  static bool prepare() {
    shared_page_mutex = static_cast<pthread_mutex_t*>(
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    set(object(), PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED,
        PTHREAD_PROCESS_SHARED);
    return true;
  }
};
pthread_mutex_t* heap_mutex;
extern "C" [[gnu::noinline]] void allocate_lock() {
  heap_mutex = static_cast<pthread_mutex_t*>(malloc(sizeof *heap_mutex));
}
struct HeapMutex : PthreadMutex {
  static constexpr const char *kName = "HeapMutex", *kLock = "0x: allocate_lock";
  static auto* object() { return heap_mutex; }
  static bool prepare() {
    allocate_lock();
    return set(object(), PTHREAD_MUTEX_NORMAL), true;
  }
};
struct {
  long before[2];
  pthread_mutex_t mutex;
} state;
struct MemberMutex : PthreadMutex {
  static constexpr const char *kName = "MemberMutex", *kLock = "state+0x10";
  static auto* object() { return &state.mutex; }
  static bool prepare() { return set(object(), PTHREAD_MUTEX_NORMAL), true; }
};
pthread_mutex_t timed_mutex = PTHREAD_MUTEX_INITIALIZER;
struct TimedMutex : PthreadMutex {
  static constexpr const char *kName = "TimedMutex", *kLock = "timed_mutex";
  static auto* object() { return &timed_mutex; }
  static constexpr auto kAcquire = [](pthread_mutex_t* mutex) {
    const timespec end = in_ms(CLOCK_REALTIME, 5000);
    return pthread_mutex_timedlock(mutex, &end);
  };
};
pthread_mutex_t clock_mutex = PTHREAD_MUTEX_INITIALIZER;
struct ClockMutex : PthreadMutex {
  static constexpr const char *kName = "ClockMutex", *kLock = "clock_mutex";
  static auto* object() { return &clock_mutex; }
  static constexpr auto kAcquire = [](pthread_mutex_t* mutex) {
    const timespec end = in_ms(CLOCK_MONOTONIC, 5000);
    return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &end);
  };
};
pthread_mutex_t chain_mutex = PTHREAD_MUTEX_INITIALIZER;
struct ChainMutex : PthreadMutex {
  static constexpr const char *kName = "ChainMutex", *kLock = "chain_mutex";
  static auto* object() { return &chain_mutex; }
};

pthread_spinlock_t spin_lock;
struct SpinLock {
  static constexpr const char *kName = "SpinLock", *kLock = "spin_lock", *kWait = "spin";
  static constexpr auto kAcquire = pthread_spin_lock;
  static constexpr auto kRelease = pthread_spin_unlock;
  static auto* object() { return &spin_lock; }
  static bool prepare() { return pthread_spin_init(object(), PTHREAD_PROCESS_PRIVATE) == 0; }
};

struct PthreadRwlock {
  static constexpr const char* kWait = "rwlock write";
  static constexpr auto kAcquire = pthread_rwlock_wrlock;
  static constexpr auto kAcquireRead = pthread_rwlock_rdlock;
  static constexpr auto kRelease = pthread_rwlock_unlock;
  static constexpr auto kReleaseRead = pthread_rwlock_unlock;
  static bool prepare() { return true; }
};
pthread_rwlock_t rwlock_of_readers = PTHREAD_RWLOCK_INITIALIZER;
struct RwlockOfReaders : PthreadRwlock {
  static constexpr const char *kName = "RwlockOfReaders", *kLock = "rwlock_of_readers";
  static auto* object() { return &rwlock_of_readers; }
};
pthread_rwlock_t rwlock_of_writers = PTHREAD_RWLOCK_INITIALIZER;
struct RwlockOfWriters : PthreadRwlock {
  static constexpr const char *kName = "RwlockOfWriters", *kLock = "rwlock_of_writers";
  static auto* object() { return &rwlock_of_writers; }
};
pthread_rwlock_t rwlock_written = PTHREAD_RWLOCK_INITIALIZER;
struct RwlockWritten : PthreadRwlock {
  static constexpr const char *kName = "RwlockWritten", *kLock = "rwlock_written";
  static auto* object() { return &rwlock_written; }
};
pthread_rwlock_t rwlock_writer_first = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
struct RwlockWriterFirst : PthreadRwlock {
  static constexpr const char *kName = "RwlockWriterFirst", *kLock = "rwlock_writer_first";
  static auto* object() { return &rwlock_writer_first; }
};
pthread_rwlock_t timed_rwlock = PTHREAD_RWLOCK_INITIALIZER;
struct TimedRwlock : PthreadRwlock {
  static constexpr const char *kName = "TimedRwlock", *kLock = "timed_rwlock";
  static auto* object() { return &timed_rwlock; }
  static constexpr auto kAcquire = [](pthread_rwlock_t* lock) {
    const timespec end = in_ms(CLOCK_REALTIME, 5000);
    return pthread_rwlock_timedwrlock(lock, &end);
  };
  static constexpr auto kAcquireRead = [](pthread_rwlock_t* lock) {
    const timespec end = in_ms(CLOCK_REALTIME, 5000);
    return pthread_rwlock_timedrdlock(lock, &end);
  };
};
pthread_rwlock_t clock_rwlock = PTHREAD_RWLOCK_INITIALIZER;
struct ClockRwlock : PthreadRwlock {
  static constexpr const char *kName = "ClockRwlock", *kLock = "clock_rwlock";
  static auto* object() { return &clock_rwlock; }
  static constexpr auto kAcquire = [](pthread_rwlock_t* lock) {
    const timespec end = in_ms(CLOCK_MONOTONIC, 5000);
    return pthread_rwlock_clockwrlock(lock, CLOCK_MONOTONIC, &end);
  };
  static constexpr auto kAcquireRead = [](pthread_rwlock_t* lock) {
    const timespec end = in_ms(CLOCK_MONOTONIC, 5000);
    return pthread_rwlock_clockrdlock(lock, CLOCK_MONOTONIC, &end);
  };
};

struct PosixSemaphore {
  static constexpr const char* kWait = "semaphore";
  static constexpr auto kAcquire = sem_wait;
  static constexpr auto kRelease = sem_post;
};
sem_t semaphore;
struct Semaphore : PosixSemaphore {
  static constexpr const char *kName = "Semaphore", *kLock = "semaphore";
  static auto* object() { return &semaphore; }
  static bool prepare() { return sem_init(object(), 0, 1) == 0; }
};
sem_t timed_semaphore;
struct TimedSemaphore : PosixSemaphore {
  static constexpr const char *kName = "TimedSemaphore", *kLock = "timed_semaphore";
  static auto* object() { return &timed_semaphore; }
  static bool prepare() { return sem_init(object(), 0, 1) == 0; }
  static constexpr auto kAcquire = [](sem_t* lock) {
    const timespec end = in_ms(CLOCK_REALTIME, 5000);
    return sem_timedwait(lock, &end);
  };
};
sem_t clock_semaphore;
struct ClockSemaphore : PosixSemaphore {
  static constexpr const char *kName = "ClockSemaphore", *kLock = "clock_semaphore";
  static auto* object() { return &clock_semaphore; }
  static bool prepare() { return sem_init(object(), 0, 1) == 0; }
  static constexpr auto kAcquire = [](sem_t* lock) {
    const timespec end = in_ms(CLOCK_MONOTONIC, 5000);
    return sem_clockwait(lock, CLOCK_MONOTONIC, &end);
  };
};

pthread_barrier_t pthread_barrier;
struct PthreadBarrier {
  static constexpr const char *kName = "PthreadBarrier", *kLock = "pthread_barrier";
  static constexpr const char* kWait = "barrier";
  static bool prepare() { return pthread_barrier_init(&pthread_barrier, nullptr, 4) == 0; }
  static void arrive() { pthread_barrier_wait(&pthread_barrier); }
  static void arrive_last() { arrive(); }
};

// Deadlines that pass: what is waited for is taken, and stays so.

constexpr int kExpireMs = 150;
inline timespec in_a_while(clockid_t clock) { return in_ms(clock, kExpireMs); }

pthread_mutex_t taken_mutex = PTHREAD_MUTEX_INITIALIZER;
struct ExpiringTimedlock : PthreadMutex {
  static constexpr const char *kName = "ExpiringTimedlock", *kLock = "taken_mutex";
  static auto* object() { return &taken_mutex; }
  static bool prepare() { return pthread_mutex_lock(object()) == 0; }
  static constexpr auto kAcquire = [](pthread_mutex_t* mutex) {
    const timespec end = in_a_while(CLOCK_REALTIME);
    return pthread_mutex_timedlock(mutex, &end);
  };
};
struct ExpiringClocklock : ExpiringTimedlock {
  static constexpr const char* kName = "ExpiringClocklock";
  static bool prepare() { return true; }
  static constexpr auto kAcquire = [](pthread_mutex_t* mutex) {
    const timespec end = in_a_while(CLOCK_MONOTONIC);
    return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &end);
  };
};
pthread_rwlock_t taken_rwlock = PTHREAD_RWLOCK_INITIALIZER;
struct ExpiringTimedwrlock {
  static constexpr const char *kName = "ExpiringTimedwrlock", *kLock = "taken_rwlock";
  static constexpr const char* kWait = "rwlock write";
  static auto* object() { return &taken_rwlock; }
  static bool prepare() { return pthread_rwlock_wrlock(object()) == 0; }
  static constexpr auto kAcquire = [](pthread_rwlock_t* lock) {
    const timespec end = in_a_while(CLOCK_REALTIME);
    return pthread_rwlock_timedwrlock(lock, &end);
  };
};
struct ExpiringClockwrlock : ExpiringTimedwrlock {
  static constexpr const char* kName = "ExpiringClockwrlock";
  static bool prepare() { return true; }
  static constexpr auto kAcquire = [](pthread_rwlock_t* lock) {
    const timespec end = in_a_while(CLOCK_MONOTONIC);
    return pthread_rwlock_clockwrlock(lock, CLOCK_MONOTONIC, &end);
  };
};
struct ExpiringTimedrdlock : ExpiringTimedwrlock {
  static constexpr const char *kName = "ExpiringTimedrdlock", *kWait = "rwlock read";
  static bool prepare() { return true; }
  static constexpr auto kAcquire = [](pthread_rwlock_t* lock) {
    const timespec end = in_a_while(CLOCK_REALTIME);
    return pthread_rwlock_timedrdlock(lock, &end);
  };
};
struct ExpiringClockrdlock : ExpiringTimedrdlock {
  static constexpr const char* kName = "ExpiringClockrdlock";
  static constexpr auto kAcquire = [](pthread_rwlock_t* lock) {
    const timespec end = in_a_while(CLOCK_MONOTONIC);
    return pthread_rwlock_clockrdlock(lock, CLOCK_MONOTONIC, &end);
  };
};
sem_t empty_semaphore;
struct ExpiringSemTimedwait {
  static constexpr const char *kName = "ExpiringSemTimedwait", *kLock = "empty_semaphore";
  static constexpr const char* kWait = "semaphore";
  static auto* object() { return &empty_semaphore; }
  static bool prepare() { return sem_init(object(), 0, 0) == 0; }
  static constexpr auto kAcquire = [](sem_t* lock) {
    const timespec end = in_a_while(CLOCK_REALTIME);
    return sem_timedwait(lock, &end) == 0 ? 0 : errno;
  };
};
struct ExpiringSemClockwait : ExpiringSemTimedwait {
  static constexpr const char* kName = "ExpiringSemClockwait";
  static bool prepare() { return true; }
  static constexpr auto kAcquire = [](sem_t* lock) {
    const timespec end = in_a_while(CLOCK_MONOTONIC);
    return sem_clockwait(lock, CLOCK_MONOTONIC, &end) == 0 ? 0 : errno;
  };
};
pthread_mutex_t timedwait_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t silent_cond = PTHREAD_COND_INITIALIZER;
struct ExpiringTimedwait {
  static constexpr const char *kName = "ExpiringTimedwait", *kLock = "silent_cond";
  static constexpr const char* kMutex = "timedwait_mutex";
  static constexpr const char* kWait = "cond";
  static pthread_mutex_t* object() { return &timedwait_mutex; }
  static bool prepare() { return true; }
  static constexpr auto kAcquire = [](pthread_mutex_t* mutex) {
    const timespec end = in_a_while(CLOCK_REALTIME);
    pthread_mutex_lock(mutex);
    const int result = pthread_cond_timedwait(&silent_cond, mutex, &end);
    pthread_mutex_unlock(mutex);
    return result;
  };
};
pthread_mutex_t clockwait_mutex = PTHREAD_MUTEX_INITIALIZER;
struct ExpiringClockwait : ExpiringTimedwait {
  static constexpr const char *kName = "ExpiringClockwait", *kMutex = "clockwait_mutex";
  static pthread_mutex_t* object() { return &clockwait_mutex; }
  static constexpr auto kAcquire = [](pthread_mutex_t* mutex) {
    const timespec end = in_a_while(CLOCK_MONOTONIC);
    pthread_mutex_lock(mutex);
    const int result = pthread_cond_clockwait(&silent_cond, mutex, CLOCK_MONOTONIC, &end);
    pthread_mutex_unlock(mutex);
    return result;
  };
};
// Longer than any deadline.
inline void* outlive_deadlines(void*) {
  nap_ms(2 * kExpireMs);
  return nullptr;
}
pthread_t long_thread[2];
struct ExpiringTimedjoin {
  static constexpr const char *kName = "ExpiringTimedjoin", *kLock = "-", *kWait = "join";
  static pthread_t* object() { return &long_thread[0]; }
  static bool prepare() {
    return pthread_create(object(), nullptr, outlive_deadlines, nullptr) == 0;
  }
  static constexpr auto kAcquire = [](pthread_t* thread) {
    const timespec end = in_a_while(CLOCK_REALTIME);
    return pthread_timedjoin_np(*thread, nullptr, &end);
  };
};
struct ExpiringClockjoin : ExpiringTimedjoin {
  static constexpr const char* kName = "ExpiringClockjoin";
  static pthread_t* object() { return &long_thread[1]; }
  static bool prepare() {
    return pthread_create(object(), nullptr, outlive_deadlines, nullptr) == 0;
  }
  static constexpr auto kAcquire = [](pthread_t* thread) {
    const timespec end = in_a_while(CLOCK_MONOTONIC);
    return pthread_clockjoin_np(*thread, nullptr, CLOCK_MONOTONIC, &end);
  };
};

// Condition variables: a mutex, a condition, how to wait.

pthread_mutex_t signal_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t signal_cond = PTHREAD_COND_INITIALIZER;
struct SignalOne {
  static constexpr const char *kName = "SignalOne", *kMutex = "signal_mutex";
  static constexpr const char* kCond = "signal_cond";
  static constexpr int kSleepers = 1;
  static bool prepare() { return true; }
  static void lock() { pthread_mutex_lock(&signal_mutex); }
  static bool try_lock() { return pthread_mutex_trylock(&signal_mutex) == 0; }
  static void unlock() { pthread_mutex_unlock(&signal_mutex); }
  static void signal() { pthread_cond_signal(&signal_cond); }
  static void wait() { pthread_cond_wait(&signal_cond, &signal_mutex); }
};
pthread_mutex_t broadcast_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t broadcast_cond = PTHREAD_COND_INITIALIZER;
struct BroadcastThree {
  static constexpr const char *kName = "BroadcastThree", *kMutex = "broadcast_mutex";
  static constexpr const char* kCond = "broadcast_cond";
  static constexpr int kSleepers = 3;
  static bool prepare() { return true; }
  static void lock() { pthread_mutex_lock(&broadcast_mutex); }
  static bool try_lock() { return pthread_mutex_trylock(&broadcast_mutex) == 0; }
  static void unlock() { pthread_mutex_unlock(&broadcast_mutex); }
  static void signal() { pthread_cond_broadcast(&broadcast_cond); }
  static void wait() { pthread_cond_wait(&broadcast_cond, &broadcast_mutex); }
};
pthread_mutex_t timed_signal_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t timed_signal_cond = PTHREAD_COND_INITIALIZER;
struct TimedSignal {
  static constexpr const char *kName = "TimedSignal", *kMutex = "timed_signal_mutex";
  static constexpr const char* kCond = "timed_signal_cond";
  static constexpr int kSleepers = 1;
  static bool prepare() { return true; }
  static void lock() { pthread_mutex_lock(&timed_signal_mutex); }
  static bool try_lock() { return pthread_mutex_trylock(&timed_signal_mutex) == 0; }
  static void unlock() { pthread_mutex_unlock(&timed_signal_mutex); }
  static void signal() { pthread_cond_signal(&timed_signal_cond); }
  static void wait() {
    const timespec end = in_ms(CLOCK_REALTIME, 5000);
    if (pthread_cond_timedwait(&timed_signal_cond, &timed_signal_mutex, &end) != 0) fail(kName);
  }
};
pthread_mutex_t clock_signal_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t clock_signal_cond = PTHREAD_COND_INITIALIZER;
struct ClockSignal {
  static constexpr const char *kName = "ClockSignal", *kMutex = "clock_signal_mutex";
  static constexpr const char* kCond = "clock_signal_cond";
  static constexpr int kSleepers = 1;
  static bool prepare() { return true; }
  static void lock() { pthread_mutex_lock(&clock_signal_mutex); }
  static bool try_lock() { return pthread_mutex_trylock(&clock_signal_mutex) == 0; }
  static void unlock() { pthread_mutex_unlock(&clock_signal_mutex); }
  static void signal() { pthread_cond_signal(&clock_signal_cond); }
  static void wait() {
    const timespec end = in_ms(CLOCK_MONOTONIC, 5000);
    if (pthread_cond_clockwait(&clock_signal_cond, &clock_signal_mutex, CLOCK_MONOTONIC, &end) != 0)
      fail(kName);
  }
};
pthread_mutex_t given_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t given_cond = PTHREAD_COND_INITIALIZER;
struct GivenUp {
  static constexpr const char *kName = "GivenUp", *kMutex = "given_mutex", *kCond = "given_cond";
  static bool prepare() { return true; }
  static void lock() { pthread_mutex_lock(&given_mutex); }
  static void unlock() { pthread_mutex_unlock(&given_mutex); }
  static void signal() { pthread_cond_signal(&given_cond); }
  static void wait() { pthread_cond_wait(&given_cond, &given_mutex); }
};

struct Join {
  static constexpr const char* kName = "Join";
  using Thread = pthread_t;
  using Result = void*;
  static bool prepare() { return true; }
  static pthread_t start(void* (*body)(void*)) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, body, nullptr) != 0) fail(kName);
    return thread;
  }
  static constexpr auto kJoin = [](pthread_t& thread) { return pthread_join(thread, nullptr); };
};
struct TimedJoin : Join {
  static constexpr const char* kName = "TimedJoin";
  static constexpr auto kJoin = [](pthread_t& thread) {
    const timespec end = in_ms(CLOCK_REALTIME, 5000);
    return pthread_timedjoin_np(thread, nullptr, &end);
  };
};
struct ClockJoin : Join {
  static constexpr const char* kName = "ClockJoin";
  static constexpr auto kJoin = [](pthread_t& thread) {
    const timespec end = in_ms(CLOCK_MONOTONIC, 5000);
    return pthread_clockjoin_np(thread, nullptr, CLOCK_MONOTONIC, &end);
  };
};

// C11

mtx_t plain_mtx;
struct PlainMtx {
  static constexpr const char *kName = "PlainMtx", *kLock = "plain_mtx", *kWait = "mutex";
  static constexpr auto kAcquire = mtx_lock;
  static constexpr auto kRelease = mtx_unlock;
  static auto* object() { return &plain_mtx; }
  static bool prepare() { return mtx_init(object(), mtx_plain) == thrd_success; }
};
mtx_t recursive_mtx;
struct RecursiveMtx : PlainMtx {
  static constexpr const char *kName = "RecursiveMtx", *kLock = "recursive_mtx";
  static auto* object() { return &recursive_mtx; }
  static bool prepare() { return mtx_init(object(), mtx_plain | mtx_recursive) == thrd_success; }
};
mtx_t timed_mtx;
struct TimedMtx : PlainMtx {
  static constexpr const char *kName = "TimedMtx", *kLock = "timed_mtx";
  static auto* object() { return &timed_mtx; }
  static bool prepare() { return mtx_init(object(), mtx_timed) == thrd_success; }
  static constexpr auto kAcquire = [](mtx_t* mutex) {
    const timespec end = in_ms(CLOCK_REALTIME, 5000);
    return mtx_timedlock(mutex, &end);
  };
};
mtx_t taken_mtx;
struct ExpiringMtx : PlainMtx {
  static constexpr const char *kName = "ExpiringMtx", *kLock = "taken_mtx";
  static auto* object() { return &taken_mtx; }
  static bool prepare() {
    return mtx_init(object(), mtx_timed) == thrd_success && mtx_lock(object()) == thrd_success;
  }
  static constexpr auto kAcquire = [](mtx_t* mutex) {
    const timespec end = in_a_while(CLOCK_REALTIME);
    return mtx_timedlock(mutex, &end) == thrd_timedout ? ETIMEDOUT : 0;
  };
};
mtx_t cnd_timedwait_mtx;
cnd_t silent_cnd;
struct ExpiringCnd {
  static constexpr const char *kName = "ExpiringCnd", *kLock = "silent_cnd", *kWait = "cond";
  static constexpr const char* kMutex = "cnd_timedwait_mtx";
  static mtx_t* object() { return &cnd_timedwait_mtx; }
  static bool prepare() {
    return mtx_init(object(), mtx_plain) == thrd_success && cnd_init(&silent_cnd) == thrd_success;
  }
  static constexpr auto kAcquire = [](mtx_t* mutex) {
    const timespec end = in_a_while(CLOCK_REALTIME);
    mtx_lock(mutex);
    const int result = cnd_timedwait(&silent_cnd, mutex, &end);
    mtx_unlock(mutex);
    return result == thrd_timedout ? ETIMEDOUT : 0;
  };
};
mtx_t signal_mtx;
cnd_t signal_cnd;
struct CndSignal {
  static constexpr const char *kName = "CndSignal", *kMutex = "signal_mtx", *kCond = "signal_cnd";
  static constexpr int kSleepers = 1;
  static bool prepare() {
    return mtx_init(&signal_mtx, mtx_plain) == thrd_success &&
           cnd_init(&signal_cnd) == thrd_success;
  }
  static void lock() { mtx_lock(&signal_mtx); }
  static bool try_lock() { return mtx_trylock(&signal_mtx) == thrd_success; }
  static void unlock() { mtx_unlock(&signal_mtx); }
  static void signal() { cnd_signal(&signal_cnd); }
  static void wait() { cnd_wait(&signal_cnd, &signal_mtx); }
};
mtx_t broadcast_mtx;
cnd_t broadcast_cnd;
struct CndBroadcast {
  static constexpr const char *kName = "CndBroadcast", *kMutex = "broadcast_mtx";
  static constexpr const char* kCond = "broadcast_cnd";
  static constexpr int kSleepers = 2;
  static bool prepare() {
    return mtx_init(&broadcast_mtx, mtx_plain) == thrd_success &&
           cnd_init(&broadcast_cnd) == thrd_success;
  }
  static void lock() { mtx_lock(&broadcast_mtx); }
  static bool try_lock() { return mtx_trylock(&broadcast_mtx) == thrd_success; }
  static void unlock() { mtx_unlock(&broadcast_mtx); }
  static void signal() { cnd_broadcast(&broadcast_cnd); }
  static void wait() {
    const timespec end = in_ms(CLOCK_REALTIME, 5000);
    if (cnd_timedwait(&broadcast_cnd, &broadcast_mtx, &end) != thrd_success) fail(kName);
  }
};
mtx_t given_mtx;
cnd_t given_cnd;
struct CndGivenUp {
  static constexpr const char *kName = "CndGivenUp", *kMutex = "given_mtx", *kCond = "given_cnd";
  static bool prepare() {
    return mtx_init(&given_mtx, mtx_plain) == thrd_success && cnd_init(&given_cnd) == thrd_success;
  }
  static void lock() { mtx_lock(&given_mtx); }
  static void unlock() { mtx_unlock(&given_mtx); }
  static void signal() { cnd_signal(&given_cnd); }
  static void wait() { cnd_wait(&given_cnd, &given_mtx); }
};
struct ThrdJoin {
  static constexpr const char* kName = "ThrdJoin";
  using Thread = thrd_t;
  using Result = int;
  static bool prepare() { return true; }
  static thrd_t start(int (*body)(void*)) {
    thrd_t thread;
    if (thrd_create(&thread, body, nullptr) != thrd_success) fail(kName);
    return thread;
  }
  static constexpr auto kJoin = [](thrd_t& thread) { return thrd_join(thread, nullptr); };
};

// C++

template <class Mutex>
struct StdMutexOf {
  static constexpr const char* kWait = "mutex";
  static constexpr auto kAcquire = [](Mutex* mutex) { return mutex->lock(), 0; };
  static constexpr auto kRelease = [](Mutex* mutex) { mutex->unlock(); };
  static bool prepare() { return true; }
};
std::mutex std_mutex;
struct StdMutex : StdMutexOf<std::mutex> {
  static constexpr const char *kName = "StdMutex", *kLock = "std_mutex";
  static auto* object() { return &std_mutex; }
};
std::recursive_mutex std_recursive_mutex;
struct StdRecursiveMutex : StdMutexOf<std::recursive_mutex> {
  static constexpr const char *kName = "StdRecursiveMutex", *kLock = "std_recursive_mutex";
  static auto* object() { return &std_recursive_mutex; }
};
std::timed_mutex std_timed_mutex;
struct StdTimedMutex : StdMutexOf<std::timed_mutex> {
  static constexpr const char *kName = "StdTimedMutex", *kLock = "std_timed_mutex";
  static auto* object() { return &std_timed_mutex; }
  static constexpr auto kAcquire = [](std::timed_mutex* mutex) {
    return mutex->try_lock_for(std::chrono::seconds(5)) ? 0 : ETIMEDOUT;
  };
};
std::timed_mutex taken_std_mutex;
struct ExpiringStdMutex : StdMutexOf<std::timed_mutex> {
  static constexpr const char *kName = "ExpiringStdMutex", *kLock = "taken_std_mutex";
  static auto* object() { return &taken_std_mutex; }
  static bool prepare() { return taken_std_mutex.lock(), true; }
  static constexpr auto kAcquire = [](std::timed_mutex* mutex) {
    return mutex->try_lock_for(std::chrono::milliseconds(kExpireMs)) ? 0 : ETIMEDOUT;
  };
};
std::mutex std_chain_mutex;
struct StdChainMutex : StdMutexOf<std::mutex> {
  static constexpr const char *kName = "StdChainMutex", *kLock = "std_chain_mutex";
  static auto* object() { return &std_chain_mutex; }
};
template <class Mutex>
struct StdSharedMutexOf : StdMutexOf<Mutex> {
  static constexpr const char* kWait = "rwlock write";
  static constexpr auto kAcquireRead = [](Mutex* mutex) { return mutex->lock_shared(), 0; };
  static constexpr auto kReleaseRead = [](Mutex* mutex) { mutex->unlock_shared(); };
};
std::shared_mutex std_shared_mutex;
struct StdSharedMutex : StdSharedMutexOf<std::shared_mutex> {
  static constexpr const char *kName = "StdSharedMutex", *kLock = "std_shared_mutex";
  static auto* object() { return &std_shared_mutex; }
};
std::shared_mutex std_written_mutex;
struct StdWrittenMutex : StdSharedMutexOf<std::shared_mutex> {
  static constexpr const char *kName = "StdWrittenMutex", *kLock = "std_written_mutex";
  static auto* object() { return &std_written_mutex; }
};
std::shared_timed_mutex std_shared_timed_mutex;
struct StdSharedTimedMutex : StdSharedMutexOf<std::shared_timed_mutex> {
  static constexpr const char *kName = "StdSharedTimedMutex", *kLock = "std_shared_timed_mutex";
  static auto* object() { return &std_shared_timed_mutex; }
};

struct StdCondMutexes {
  std::mutex mutex;
  std::condition_variable cond;
  void wait() {
    std::unique_lock<std::mutex> lock(mutex, std::adopt_lock);
    cond.wait(lock);
    lock.release();
  }
  void wait_for() {
    std::unique_lock<std::mutex> lock(mutex, std::adopt_lock);
    if (cond.wait_for(lock, std::chrono::seconds(5)) != std::cv_status::no_timeout)
      fail("wait_for");
    lock.release();
  }
};
StdCondMutexes std_cond;
struct StdCondition {
  static constexpr const char *kName = "StdCondition", *kMutex = "std_cond";
  static constexpr const char* kCond = "std_cond+0x28";
  static constexpr int kSleepers = 1;
  static bool prepare() { return true; }
  static void lock() { std_cond.mutex.lock(); }
  static bool try_lock() { return std_cond.mutex.try_lock(); }
  static void unlock() { std_cond.mutex.unlock(); }
  static void signal() { std_cond.cond.notify_one(); }
  static void wait() { std_cond.wait(); }
};
StdCondMutexes std_timed_cond;
struct StdTimedCondition {
  static constexpr const char *kName = "StdTimedCondition", *kMutex = "std_timed_cond";
  static constexpr const char* kCond = "std_timed_cond+0x28";
  static constexpr int kSleepers = 2;
  static bool prepare() { return true; }
  static void lock() { std_timed_cond.mutex.lock(); }
  static bool try_lock() { return std_timed_cond.mutex.try_lock(); }
  static void unlock() { std_timed_cond.mutex.unlock(); }
  static void signal() { std_timed_cond.cond.notify_all(); }
  static void wait() { std_timed_cond.wait_for(); }
};
StdCondMutexes std_given_cond;
struct StdGivenUp {
  static constexpr const char *kName = "StdGivenUp", *kMutex = "std_given_cond";
  static constexpr const char* kCond = "std_given_cond+0x28";
  static bool prepare() { return true; }
  static void lock() { std_given_cond.mutex.lock(); }
  static void unlock() { std_given_cond.mutex.unlock(); }
  static void signal() { std_given_cond.cond.notify_one(); }
  static void wait() { std_given_cond.wait(); }
};

// These wait in a futex of the C++ library, which may ask for it more than once a wait.
std::counting_semaphore<100> std_semaphore{1};
struct StdSemaphore {
  static constexpr const char *kName = "StdSemaphore", *kLock = "-", *kWait = "futex";
  static auto* object() { return &std_semaphore; }
  static bool prepare() { return true; }
  static constexpr auto kAcquire = [](auto* lock) { return lock->acquire(), 0; };
  static constexpr auto kRelease = [](auto* lock) { lock->release(); };
};
std::latch std_latch{4};
struct StdLatch {
  static constexpr const char *kName = "StdLatch", *kLock = "-", *kWait = "futex";
  static bool prepare() { return true; }
  static void arrive() { std_latch.arrive_and_wait(); }
  static void arrive_last() { arrive(); }
};
std::promise<int> std_promise;
std::shared_future<int> std_future = std_promise.get_future().share();
struct StdFuture {
  static constexpr const char *kName = "StdFuture", *kLock = "-", *kWait = "futex";
  static bool prepare() { return true; }
  static void arrive() { std_future.wait(); }
  static void arrive_last() { std_promise.set_value(1); }
};

struct StdThread {
  static constexpr const char* kName = "StdThread";
  using Thread = std::thread;
  using Result = void*;
  static bool prepare() { return true; }
  static std::thread start(void* (*body)(void*)) { return std::thread(body, nullptr); }
  static constexpr auto kJoin = [](std::thread& thread) { return thread.join(), 0; };
};
struct StdJthread {
  static constexpr const char* kName = "StdJthread";
  using Thread = std::jthread;
  using Result = void*;
  static bool prepare() { return true; }
  static std::jthread start(void* (*body)(void*)) { return std::jthread(body, nullptr); }
  static constexpr auto kJoin = [](std::jthread& thread) { return thread.join(), 0; };
};

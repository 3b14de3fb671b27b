// SPDX-License-Identifier: Apache-2.0
// What the parts of lock_results share: how they print, how they have another thread do something,
// and the mutexes of all kinds that most of them need.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// What is tried in vain ends after this; what is tried for long enough begins before.
enum { kShortMs = 15, kLongMs = 20000 };

// Before every case of a part.
extern const char* section;

static inline void show(const char* what, int result) {
  printf("%s: %s: %s\n", section, what, strerrorname_np(result));
}
static inline void show_number(const char* what, long number) {
  printf("%s: %s: %ld\n", section, what, number);
}
// For those that return -1 and set errno.
static inline void show_errno(const char* what, long result) {
  const int error = errno;
  printf("%s: %s: %ld errno %s\n", section, what, result, strerrorname_np(error));
  errno = 0;
}

static inline struct timespec in_ms(clockid_t clock, int ms) {
  struct timespec then;
  clock_gettime(clock, &then);
  then.tv_sec += (then.tv_nsec + ms * INT64_C(1000000)) / 1000000000;
  then.tv_nsec = (then.tv_nsec + ms * INT64_C(1000000)) % 1000000000;
  return then;
}
static inline int is_past(clockid_t clock, struct timespec when) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec > when.tv_sec || (now.tv_sec == when.tv_sec && now.tv_nsec >= when.tv_nsec);
}
static inline void nap_ms(int ms) {
  const struct timespec end = in_ms(CLOCK_MONOTONIC, ms);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) != 0) {
  }
}
static inline void await(atomic_int* stage, int wanted) {
  const struct timespec pause = {0, 300000};
  while (atomic_load(stage) < wanted) nanosleep(&pause, NULL);
}

// The deadlines that a timed function is given, by name.
static const struct timespec kPast = {1, 0};
static const struct timespec kBeforeTheEpoch = {-1, 0};
static const struct timespec kNegative = {1, -1};
static const struct timespec kTooMany = {1, 1000000000};

// Another thread that does something and tells what came of it.

struct Call {
  int (*function)(void*);
  void* argument;
  int result;
};
static inline void* run_call(void* argument) {
  struct Call* call = argument;
  call->result = call->function(call->argument);
  return NULL;
}
static inline int in_another_thread(int (*function)(void*), void* argument) {
  struct Call call = {function, argument, 0};
  pthread_t thread;
  if (pthread_create(&thread, NULL, run_call, &call) != 0) exit(3);
  if (pthread_join(thread, NULL) != 0) exit(3);
  return call.result;
}

static inline char state_of(pid_t tid) {
  char path[64], text[512] = "";
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  const int fd = open(path, O_RDONLY);
  if (fd < 0) return 0;
  if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
  close(fd);
  const char* after_name = strrchr(text, ')');
  return after_name != NULL ? after_name[2] : 0;
}
static inline void wait_until_state(pid_t tid, char wanted) {
  while (state_of(tid) != wanted) nap_ms(1);
}

struct Attempt {
  const char* name;
  int (*function)(void*);
};

// lock_results_mutex.c

struct MutexKind {
  const char* name;
  int type, protocol, robustness, sharing;
  int knows_its_owner;
};
enum {
  kNormal,
  kRecursive,
  kErrorcheck,
  kAdaptive,
  kSharedNormal,
  kSharedRecursive,
  kRobustNormal,
  kRobustRecursive,
  kRobustErrorcheck,
  kRobustShared,
  kInheritingNormal,
  kInheritingRecursive,
  kInheritingErrorcheck,
  kInheritingRobust,
  kMutexKindCount,
};
extern const struct MutexKind kMutexKinds[kMutexKindCount];
int make_mutex(pthread_mutex_t* mutex, const struct MutexKind* kind);
int lock(void* mutex);
int trylock(void* mutex);
int lock_and_unlock(void* mutex);
int lock_and_die(void* mutex);
int timedlock_briefly(void* mutex);
int timedlock_long(void* mutex);
struct Hold {
  pthread_mutex_t* mutex;
  atomic_int held;
  int unlocked;
};
void wait_behind(const char* what, int (*function)(void*), pthread_mutex_t* mutex);
void try_mutexes(void);

// lock_results_rwlock.c
int rdlock(void* lock);
int wrlock(void* lock);
int timedwrlock_briefly(void* lock);
void wait_behind_rwlock(const char* what, int (*first)(void*), int (*second)(void*),
                        pthread_rwlock_t* lock);
void try_rwlocks(void);

// lock_results_cond.c
extern pthread_cond_t cond;
extern atomic_int asleep;
int timedwait_briefly(void* mutex);
int clockwait_odd(void* mutex);
void try_conds(void);

// lock_results_wait.c
extern atomic_int may_end;
void* end_when_told(void* result);
long value_of(sem_t* semaphore);
void try_waits(void);

// lock_results_c11.c
void try_c11(void);

// lock_results_cancel.c
void try_cancellation(void);

// lock_results_futex.c
void try_futexes(void);

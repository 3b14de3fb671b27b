// SPDX-License-Identifier: Apache-2.0
// Read-write locks.
#include "tests/targets/lock_results.h"

int rdlock(void* lock) { return pthread_rwlock_rdlock(lock); }
int wrlock(void* lock) { return pthread_rwlock_wrlock(lock); }
static int tryrdlock(void* lock) { return pthread_rwlock_tryrdlock(lock); }
static int trywrlock(void* lock) { return pthread_rwlock_trywrlock(lock); }
static int timedrdlock_briefly(void* lock) {
  const struct timespec end = in_ms(CLOCK_REALTIME, kShortMs);
  const int result = pthread_rwlock_timedrdlock(lock, &end);
  return result == ETIMEDOUT && !is_past(CLOCK_REALTIME, end) ? EILSEQ : result;
}
int timedwrlock_briefly(void* lock) {
  const struct timespec end = in_ms(CLOCK_REALTIME, kShortMs);
  const int result = pthread_rwlock_timedwrlock(lock, &end);
  return result == ETIMEDOUT && !is_past(CLOCK_REALTIME, end) ? EILSEQ : result;
}
static int clockrdlock_briefly(void* lock) {
  const struct timespec end = in_ms(CLOCK_MONOTONIC, kShortMs);
  return pthread_rwlock_clockrdlock(lock, CLOCK_MONOTONIC, &end);
}
static int clockwrlock_briefly(void* lock) {
  const struct timespec end = in_ms(CLOCK_MONOTONIC, kShortMs);
  return pthread_rwlock_clockwrlock(lock, CLOCK_MONOTONIC, &end);
}
static int clockrdlock_odd(void* lock) {
  return pthread_rwlock_clockrdlock(lock, CLOCK_PROCESS_CPUTIME_ID, &kPast);
}
static int clockwrlock_odd(void* lock) {
  return pthread_rwlock_clockwrlock(lock, CLOCK_PROCESS_CPUTIME_ID, &kPast);
}
static int timedrdlock_past(void* lock) { return pthread_rwlock_timedrdlock(lock, &kPast); }
static int timedwrlock_past(void* lock) { return pthread_rwlock_timedwrlock(lock, &kPast); }
static int timedrdlock_epoch(void* lock) {
  return pthread_rwlock_timedrdlock(lock, &kBeforeTheEpoch);
}
static int timedwrlock_epoch(void* lock) {
  return pthread_rwlock_timedwrlock(lock, &kBeforeTheEpoch);
}
static int timedrdlock_negative(void* lock) { return pthread_rwlock_timedrdlock(lock, &kNegative); }
static int timedwrlock_negative(void* lock) { return pthread_rwlock_timedwrlock(lock, &kNegative); }
static int timedrdlock_too_many(void* lock) { return pthread_rwlock_timedrdlock(lock, &kTooMany); }
static int timedwrlock_too_many(void* lock) { return pthread_rwlock_timedwrlock(lock, &kTooMany); }

static const struct Attempt kRwlockAttempts[] = {
    {"tryrdlock", tryrdlock},
    {"trywrlock", trywrlock},
    {"timedrdlock", timedrdlock_briefly},
    {"timedwrlock", timedwrlock_briefly},
    {"clockrdlock", clockrdlock_briefly},
    {"clockwrlock", clockwrlock_briefly},
    {"clockrdlock of CPU time", clockrdlock_odd},
    {"clockwrlock of CPU time", clockwrlock_odd},
    {"timedrdlock in the past", timedrdlock_past},
    {"timedwrlock in the past", timedwrlock_past},
    {"timedrdlock before the epoch", timedrdlock_epoch},
    {"timedwrlock before the epoch", timedwrlock_epoch},
    {"timedrdlock, negative ns", timedrdlock_negative},
    {"timedwrlock, negative ns", timedwrlock_negative},
    {"timedrdlock, too many ns", timedrdlock_too_many},
    {"timedwrlock, too many ns", timedwrlock_too_many},
};
enum { kRwlockAttemptCount = sizeof kRwlockAttempts / sizeof kRwlockAttempts[0] };

static void attempt_rwlock(const char* when, pthread_rwlock_t* lock) {
  for (int i = 0; i < kRwlockAttemptCount; i++) {
    const int result = kRwlockAttempts[i].function(lock);
    printf("%s: %s, %s: %s", section, kRwlockAttempts[i].name, when, strerrorname_np(result));
    if (result == 0) printf(", unlock: %s", strerrorname_np(pthread_rwlock_unlock(lock)));
    printf("\n");
  }
}
static int attempt_read_elsewhere(void* lock) { return attempt_rwlock("read by another", lock), 0; }
static int attempt_written_elsewhere(void* lock) {
  return attempt_rwlock("written by another", lock), 0;
}

struct HoldRwlock {
  pthread_rwlock_t* lock;
  int (*take)(void*);
  atomic_int held;
};
static void* hold_rwlock_a_while(void* argument) {
  struct HoldRwlock* hold = argument;
  hold->take(hold->lock);
  atomic_store(&hold->held, 1);
  nap_ms(kShortMs);
  pthread_rwlock_unlock(hold->lock);
  return NULL;
}
void wait_behind_rwlock(const char* what, int (*first)(void*), int (*second)(void*),
                        pthread_rwlock_t* lock) {
  struct HoldRwlock hold = {lock, first, 0};
  pthread_t thread;
  pthread_create(&thread, NULL, hold_rwlock_a_while, &hold);
  await(&hold.held, 1);
  show(what, second(lock));
  show("its unlock", pthread_rwlock_unlock(lock));
  pthread_join(thread, NULL);
}

static void try_rwlock_kind(const char* name, int kind, int sharing) {
  pthread_rwlock_t lock;
  pthread_rwlockattr_t attributes;
  section = name;
  pthread_rwlockattr_init(&attributes);
  pthread_rwlockattr_setkind_np(&attributes, kind);
  pthread_rwlockattr_setpshared(&attributes, sharing);
  show("init", pthread_rwlock_init(&lock, &attributes));
  attempt_rwlock("free", &lock);
  show("rdlock", pthread_rwlock_rdlock(&lock));
  show("rdlock, own read", pthread_rwlock_rdlock(&lock));
  show("unlock", pthread_rwlock_unlock(&lock));
  attempt_rwlock("own read", &lock);
  in_another_thread(attempt_read_elsewhere, &lock);
  show("unlock", pthread_rwlock_unlock(&lock));
  show("wrlock", pthread_rwlock_wrlock(&lock));
  show("wrlock, own write", pthread_rwlock_wrlock(&lock));
  show("rdlock, own write", pthread_rwlock_rdlock(&lock));
  attempt_rwlock("own write", &lock);
  in_another_thread(attempt_written_elsewhere, &lock);
  show("unlock", pthread_rwlock_unlock(&lock));
  wait_behind_rwlock("rdlock behind a writer", wrlock, rdlock, &lock);
  wait_behind_rwlock("wrlock behind a writer", wrlock, wrlock, &lock);
  wait_behind_rwlock("wrlock behind a reader", rdlock, wrlock, &lock);
  show("destroy", pthread_rwlock_destroy(&lock));
}

// The number of readers is glibc's, from bit 3 on; the highest bit says that there are too many.
static void try_too_many_readers(void) {
  pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
  section = "too many readers";
  lock.__data.__readers = 0x7ffffff8;
  show("rdlock", pthread_rwlock_rdlock(&lock));
  show("tryrdlock", pthread_rwlock_tryrdlock(&lock));
  show("timedrdlock", timedrdlock_briefly(&lock));
}

void try_rwlocks(void) {
  try_rwlock_kind("rwlock", PTHREAD_RWLOCK_PREFER_READER_NP, PTHREAD_PROCESS_PRIVATE);
  try_rwlock_kind("rwlock for writers", PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP,
                  PTHREAD_PROCESS_PRIVATE);
  try_rwlock_kind("shared rwlock", PTHREAD_RWLOCK_PREFER_READER_NP, PTHREAD_PROCESS_SHARED);
  try_too_many_readers();
}

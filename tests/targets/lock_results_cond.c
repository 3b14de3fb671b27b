// SPDX-License-Identifier: Apache-2.0
// Condition variables.
#include "tests/targets/lock_results.h"

pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

int timedwait_briefly(void* mutex) {
  const struct timespec end = in_ms(CLOCK_REALTIME, kShortMs);
  const int result = pthread_cond_timedwait(&cond, mutex, &end);
  return result == ETIMEDOUT && !is_past(CLOCK_REALTIME, end) ? EILSEQ : result;
}
static int clockwait_briefly(void* mutex) {
  const struct timespec end = in_ms(CLOCK_MONOTONIC, kShortMs);
  const int result = pthread_cond_clockwait(&cond, mutex, CLOCK_MONOTONIC, &end);
  return result == ETIMEDOUT && !is_past(CLOCK_MONOTONIC, end) ? EILSEQ : result;
}
int clockwait_odd(void* mutex) {
  return pthread_cond_clockwait(&cond, mutex, CLOCK_PROCESS_CPUTIME_ID, &kPast);
}
static int timedwait_past(void* mutex) { return pthread_cond_timedwait(&cond, mutex, &kPast); }
static int timedwait_epoch(void* mutex) {
  return pthread_cond_timedwait(&cond, mutex, &kBeforeTheEpoch);
}
static int timedwait_negative(void* mutex) {
  return pthread_cond_timedwait(&cond, mutex, &kNegative);
}
static int timedwait_too_many(void* mutex) {
  return pthread_cond_timedwait(&cond, mutex, &kTooMany);
}

static const struct Attempt kCondAttempts[] = {
    {"timedwait", timedwait_briefly},
    {"clockwait", clockwait_briefly},
    {"clockwait of CPU time", clockwait_odd},
    {"timedwait in the past", timedwait_past},
    {"timedwait, negative ns", timedwait_negative},
    {"timedwait, too many ns", timedwait_too_many},
    {"timedwait before the epoch", timedwait_epoch},
};
enum { kCondAttemptCount = sizeof kCondAttempts / sizeof kCondAttempts[0] };

static void attempt_cond(const struct MutexKind* kind) {
  pthread_mutex_t mutex;
  make_mutex(&mutex, kind);
  section = kind->name;
  for (int i = 0; i < kCondAttemptCount; i++) {
    pthread_mutex_lock(&mutex);
    show(kCondAttempts[i].name, kCondAttempts[i].function(&mutex));
    show("trylock elsewhere after it", in_another_thread(trylock, &mutex));
    show("unlock after it", pthread_mutex_unlock(&mutex));
  }
  if (kind->knows_its_owner) {
    show("timedwait, mutex not taken", timedwait_briefly(&mutex));
    show("wait, mutex not taken", pthread_cond_wait(&cond, &mutex));
  }
}

static void try_cond_in_recursion(void) {
  pthread_mutex_t mutex;
  make_mutex(&mutex, &kMutexKinds[kRecursive]);
  section = "timedwait in recursion";
  for (int i = 0; i < 3; i++) pthread_mutex_lock(&mutex);
  show("timedwait", timedwait_briefly(&mutex));
  for (int i = 0; i < 4; i++) show("unlock", pthread_mutex_unlock(&mutex));
}

static void try_cond_of_clock(clockid_t clock, const char* name) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t mine;
  pthread_condattr_t attributes;
  section = name;
  pthread_condattr_init(&attributes);
  show("setclock", pthread_condattr_setclock(&attributes, clock));
  pthread_cond_init(&mine, &attributes);
  pthread_mutex_lock(&mutex);
  const struct timespec end = in_ms(clock, kShortMs);
  const int result = pthread_cond_timedwait(&mine, &mutex, &end);
  show("timedwait", result);
  show_number("at its deadline", is_past(clock, end));
  pthread_mutex_unlock(&mutex);
  show("destroy", pthread_cond_destroy(&mine));
}

struct Sleeper {
  pthread_mutex_t* mutex;
  int (*wait)(void*);
  int result;
  int unlocked;
};
atomic_int asleep;
static int cond_wait(void* mutex) { return pthread_cond_wait(&cond, mutex); }
static int timedwait_long(void* mutex) {
  const struct timespec end = in_ms(CLOCK_REALTIME, kLongMs);
  return pthread_cond_timedwait(&cond, mutex, &end);
}
static int clockwait_long(void* mutex) {
  const struct timespec end = in_ms(CLOCK_MONOTONIC, kLongMs);
  return pthread_cond_clockwait(&cond, mutex, CLOCK_MONOTONIC, &end);
}
static void* sleep_on_cond(void* argument) {
  struct Sleeper* sleeper = argument;
  pthread_mutex_lock(sleeper->mutex);
  atomic_fetch_add(&asleep, 1);
  sleeper->result = sleeper->wait(sleeper->mutex);
  sleeper->unlocked = pthread_mutex_unlock(sleeper->mutex);
  return NULL;
}
static void try_woken(const char* how, int (*wake)(pthread_cond_t*), int sleepers,
                      const struct MutexKind* kind, int (*wait)(void*)) {
  pthread_mutex_t mutex;
  pthread_t threads[4];
  struct Sleeper all[4];
  make_mutex(&mutex, kind);
  atomic_store(&asleep, 0);
  for (int i = 0; i < sleepers; i++) {
    all[i] = (struct Sleeper){&mutex, wait, -1, -1};
    pthread_create(&threads[i], NULL, sleep_on_cond, &all[i]);
  }
  await(&asleep, sleepers);
  pthread_mutex_lock(&mutex);
  show(how, wake(&cond));
  nap_ms(2);
  show("unlock", pthread_mutex_unlock(&mutex));
  for (int i = 0; i < sleepers; i++) {
    pthread_join(threads[i], NULL);
    show("woken", all[i].result);
    show("its unlock", all[i].unlocked);
  }
}

// The mutex of the sleeper is left locked by a thread that dies: the wait says so.
static void try_owner_dies_over_sleeper(void) {
  pthread_mutex_t mutex;
  pthread_t thread;
  struct Sleeper sleeper = {&mutex, cond_wait, -1, -1};
  make_mutex(&mutex, &kMutexKinds[kRobustNormal]);
  section = "owner dies over a sleeper";
  atomic_store(&asleep, 0);
  pthread_create(&thread, NULL, sleep_on_cond, &sleeper);
  await(&asleep, 1);
  show("lock elsewhere", in_another_thread(lock_and_die, &mutex));
  show("signal", pthread_cond_signal(&cond));
  pthread_join(thread, NULL);
  show("woken", sleeper.result);
  show("its unlock", sleeper.unlocked);
}

void try_conds(void) {
  section = "cond";
  show("signal, nobody there", pthread_cond_signal(&cond));
  show("broadcast, nobody there", pthread_cond_broadcast(&cond));
  for (int i = 0; i < kMutexKindCount; i++) attempt_cond(&kMutexKinds[i]);
  try_cond_in_recursion();
  try_cond_of_clock(CLOCK_MONOTONIC, "cond of monotonic time");
  try_cond_of_clock(CLOCK_REALTIME, "cond of real time");
  section = "woken";
  for (int i = 0; i < kMutexKindCount; i++)
    try_woken("signal", pthread_cond_signal, 1, &kMutexKinds[i], cond_wait);
  try_woken("signal", pthread_cond_signal, 1, &kMutexKinds[kNormal], timedwait_long);
  try_woken("signal", pthread_cond_signal, 1, &kMutexKinds[kNormal], clockwait_long);
  try_woken("broadcast", pthread_cond_broadcast, 4, &kMutexKinds[kNormal], cond_wait);
  try_woken("broadcast", pthread_cond_broadcast, 4, &kMutexKinds[kErrorcheck], timedwait_long);
  try_woken("broadcast", pthread_cond_broadcast, 4, &kMutexKinds[kInheritingNormal],
            clockwait_long);
  try_owner_dies_over_sleeper();
}

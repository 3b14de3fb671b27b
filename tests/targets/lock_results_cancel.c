// SPDX-License-Identifier: Apache-2.0
// Cancellation: which waits end, what the handler finds, what is left behind.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <threads.h>

#include "tests/targets/lock_results.h"

static pthread_mutex_t cancel_mutex;
static pthread_cond_t cancel_cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t cancel_rwlock;
static pthread_barrier_t cancel_barrier;
static sem_t cancel_semaphore;
static pthread_t cancel_target;
static atomic_int target_tid;

static void* cancel_target_body(void* result) {
  atomic_store(&target_tid, gettid());
  return end_when_told(result);
}
static void take_all(void) {
  make_mutex(&cancel_mutex, &kMutexKinds[kErrorcheck]);
  pthread_rwlock_init(&cancel_rwlock, NULL);
  pthread_barrier_init(&cancel_barrier, NULL, 2);
  sem_init(&cancel_semaphore, 0, 0);
  pthread_mutex_lock(&cancel_mutex);
  pthread_rwlock_wrlock(&cancel_rwlock);
  atomic_store(&may_end, 0);
  atomic_store(&target_tid, 0);
  pthread_create(&cancel_target, NULL, cancel_target_body, (void*)9);
  while (atomic_load(&target_tid) == 0) nap_ms(1);
}
static void free_all(void) {
  sem_post(&cancel_semaphore);
  pthread_rwlock_unlock(&cancel_rwlock);
  atomic_store(&may_end, 1);
  while (state_of(target_tid) != 0) nap_ms(1);
}

static int cancel_mutex_lock(void) { return pthread_mutex_lock(&cancel_mutex); }
static int cancel_mutex_timedlock(void) { return timedlock_long(&cancel_mutex); }
static int cancel_rdlock(void) { return pthread_rwlock_rdlock(&cancel_rwlock); }
static int cancel_wrlock(void) { return pthread_rwlock_wrlock(&cancel_rwlock); }
static int cancel_sem_wait(void) { return sem_wait(&cancel_semaphore); }
static int cancel_sem_timedwait(void) {
  const struct timespec end = in_ms(CLOCK_REALTIME, kLongMs);
  return sem_timedwait(&cancel_semaphore, &end);
}
static int cancel_sem_clockwait(void) {
  const struct timespec end = in_ms(CLOCK_MONOTONIC, kLongMs);
  return sem_clockwait(&cancel_semaphore, CLOCK_MONOTONIC, &end);
}
static int cancel_sem_trywait(void) { return sem_trywait(&cancel_semaphore) == 0 ? 0 : errno; }
static int cancel_join(void) { return pthread_join(cancel_target, NULL); }
static int cancel_tryjoin(void) { return pthread_tryjoin_np(cancel_target, NULL); }
static int cancel_timedjoin(void) {
  const struct timespec end = in_ms(CLOCK_REALTIME, kLongMs);
  return pthread_timedjoin_np(cancel_target, NULL, &end);
}
static int cancel_clockjoin(void) {
  const struct timespec end = in_ms(CLOCK_MONOTONIC, kLongMs);
  return pthread_clockjoin_np(cancel_target, NULL, CLOCK_MONOTONIC, &end);
}
static int cancel_thrd_join(void) { return thrd_join(cancel_target, NULL); }
static int cancel_barrier_wait(void) {
  return pthread_barrier_wait(&cancel_barrier) == PTHREAD_BARRIER_SERIAL_THREAD ? EAGAIN : 0;
}
// Who gets the mutex after this is sure to find the thread in its wait.
static void take_and_tell(void) {
  pthread_mutex_lock(&cancel_mutex);
  atomic_store(&asleep, 1);
}
static int cancel_cond_wait(void) {
  take_and_tell();
  return pthread_cond_wait(&cancel_cond, &cancel_mutex);
}
static int cancel_cond_timedwait(void) {
  const struct timespec end = in_ms(CLOCK_REALTIME, kLongMs);
  take_and_tell();
  return pthread_cond_timedwait(&cancel_cond, &cancel_mutex, &end);
}
static int cancel_cond_clockwait(void) {
  const struct timespec end = in_ms(CLOCK_MONOTONIC, kLongMs);
  take_and_tell();
  return pthread_cond_clockwait(&cancel_cond, &cancel_mutex, CLOCK_MONOTONIC, &end);
}
static int cancel_cnd_wait(void) {
  mtx_lock((mtx_t*)&cancel_mutex);
  atomic_store(&asleep, 1);
  return cnd_wait((cnd_t*)&cancel_cond, (mtx_t*)&cancel_mutex);
}
static int cancel_futex(void) {
  static int word = 1;
  const struct timespec end = {0, kShortMs * 1000000};
  return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, &end, NULL, 0) == 0 ? 0 : errno;
}

struct Waiting {
  const char* name;
  int (*wait)(void);
  int sleeps_on_cond;
};
static const struct Waiting kWaits[] = {
    {"mutex_lock", cancel_mutex_lock, 0},
    {"mutex_timedlock", cancel_mutex_timedlock, 0},
    {"rwlock_rdlock", cancel_rdlock, 0},
    {"rwlock_wrlock", cancel_wrlock, 0},
    {"sem_wait", cancel_sem_wait, 0},
    {"sem_timedwait", cancel_sem_timedwait, 0},
    {"sem_clockwait", cancel_sem_clockwait, 0},
    {"sem_trywait", cancel_sem_trywait, 0},
    {"join", cancel_join, 0},
    {"tryjoin", cancel_tryjoin, 0},
    {"timedjoin", cancel_timedjoin, 0},
    {"clockjoin", cancel_clockjoin, 0},
    {"thrd_join", cancel_thrd_join, 0},
    {"barrier_wait", cancel_barrier_wait, 0},
    {"cond_wait", cancel_cond_wait, 1},
    {"cond_timedwait", cancel_cond_timedwait, 1},
    {"cond_clockwait", cancel_cond_clockwait, 1},
    {"cnd_wait", cancel_cnd_wait, 1},
    {"futex", cancel_futex, 0},
};
enum { kWaitCount = sizeof kWaits / sizeof kWaits[0] };

// What one thread lived through.
struct Fate {
  const struct Waiting* waiting;
  int cancel_first;  // the request is there before the wait begins
  int disabled;      // and is not let through
  atomic_int tid;
  atomic_int go;
  int returned;  // -1: it did not
  int mutex_in_handler;
};
static void on_cancel(void* argument) {
  struct Fate* fate = argument;
  fate->mutex_in_handler = pthread_mutex_unlock(&cancel_mutex);
}
static void* live(void* argument) {
  struct Fate* fate = argument;
  int before;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
  atomic_store(&fate->tid, gettid());
  await(&fate->go, 1);
  if (!fate->disabled) pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before);
  pthread_cleanup_push(on_cancel, fate);
  fate->returned = fate->waiting->wait();
  pthread_testcancel();
  pthread_cleanup_pop(1);
  return NULL;
}

// Whatever it waits for is let go, so that it ends even if it is not cancelled.
static void let_go(const struct Fate* fate) {
  nap_ms(2);
  if (fate->waiting->sleeps_on_cond) {
    nap_ms(2);
    pthread_mutex_unlock(&cancel_mutex);
    nap_ms(2);
    pthread_mutex_lock(&cancel_mutex);
    pthread_cond_broadcast(&cancel_cond);
  }
  pthread_mutex_unlock(&cancel_mutex);
  free_all();
}
static void show_fate(const char* when, const struct Fate* fate, const void* result) {
  printf("cancel %s: %s: %s, returned %s, mutex in the handler %s\n", when, fate->waiting->name,
         result == PTHREAD_CANCELED ? "cancelled" : "not cancelled",
         fate->returned == -1 ? "never" : strerrorname_np(fate->returned),
         strerrorname_np(fate->mutex_in_handler));
}
static int joins(const struct Waiting* waiting) { return strstr(waiting->name, "join") != NULL; }
static void show_what_is_left(const struct Fate* fate) {
  printf("left: semaphore %ld", value_of(&cancel_semaphore));
  const int joined = joins(fate->waiting) && fate->returned == 0;
  if (!joined) printf(", join %s", strerrorname_np(pthread_tryjoin_np(cancel_target, NULL)));
  printf("\n");
}

static void cancel_blocked(const struct Waiting* waiting, int disabled) {
  struct Fate fate = {
      .waiting = waiting, .disabled = disabled, .returned = -1, .mutex_in_handler = -1};
  pthread_t thread;
  void* result;
  take_all();
  if (waiting->sleeps_on_cond) pthread_mutex_unlock(&cancel_mutex);
  pthread_create(&thread, NULL, live, &fate);
  while (atomic_load(&fate.tid) == 0) nap_ms(1);
  atomic_store(&asleep, 0);
  atomic_store(&fate.go, 1);
  nap_ms(5);
  // The handler will have to wait for the mutex.
  if (waiting->sleeps_on_cond) {
    await(&asleep, 1);
    pthread_mutex_lock(&cancel_mutex);
  }
  pthread_cancel(thread);
  let_go(&fate);
  if (waiting->wait == cancel_barrier_wait) pthread_barrier_wait(&cancel_barrier);
  pthread_join(thread, &result);
  show_fate(disabled ? "of a blocked one that does not allow it" : "of a blocked one", &fate,
            result);
  show_what_is_left(&fate);
}
// It need not block to notice.
static void cancel_pending(const struct Waiting* waiting, int blocks) {
  struct Fate fate = {.waiting = waiting, .returned = -1, .mutex_in_handler = -1};
  pthread_t thread;
  void* result;
  take_all();
  pthread_mutex_unlock(&cancel_mutex);
  if (!blocks) free_all();
  pthread_create(&thread, NULL, live, &fate);
  while (atomic_load(&fate.tid) == 0) nap_ms(1);
  pthread_cancel(thread);
  atomic_store(&fate.go, 1);
  pthread_join(thread, &result);
  if (blocks) free_all();
  show_fate(blocks ? "pending, it would block" : "pending, it would not block", &fate, result);
  show_what_is_left(&fate);
}
static int is_cancellation_point(const struct Waiting* waiting) {
  return waiting->sleeps_on_cond || strstr(waiting->name, "sem_") == waiting->name ||
         joins(waiting);
}
void try_cancellation(void) {
  for (int i = 0; i < kWaitCount; i++) {
    if (strstr(kWaits[i].name, "try") == NULL) {
      cancel_blocked(&kWaits[i], 0);
      cancel_blocked(&kWaits[i], 1);
    }
    if (is_cancellation_point(&kWaits[i])) cancel_pending(&kWaits[i], 1);
    if (!kWaits[i].sleeps_on_cond && kWaits[i].wait != cancel_barrier_wait)
      cancel_pending(&kWaits[i], 0);
  }
}

// SPDX-License-Identifier: Apache-2.0
// Semaphores, spin locks, barriers and joins, and signals that interrupt a wait.
#include <limits.h>
#include <signal.h>

#include "tests/targets/lock_results.h"

// Semaphores

long value_of(sem_t* semaphore) {
  int value = -1;
  sem_getvalue(semaphore, &value);
  return value;
}
static void try_semaphore_deadlines(sem_t* semaphore, const char* when) {
  const struct timespec soon = in_ms(CLOCK_REALTIME, kShortMs);
  const struct timespec soon_monotonic = in_ms(CLOCK_MONOTONIC, kShortMs);
  const struct {
    const char* name;
    const struct timespec* end;
  } deadlines[] = {{"soon", &soon},
                   {"past", &kPast},
                   {"before the epoch", &kBeforeTheEpoch},
                   {"negative ns", &kNegative},
                   {"too many ns", &kTooMany}};
  for (int i = 0; i < 5; i++) {
    char what[100];
    snprintf(what, sizeof what, "timedwait, %s, %s", deadlines[i].name, when);
    errno = 0;
    show_errno(what, sem_timedwait(semaphore, deadlines[i].end));
  }
  show_errno("clockwait", sem_clockwait(semaphore, CLOCK_MONOTONIC, &soon_monotonic));
  show_errno("clockwait of CPU time",
             sem_clockwait(semaphore, CLOCK_PROCESS_CPUTIME_ID, &soon_monotonic));
}
static int post_later(void* semaphore) {
  nap_ms(kShortMs);
  return sem_post(semaphore);
}
static void* post_later_in_thread(void* semaphore) {
  post_later(semaphore);
  return NULL;
}
static void try_semaphore_that_waits(sem_t* semaphore) {
  pthread_t thread;
  const struct timespec end = in_ms(CLOCK_REALTIME, kLongMs);
  pthread_create(&thread, NULL, post_later_in_thread, semaphore);
  show_errno("wait until the post", sem_wait(semaphore));
  pthread_join(thread, NULL);
  pthread_create(&thread, NULL, post_later_in_thread, semaphore);
  show_errno("timedwait until the post", sem_timedwait(semaphore, &end));
  pthread_join(thread, NULL);
}
static sem_t* posted_by_handler;
static void on_signal_post(int number) {
  (void)number;
  sem_post(posted_by_handler);
}
static void* wait_in_thread(void* semaphore) { return (void*)(intptr_t)sem_wait(semaphore); }
static void try_post_in_handler(sem_t* semaphore) {
  pthread_t thread;
  posted_by_handler = semaphore;
  signal(SIGUSR2, on_signal_post);
  pthread_create(&thread, NULL, wait_in_thread, semaphore);
  nap_ms(kShortMs);
  show_errno("post in a handler", raise(SIGUSR2));
  void* result;
  pthread_join(thread, &result);
  show_number("wait until then", (long)(intptr_t)result);
  signal(SIGUSR2, SIG_DFL);
}
static void try_named_semaphore(void) {
  char name[64];
  snprintf(name, sizeof name, "/mprof-results-%d", (int)getpid());
  sem_t* semaphore = sem_open(name, O_CREAT | O_EXCL, 0600, 1);
  show_number("open", semaphore != SEM_FAILED);
  if (semaphore == SEM_FAILED) return;
  show_number("open again, another", sem_open(name, O_CREAT | O_EXCL, 0600, 1) != SEM_FAILED);
  show_number("open again, the same", sem_open(name, 0) == semaphore);
  errno = 0;
  show_errno("wait", sem_wait(semaphore));
  show_errno("trywait", sem_trywait(semaphore));
  show_errno("post", sem_post(semaphore));
  show_errno("unlink", sem_unlink(name));
  show_errno("close", sem_close(semaphore));
}
static void try_semaphores(void) {
  sem_t semaphore;
  section = "semaphore";
  errno = 0;
  show_errno("init, too large", sem_init(&semaphore, 0, SEM_VALUE_MAX + 1u));
  show_errno("init", sem_init(&semaphore, 0, 2));
  show_errno("wait", sem_wait(&semaphore));
  show_errno("trywait", sem_trywait(&semaphore));
  show_errno("trywait, none left", sem_trywait(&semaphore));
  try_semaphore_deadlines(&semaphore, "none left");
  try_semaphore_that_waits(&semaphore);
  try_post_in_handler(&semaphore);
  for (int i = 0; i < 10; i++) sem_post(&semaphore);
  try_semaphore_deadlines(&semaphore, "some left");
  show_number("value", value_of(&semaphore));
  show_errno("destroy", sem_destroy(&semaphore));
  sem_init(&semaphore, 1, SEM_VALUE_MAX);
  show_errno("post beyond the limit", sem_post(&semaphore));
  show_number("value", value_of(&semaphore));
  try_named_semaphore();
  show_errno("sched_yield", sched_yield());
}

// Signals that interrupt a wait, and those that do not

static atomic_int handled;
static void on_signal(int number) {
  (void)number;
  atomic_fetch_add(&handled, 1);
}

static sem_t signal_semaphore;
static pthread_mutex_t signal_mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_int interrupted_tid;

static int wait_semaphore(void* unused) {
  (void)unused;
  return sem_wait(&signal_semaphore) == 0 ? 0 : errno;
}
static int timedwait_semaphore(void* unused) {
  (void)unused;
  const struct timespec end = in_ms(CLOCK_REALTIME, kLongMs);
  return sem_timedwait(&signal_semaphore, &end) == 0 ? 0 : errno;
}
static int wait_mutex(void* unused) {
  (void)unused;
  const int result = pthread_mutex_lock(&signal_mutex);
  pthread_mutex_unlock(&signal_mutex);
  return result;
}
static int timedwait_mutex(void* unused) {
  (void)unused;
  const int result = timedlock_long(&signal_mutex);
  pthread_mutex_unlock(&signal_mutex);
  return result;
}
static void* run_interrupted(void* argument) {
  atomic_store(&interrupted_tid, gettid());
  return run_call(argument);
}
static void try_interrupted(const char* name, int (*wait)(void*), int flags) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
  struct Call call = {wait, NULL, -1};
  pthread_t thread;
  sigaction(SIGUSR1, &action, NULL);
  sem_init(&signal_semaphore, 0, 0);
  pthread_mutex_lock(&signal_mutex);
  atomic_store(&handled, 0);
  atomic_store(&interrupted_tid, 0);
  pthread_create(&thread, NULL, run_interrupted, &call);
  while (atomic_load(&interrupted_tid) == 0) nap_ms(1);
  // Asleep, and not just on its way.
  nap_ms(kShortMs);
  wait_until_state(interrupted_tid, 'S');
  pthread_kill(thread, SIGUSR1);
  await(&handled, 1);
  nap_ms(2);
  sem_post(&signal_semaphore);
  pthread_mutex_unlock(&signal_mutex);
  pthread_join(thread, NULL);
  show(name, call.result);
}
static void try_signals(void) {
  section = "interrupted";
  try_interrupted("sem_wait", wait_semaphore, 0);
  try_interrupted("sem_wait, restarted", wait_semaphore, SA_RESTART);
  try_interrupted("sem_timedwait", timedwait_semaphore, 0);
  try_interrupted("sem_timedwait, restarted", timedwait_semaphore, SA_RESTART);
  try_interrupted("mutex_lock", wait_mutex, 0);
  try_interrupted("mutex_timedlock", timedwait_mutex, 0);
}

// Spin locks and barriers

static int spin_trylock(void* lock) { return pthread_spin_trylock(lock); }
static void try_spin(void) {
  pthread_spinlock_t lock;
  section = "spin";
  show("init", pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE));
  show("lock", pthread_spin_lock(&lock));
  show("trylock, own", pthread_spin_trylock(&lock));
  show("trylock elsewhere", in_another_thread(spin_trylock, (void*)&lock));
  show("unlock", pthread_spin_unlock(&lock));
  show("trylock", pthread_spin_trylock(&lock));
  show("unlock", pthread_spin_unlock(&lock));
  show("destroy", pthread_spin_destroy(&lock));
}

static void* meet(void* barrier) { return (void*)(intptr_t)pthread_barrier_wait(barrier); }
static void try_barrier(int count, int sharing) {
  pthread_barrier_t barrier;
  pthread_barrierattr_t attributes;
  pthread_t threads[4];
  int serial = 0, others = 0;
  pthread_barrierattr_init(&attributes);
  pthread_barrierattr_setpshared(&attributes, sharing);
  show("init", pthread_barrier_init(&barrier, &attributes, (unsigned)count));
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, meet, &barrier);
    for (int i = 0; i < count; i++) {
      void* result;
      pthread_join(threads[i], &result);
      serial += (intptr_t)result == PTHREAD_BARRIER_SERIAL_THREAD;
      others += result == NULL;
    }
  }
  show_number("serial threads in three rounds", serial);
  show_number("other threads in three rounds", others);
  show("destroy", pthread_barrier_destroy(&barrier));
}
static void try_barriers(void) {
  pthread_barrier_t barrier;
  section = "barrier";
  show("init for none", pthread_barrier_init(&barrier, NULL, 0));
  try_barrier(1, PTHREAD_PROCESS_PRIVATE);
  try_barrier(3, PTHREAD_PROCESS_PRIVATE);
  try_barrier(4, PTHREAD_PROCESS_SHARED);
}

// Joins

atomic_int may_end;
void* end_when_told(void* result) {
  await(&may_end, 1);
  return result;
}
static void* end_at_once(void* result) { return result; }
static int join_self(void* unused) {
  (void)unused;
  return pthread_join(pthread_self(), NULL);
}
// No invalid deadlines: glibc goes round and round until the thread ends.
static void try_join_in_vain(pthread_t thread) {
  const struct timespec end = in_ms(CLOCK_REALTIME, kShortMs);
  const struct timespec end_monotonic = in_ms(CLOCK_MONOTONIC, kShortMs);
  void* result = (void*)5;
  show("tryjoin, alive", pthread_tryjoin_np(thread, &result));
  show("timedjoin, alive", pthread_timedjoin_np(thread, &result, &end));
  show("clockjoin, alive", pthread_clockjoin_np(thread, &result, CLOCK_MONOTONIC, &end_monotonic));
  show("clockjoin of CPU time",
       pthread_clockjoin_np(thread, &result, CLOCK_PROCESS_CPUTIME_ID, &kPast));
  show("timedjoin in the past", pthread_timedjoin_np(thread, &result, &kPast));
  show("timedjoin before the epoch", pthread_timedjoin_np(thread, &result, &kBeforeTheEpoch));
  show_number("result, untouched", (long)(intptr_t)result);
}
static void try_joins(void) {
  pthread_t thread;
  void* result = NULL;
  section = "join";
  show("self", in_another_thread(join_self, NULL));
  atomic_store(&may_end, 0);
  pthread_create(&thread, NULL, end_when_told, (void*)42);
  try_join_in_vain(thread);
  atomic_store(&may_end, 1);
  show("join", pthread_join(thread, &result));
  show_number("result", (long)(intptr_t)result);
  pthread_create(&thread, NULL, end_at_once, (void*)43);
  show("join without result", pthread_join(thread, NULL));
  atomic_store(&may_end, 0);
  pthread_create(&thread, NULL, end_when_told, NULL);
  show("detach", pthread_detach(thread));
  show("detach again", pthread_detach(thread));
  show("join, detached", pthread_join(thread, NULL));
  show("tryjoin, detached", pthread_tryjoin_np(thread, NULL));
  show("timedjoin, detached", pthread_timedjoin_np(thread, NULL, &kPast));
  atomic_store(&may_end, 1);
  const struct timespec end = in_ms(CLOCK_REALTIME, kLongMs);
  pthread_create(&thread, NULL, end_at_once, (void*)44);
  show("timedjoin", pthread_timedjoin_np(thread, &result, &end));
  show_number("result", (long)(intptr_t)result);
  const struct timespec end_monotonic = in_ms(CLOCK_MONOTONIC, kLongMs);
  pthread_create(&thread, NULL, end_at_once, (void*)45);
  show("clockjoin", pthread_clockjoin_np(thread, &result, CLOCK_MONOTONIC, &end_monotonic));
  show_number("result", (long)(intptr_t)result);
}

void try_waits(void) {
  try_semaphores();
  try_signals();
  try_spin();
  try_barriers();
  try_joins();
}

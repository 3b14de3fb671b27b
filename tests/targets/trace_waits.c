// SPDX-License-Identifier: Apache-2.0
// One wait of each kind, by a function of known name, ended by another one of known name. Who ends
// it waits until the kernel says that the other one sleeps.
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "preload/mprof.h"

#define SITE __attribute__((noinline))
// Something after the last call: its frame stays.
#define STAY __asm__ volatile("")

static void check(int ok, const char* what) {
  if (ok) return;
  fprintf(stderr, "trace_waits: %s: %s\n", what, strerror(errno));
  exit(1);
}

static long cpu_ns(clockid_t clock) {
  struct timespec used;
  clock_gettime(clock, &used);
  return used.tv_sec * 1000000000 + used.tv_nsec;
}

static pid_t sleeper;  // 0: not there yet

static void i_will_sleep(void) {
  __atomic_store_n(&sleeper, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
}

static char state_of(pid_t thread) {
  char path[64];
  char line[512];
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  FILE* file = fopen(path, "r");
  check(file != NULL, path);
  check(fgets(line, sizeof line, file) != NULL, path);
  fclose(file);
  return strrchr(line, ')')[2];
}

// It may sleep for a moment before, where it waits for a page.
static void until_it_sleeps(void) {
  pid_t thread;
  while ((thread = __atomic_load_n(&sleeper, __ATOMIC_ACQUIRE)) == 0) sched_yield();
  for (int times = 0; times < 20; times = state_of(thread) == 'S' ? times + 1 : 0) usleep(200);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spinlock;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t condition_mutex = PTHREAD_MUTEX_INITIALIZER;
static int is_signalled;
static sem_t semaphore;
static pthread_barrier_t barrier;
static int futex_word;
static int is_spinning;

static SITE void want_mutex(void) {
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  STAY;
}
static SITE void free_mutex(void) {
  pthread_mutex_unlock(&mutex);
  STAY;
}

static SITE void want_to_read(void) {
  pthread_rwlock_rdlock(&rwlock);
  pthread_rwlock_unlock(&rwlock);
  STAY;
}
static SITE void free_rwlock(void) {
  pthread_rwlock_unlock(&rwlock);
  STAY;
}

static SITE void want_spinlock(void) {
  pthread_spin_lock(&spinlock);
  pthread_spin_unlock(&spinlock);
  STAY;
}
static SITE void free_spinlock(void) {
  pthread_spin_unlock(&spinlock);
  STAY;
}

static SITE void want_signal(void) {
  pthread_mutex_lock(&condition_mutex);
  while (!is_signalled) pthread_cond_wait(&condition, &condition_mutex);
  pthread_mutex_unlock(&condition_mutex);
  STAY;
}
// The mutex is held on: the waiter then waits for that.
static SITE void send_signal(void) {
  pthread_mutex_lock(&condition_mutex);
  is_signalled = 1;
  pthread_cond_signal(&condition);
  STAY;
}
static SITE void free_condition_mutex(void) {
  pthread_mutex_unlock(&condition_mutex);
  STAY;
}

static SITE void want_post(void) {
  check(sem_wait(&semaphore) == 0, "sem_wait");
  STAY;
}
static SITE void post(void) {
  check(sem_post(&semaphore) == 0, "sem_post");
  STAY;
}

static SITE void want_others(void) {
  pthread_barrier_wait(&barrier);
  STAY;
}
static SITE void come_last(void) {
  check(pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD, "the barrier");
  STAY;
}

static SITE void want_wake(void) {
  check(syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) == 0, "futex wait");
  STAY;
}
static SITE void wake(void) {
  check(syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0) == 1, "wake");
  STAY;
}

static SITE void want_byte(int fd) {
  struct pollfd wanted = {fd, POLLIN, 0};
  check(poll(&wanted, 1, -1) == 1, "poll");
  STAY;
}
static SITE void nap(void) {
  const struct timespec time = {0, 5000000};
  check(nanosleep(&time, NULL) == 0, "nanosleep");
  STAY;
}

static SITE void want_post_in_vain(void) {
  const struct timespec long_ago = {1, 0};
  check(sem_timedwait(&semaphore, &long_ago) == -1 && errno == ETIMEDOUT, "sem_timedwait");
  STAY;
}
static SITE void want_post_wrongly(void) {
  const struct timespec wrong = {1, -1};
  check(sem_timedwait(&semaphore, &wrong) == -1 && errno == EINVAL, "sem_timedwait");
  STAY;
}

static SITE void give_way(void) {
  for (int i = 0; i < 1000; ++i) sched_yield();
  usleep(1000);
  sched_yield();
  STAY;
}

// The small blocks come from the break, the large one does not.
static SITE void* grow_heap(size_t bytes) {
  void* small[10];
  for (int i = 0; i < 10; ++i) check((small[i] = malloc(50000)) != NULL, "malloc");
  for (int i = 0; i < 10; ++i) free(small[i]);

  char* block = malloc(bytes);
  check(block != NULL, "malloc");
  memset(block, 1, bytes);
  return block;
}

static SITE uint64_t burn(void) {
  volatile uint64_t sum = 0;
  for (long begin = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
       cpu_ns(CLOCK_THREAD_CPUTIME_ID) - begin < 100000000;)
    for (int i = 0; i < 100000; ++i) sum += (uint64_t)i;
  return sum;
}

static void* wait_for_all(void* pipe_end) {
  i_will_sleep();
  want_mutex();
  i_will_sleep();
  want_to_read();
  __atomic_store_n(&is_spinning, 1, __ATOMIC_RELEASE);
  want_spinlock();
  i_will_sleep();
  want_signal();
  i_will_sleep();
  want_post();
  i_will_sleep();
  want_others();
  i_will_sleep();
  want_wake();
  i_will_sleep();
  want_byte(*(int*)pipe_end);
  nap();
  want_post_in_vain();
  want_post_wrongly();
  give_way();
  i_will_sleep();
  want_post();  // until its end is waited for
  return NULL;
}

// Waits until the other one sleeps, for the next thing.
static void next(void) {
  until_it_sleeps();
  __atomic_store_n(&sleeper, 0, __ATOMIC_RELAXED);
}

static SITE pthread_t make_waiter(int* pipe_end) {
  pthread_t thread;
  check(pthread_create(&thread, NULL, wait_for_all, pipe_end) == 0, "pthread_create");
  return thread;
}

static void until_it_spins(pthread_t thread) {
  clockid_t clock;
  while (!__atomic_load_n(&is_spinning, __ATOMIC_ACQUIRE)) sched_yield();
  check(pthread_getcpuclockid(thread, &clock) == 0, "pthread_getcpuclockid");
  for (long begin = cpu_ns(clock); cpu_ns(clock) - begin < 5000000;) usleep(200);
}

static void end_all(pthread_t waiter, int pipe_end) {
  next(), free_mutex();
  next(), free_rwlock();
  until_it_spins(waiter);
  free_spinlock();
  next(), send_signal();
  usleep(5000);
  free_condition_mutex();
  next(), post();
  next(), come_last();
  next(), wake();
  next(), check(write(pipe_end, "x", 1) == 1, "write");
  next();
}

static void* post_when_joined(void* main_thread) {
  while (state_of(*(pid_t*)main_thread) != 'S') usleep(200);
  post();
  return NULL;
}

static SITE void join_waiter(pthread_t waiter) {
  check(pthread_join(waiter, NULL) == 0, "pthread_join");
  STAY;
}

int main(void) {
  int ends[2];
  check(pipe(ends) == 0, "pipe");
  pthread_spin_init(&spinlock, PTHREAD_PROCESS_PRIVATE);
  sem_init(&semaphore, 0, 0);
  pthread_barrier_init(&barrier, NULL, 2);
  pthread_mutex_lock(&mutex);
  pthread_rwlock_wrlock(&rwlock);
  pthread_spin_lock(&spinlock);
  const pthread_t waiter = make_waiter(&ends[0]);
  end_all(waiter, ends[1]);
  pid_t self = (pid_t)syscall(SYS_gettid);
  pthread_t helper;
  check(pthread_create(&helper, NULL, post_when_joined, &self) == 0, "pthread_create");
  join_waiter(waiter);
  pthread_join(helper, NULL);
  mprof_label_set("work", "heavy");
  free(grow_heap(1 << 20));
  burn();
  mprof_label_clear("work");
  puts("done");
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// A library whose constructor waits on locks, with threads of its own: loaded with the program its
// constructor runs before the one of a preloaded library, and inside dlopen() it runs under the
// loader's own lock, which its threads must not need.
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

#ifndef LIBRARY_WAITED
#error "LIBRARY_WAITED is the name of the function that tells how many waits there were"
#endif

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static atomic_int held;
static atomic_int signalled;
static int waited;

static void nap_ms(long ms) {
  const struct timespec pause = {0, ms * 1000000};
  nanosleep(&pause, NULL);
}

static void* hold_and_signal(void* unused) {
  pthread_mutex_lock(&mutex);
  pthread_rwlock_wrlock(&rwlock);
  atomic_store(&held, 1);
  nap_ms(5);
  pthread_mutex_unlock(&mutex);
  nap_ms(5);
  pthread_rwlock_unlock(&rwlock);
  nap_ms(5);
  sem_post(&semaphore);
  nap_ms(5);
  pthread_mutex_lock(&mutex);
  atomic_store(&signalled, 1);
  pthread_cond_signal(&cond);
  pthread_mutex_unlock(&mutex);
  nap_ms(5);
  return unused;
}

__attribute__((noinline, used)) int from_lock_constructor(void) {
  pthread_t thread;
  sem_init(&semaphore, 0, 0);
  if (pthread_create(&thread, NULL, hold_and_signal, NULL) != 0) return 0;
  while (!atomic_load(&held)) nap_ms(1);
  int good = pthread_mutex_lock(&mutex) == 0;
  good += pthread_mutex_unlock(&mutex) == 0;
  good += pthread_rwlock_rdlock(&rwlock) == 0;
  good += pthread_rwlock_unlock(&rwlock) == 0;
  good += sem_wait(&semaphore) == 0;
  pthread_mutex_lock(&mutex);
  while (!atomic_load(&signalled)) pthread_cond_wait(&cond, &mutex);
  good += pthread_mutex_unlock(&mutex) == 0;
  good += pthread_join(thread, NULL) == 0;
  return good;
}

__attribute__((constructor(101))) static void construct(void) { waited = from_lock_constructor(); }

__attribute__((destructor)) static void destruct(void) {
  atomic_store(&held, 0);
  atomic_store(&signalled, 0);
  from_lock_constructor();
}

int LIBRARY_WAITED(void);
int LIBRARY_WAITED(void) { return waited; }

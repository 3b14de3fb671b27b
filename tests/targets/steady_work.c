// SPDX-License-Identifier: Apache-2.0
// Allocates, frees, locks and unlocks in turns that need nothing of the kernel, from one thread
// while another sleeps: first until everything is warm, then between two close() of descriptors
// that are none, kFirst and kLast, by which a list of system calls can be cut.
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <unistd.h>

enum { kKept = 64, kWarmTurns = 40000, kTurns = 40000, kFirst = -1001, kLast = -1002 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_spinlock_t spin;
static mtx_t c11;
static sem_t semaphore, end;
static void* kept[kKept];
static unsigned number = 1;

static unsigned next_number(void) {
  number = number * 1664525u + 1013904223u;
  return number >> 8;
}

static void allocate(void) {
  void** slot = &kept[next_number() % kKept];
  size_t bytes = 1 + next_number() % 900;
  switch (next_number() % 5) {
    case 0: *slot = realloc(*slot, bytes); break;
    case 1:
      free(*slot);
      *slot = calloc(1, bytes);
      break;
    case 2:
      free(*slot);
      if (posix_memalign(slot, 64, bytes) != 0) abort();
      break;
    case 3:
      free(*slot);
      *slot = aligned_alloc(32, (bytes + 31) & ~31u);
      break;
    default: free(*slot); *slot = malloc(bytes);
  }
  if (*slot == NULL) abort();
}

static void lock(void) {
  pthread_mutex_lock(&mutex);
  pthread_cond_signal(&condition);
  pthread_mutex_unlock(&mutex);
  pthread_rwlock_rdlock(&rwlock);
  pthread_rwlock_unlock(&rwlock);
  pthread_rwlock_wrlock(&rwlock);
  pthread_rwlock_unlock(&rwlock);
  pthread_spin_lock(&spin);
  pthread_cond_broadcast(&condition);
  pthread_spin_unlock(&spin);
  mtx_lock(&c11);
  mtx_unlock(&c11);
  sem_post(&semaphore);
  sem_wait(&semaphore);
}

static void turn(int times) {
  for (int i = 0; i < times; i++) {
    allocate();
    lock();
  }
}

static void* sleep_till_the_end(void* nothing) {
  sem_wait(&end);
  return nothing;
}

int main(void) {
  pthread_t sleeper;
  pthread_spin_init(&spin, 0);
  mtx_init(&c11, mtx_plain);
  sem_init(&semaphore, 0, 0);
  sem_init(&end, 0, 0);
  pthread_create(&sleeper, NULL, sleep_till_the_end, NULL);
  turn(kWarmTurns);
  close(kFirst);
  turn(kTurns);
  close(kLast);
  sem_post(&end);
  return pthread_join(sleeper, NULL);
}

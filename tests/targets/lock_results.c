// SPDX-License-Identifier: Apache-2.0
// Calls every function of the lock family with good, odd and impossible arguments, and prints what
// a program can see of the answer, a line a case. The output must be the same under the library.
#include "tests/targets/lock_results.h"

const char* section = "";

// errno, which none of those that return an error touches

static void try_errno_is_kept(void) {
  pthread_mutex_t mutex;
  pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
  sem_t semaphore;
  section = "errno";
  make_mutex(&mutex, &kMutexKinds[kErrorcheck]);
  sem_init(&semaphore, 0, 1);
  errno = 4242;
  pthread_mutex_lock(&mutex);
  pthread_mutex_lock(&mutex);
  in_another_thread(timedlock_briefly, &mutex);
  timedwait_briefly(&mutex);
  clockwait_odd(&mutex);
  pthread_mutex_unlock(&mutex);
  pthread_mutex_unlock(&mutex);
  pthread_rwlock_rdlock(&rwlock);
  timedwrlock_briefly(&rwlock);
  pthread_rwlock_trywrlock(&rwlock);
  pthread_rwlock_unlock(&rwlock);
  sem_wait(&semaphore);
  sem_post(&semaphore);
  pthread_cond_broadcast(&cond);
  pthread_join(pthread_self(), NULL);
  wait_behind("lock, behind another", lock, &mutex);
  wait_behind_rwlock("rdlock behind a writer", wrlock, rdlock, &rwlock);
  show_number("after all of them", errno);
}

int main(void) {
  // A case that hangs is the one after the last line, and ends it.
  setlinebuf(stdout);
  alarm(60);
  try_mutexes();
  try_rwlocks();
  try_conds();
  try_waits();
  try_c11();
  try_cancellation();
  try_errno_is_kept();
  try_futexes();
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Allocates in signal handlers that interrupt malloc itself. POSIX forbids it, programs do it: the
// library must not deadlock. Here the interrupted code is a loop of calloc-free pairs in a thread
// whose handler uses only blocks of mmap'ed size, so that glibc's own lock is not taken twice.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { kHandlerBytes = 4 << 20 };

static atomic_int handled;
static atomic_int stop;

__attribute__((noinline, used)) void from_handler(void) {
  void* block = malloc(kHandlerBytes);
  __asm__ volatile("" : : "r"(block) : "memory");
  free(block);
}

static void handler(int signal) {
  (void)signal;
  from_handler();
  atomic_fetch_add(&handled, 1);
}

__attribute__((noinline, used)) void from_interrupted(void) {
  for (int i = 0; i < 100; i++) {
    void* block = malloc(100);
    __asm__ volatile("" : : "r"(block) : "memory");
    free(block);
  }
}

static void* interrupted(void* unused) {
  while (!atomic_load(&stop)) from_interrupted();
  return unused;
}

int main(void) {
  // A threshold that was set stays: else the first free of a large block would raise it, and the
  // next large block would come from the heap.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &action, NULL);
  pthread_t thread;
  pthread_create(&thread, NULL, interrupted, NULL);
  const int wanted = 3000;
  for (int sent = 0; sent < wanted; sent++) {
    pthread_kill(thread, SIGUSR1);
    while (atomic_load(&handled) <= sent) {
      const struct timespec pause = {0, 1000};
      nanosleep(&pause, NULL);
    }
  }
  atomic_store(&stop, 1);
  pthread_join(thread, NULL);
  printf("handled %d\n", atomic_load(&handled));
  return 0;
}

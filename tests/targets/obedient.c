// SPDX-License-Identifier: Apache-2.0
// Does what its standard input says, a line at a time, and answers "ok": so a test knows to the
// last block what happened between two moments of its choice.
//
//   keep N      allocates N blocks of 1000 bytes, in kept_block()
//   drop        frees all of them
//   churn N     allocates and frees N blocks of 500 bytes, in churned_block()
//   contend N   waits N times for a mutex that another thread holds, in wait_for_lock()
//   burn MS     computes for so many milliseconds of processor time, in burn()
//   thread      makes a thread, in make_thread(), and joins it
// At the end of its input it prints how much it did, and ends.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { kMostKept = 100000 };

static void* kept[kMostKept];
static int kept_count;
static long lines_done;
static pthread_mutex_t contended = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t is_held;

__attribute__((noinline)) void* kept_block(void) {
  void* block = malloc(1000);
  __asm__ volatile("" : : "r"(block) : "memory");
  return block;
}

__attribute__((noinline)) void churned_block(void) {
  void* block = malloc(500);
  __asm__ volatile("" : : "r"(block) : "memory");
  free(block);
}

static void keep(int count) {
  while (count-- > 0 && kept_count < kMostKept) kept[kept_count++] = kept_block();
}

static void drop(void) {
  while (kept_count > 0) free(kept[--kept_count]);
}

static void* hold_lock(void* unused) {
  pthread_mutex_lock(&contended);
  pthread_barrier_wait(&is_held);
  usleep(20000);
  pthread_mutex_unlock(&contended);
  return unused;
}

__attribute__((noinline)) void wait_for_lock(void) {
  pthread_mutex_lock(&contended);
  pthread_mutex_unlock(&contended);
}

static void contend(void) {
  pthread_t holder;
  pthread_create(&holder, NULL, hold_lock, NULL);
  pthread_barrier_wait(&is_held);
  wait_for_lock();
  pthread_join(holder, NULL);
}

__attribute__((noinline)) void burn(int milliseconds) {
  const clock_t end = clock() + (clock_t)milliseconds * (CLOCKS_PER_SEC / 1000);
  do
    for (volatile int i = 0; i < 100000;) i = i + 1;
  while (clock() < end);
}

static void* do_nothing(void* unused) { return unused; }

__attribute__((noinline)) void make_thread(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, do_nothing, NULL);
  pthread_join(thread, NULL);
}

static void obey(const char* line) {
  int count = 0;
  if (sscanf(line, "keep %d", &count) == 1) keep(count);
  if (strcmp(line, "drop") == 0) drop();
  if (sscanf(line, "churn %d", &count) == 1)
    while (count-- > 0) churned_block();
  if (sscanf(line, "contend %d", &count) == 1)
    while (count-- > 0) contend();
  if (sscanf(line, "burn %d", &count) == 1) burn(count);
  if (strcmp(line, "thread") == 0) make_thread();
  ++lines_done;
}

int main(void) {
  char line[100];
  pthread_barrier_init(&is_held, NULL, 2);
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    obey(line);
    puts("ok");
    fflush(stdout);
  }
  printf("did %ld, kept %d\n", lines_done, kept_count);
  return 0;
}

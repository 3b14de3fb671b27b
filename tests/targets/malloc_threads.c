// SPDX-License-Identifier: Apache-2.0
// Threads that allocate and free blocks of many sizes as fast as they can, and each other's too: an
// allocator with one arena and no caches has all of them at its locks.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kThreads = 8, kRounds = 100000, kKept = 64, kShared = 16 };

static pthread_barrier_t start;
static void* shared[kShared];

static uint32_t next_random(uint32_t* state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

// What is in the way is given back, by a thread that did not ask for it.
static void exchange(void** slot, void* block) {
  free(__atomic_exchange_n(slot, block, __ATOMIC_ACQ_REL));
}

// By every function in turn: their names are what can be seen of a stripped allocator.
static void* allocate(int round, void* old, size_t bytes) {
  if (round % 4 == 0) return realloc(old, bytes);
  free(old);
  if (round % 4 == 1) return calloc(1, bytes);
  if (round % 4 == 2) return aligned_alloc(16, bytes);
  return malloc(bytes);
}

static void* hammer(void* argument) {
  uint32_t random = (uint32_t)(uintptr_t)argument + 1;
  unsigned char* kept[kKept] = {0};
  size_t sizes[kKept] = {0};
  uintptr_t sum = 0;
  pthread_barrier_wait(&start);
  for (int round = 0; round < kRounds; ++round) {
    const uint32_t slot = next_random(&random) % kKept;
    if (kept[slot] != NULL) sum += kept[slot][sizes[slot] - 1];
    sizes[slot] = 16 * (1 + next_random(&random) % 200);
    kept[slot] = allocate(round, kept[slot], sizes[slot]);
    memset(kept[slot], (int)(sizes[slot] % 251), sizes[slot]);
    if (round % 16 == 0) exchange(&shared[slot % kShared], malloc(sizes[slot]));
  }
  for (int i = 0; i < kKept; ++i) free(kept[i]);
  return (void*)sum;
}

int main(void) {
  pthread_t threads[kThreads];
  pthread_barrier_init(&start, NULL, kThreads);
  for (uintptr_t i = 0; i < kThreads; ++i) pthread_create(&threads[i], NULL, hammer, (void*)i);
  for (int i = 0; i < kThreads; ++i) {
    void* sum;
    pthread_join(threads[i], &sum);
    printf("thread %d: %lu\n", i, (unsigned long)(uintptr_t)sum);
  }
  for (int i = 0; i < kShared; ++i) free(shared[i]);
  return 3;
}

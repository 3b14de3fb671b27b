// SPDX-License-Identifier: Apache-2.0
// Work for programs that are looked at for harm: thousands of different stacks, so that every table
// of a dump must grow, and threads that fight for a lock. What it says is the same in each run.
#pragma once

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t work_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long work_sum;

// A stack of its own for each pattern of bits.
__attribute__((noinline, used)) static unsigned long work_below(unsigned bits, int depth) {
  unsigned char* block = malloc(3000 + bits % 64);
  if (!block) return 1;
  memset(block, (int)bits, 16);
  unsigned long sum = block[15];
  if (depth > 0) {
    if (bits & 1) {
      sum += work_below(bits >> 1, depth - 1);
      __asm__ volatile("# odd" ::: "memory");
    } else {
      sum += 3 * work_below(bits >> 1, depth - 1);
      __asm__ volatile("# even" ::: "memory");
    }
  }
  free(block);
  return sum;
}

static unsigned long work(unsigned patterns) {
  unsigned long sum = 0;
  for (unsigned bits = 0; bits < patterns; bits++) sum = sum * 31 + work_below(bits, 10);
  return sum;
}

static void* work_of_thread(void* argument) {
  const unsigned patterns = *(unsigned*)argument;
  for (int round = 0; round < 8; round++) {
    const unsigned long sum = work(patterns / 8);
    pthread_mutex_lock(&work_lock);
    work_sum += sum;
    pthread_mutex_unlock(&work_lock);
  }
  return NULL;
}

// The number of threads that there were.
__attribute__((unused)) static int work_in_threads(int wanted, unsigned patterns) {
  pthread_t threads[64];
  int made = 0;
  work_sum = 0;
  while (made < wanted && pthread_create(&threads[made], NULL, work_of_thread, &patterns) == 0)
    made++;
  for (int i = 0; i < made; i++) pthread_join(threads[i], NULL);
  return made;
}

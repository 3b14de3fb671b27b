// SPDX-License-Identifier: Apache-2.0
// What begins_first.c and its library have in common: threads that count how often each of their
// arguments was run with.
#pragma once

#include <pthread.h>
#include <stdlib.h>

#include "preload/mprof.h"

enum { kEarly = 120, kLate = 120, kThreads = kEarly + kLate, kThings = 10, kEarlyThings = 5 };

extern pthread_t threads[kThreads];
extern int runs[kThreads];
extern mprof_profile_t profile;
extern char things[kThings];

static void* run(void* argument) {
  __atomic_fetch_add((int*)argument, 1, __ATOMIC_RELAXED);
  return NULL;
}

static void make_threads(int first, int end) {
  for (int i = first; i < end; i++)
    if (pthread_create(&threads[i], NULL, run, &runs[i]) != 0) abort();
}

static void add_things(int first, int end) {
  for (int i = first; i < end; i++) mprof_profile_add(profile, &things[i]);
}

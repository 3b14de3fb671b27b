// SPDX-License-Identifier: Apache-2.0
// A library whose constructor, which runs before the one of a preloaded library, makes threads and
// a profile of its own. On one processor: most of the threads have not begun when it returns.
#include <sched.h>

#include "begins_first.h"

pthread_t threads[kThreads];
int runs[kThreads];
mprof_profile_t profile;
char things[kThings];

__attribute__((constructor(101))) static void construct(void) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  sched_setaffinity(0, sizeof one, &one);
  profile = mprof_profile_new("early-things");
  add_things(0, kEarlyThings);
  make_threads(0, kEarly);
}

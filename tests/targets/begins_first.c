// SPDX-License-Identifier: Apache-2.0
// Goes on with what its library began before main: prints how many threads ran once with the
// argument that they were made with, and how many things its profile says that it holds.
#include "begins_first.h"

#include <stdio.h>

int main(void) {
  int once = 0;
  make_threads(kEarly, kThreads);
  for (int i = 0; i < kThreads; i++) {
    pthread_join(threads[i], NULL);
    once += runs[i] == 1;
  }
  add_things(kEarlyThings, kThings);
  printf("%d of %d ran once\n", once, kThreads);
  fprintf(stderr, profile ? "%d things\n" : "", (int)mprof_profile_count(profile));
  return 0;
}

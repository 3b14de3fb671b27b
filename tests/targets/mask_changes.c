// SPDX-License-Identifier: Apache-2.0
// Computes for a second of processor time, and blocks all signals for a moment every few
// microseconds, as libraries do around what must not be interrupted; in its second half with one
// set for the mask that is wanted and the one that was.
#include <signal.h>
#include <stdio.h>
#include <time.h>

static double cpu_seconds(void) {
  struct timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

__attribute__((noinline)) static void compute(int turns) {
  volatile double sum = 0;
  for (int i = 0; i < turns; i++) sum += i;
}

static void block_for_a_moment(sigset_t* wanted, sigset_t* before) {
  sigfillset(wanted);
  sigprocmask(SIG_BLOCK, wanted, before);
  compute(1000);
  sigprocmask(SIG_SETMASK, before, wanted);
}

__attribute__((noinline)) void computes(void) {
  sigset_t set, other;
  while (cpu_seconds() < 0.5) {
    compute(20000);
    block_for_a_moment(&set, &other);
  }
  while (cpu_seconds() < 1) {
    compute(20000);
    block_for_a_moment(&set, &set);
  }
}

int main(void) {
  computes();
  puts("done");
  return 0;
}

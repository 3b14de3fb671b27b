// SPDX-License-Identifier: Apache-2.0
// Computes for a second of processor time, and blocks all signals for a moment every few
// microseconds, as libraries do around what must not be interrupted.
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

__attribute__((noinline)) void computes(void) {
  sigset_t all, before;
  sigfillset(&all);
  while (cpu_seconds() < 1) {
    compute(20000);
    sigprocmask(SIG_BLOCK, &all, &before);
    compute(1000);
    sigprocmask(SIG_SETMASK, &before, NULL);
  }
}

int main(void) {
  computes();
  puts("done");
  return 0;
}

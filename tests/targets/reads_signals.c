// SPDX-License-Identifier: Apache-2.0
// Blocks SIGURG and reads it from a descriptor, as PostgreSQL does, computes for a while, and does
// so in a forked child, too.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double cpu_seconds(void) {
  struct timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

__attribute__((noinline)) void computes(void) {
  const double end = cpu_seconds() + 0.4;
  volatile double sum = 0;
  while (cpu_seconds() < end)
    for (int i = 0; i < 1000; i++) sum += i;
}

static void work(const char* who) {
  sigset_t urgent;
  sigemptyset(&urgent);
  sigaddset(&urgent, SIGURG);
  sigprocmask(SIG_BLOCK, &urgent, NULL);
  const int descriptor = signalfd(-1, &urgent, SFD_CLOEXEC | SFD_NONBLOCK);
  struct signalfd_siginfo info;
  computes();
  printf("%s: %d bytes before", who, (int)read(descriptor, &info, sizeof info));
  kill(getpid(), SIGURG);
  printf(", %d of %d after\n", (int)read(descriptor, &info, sizeof info), (int)sizeof info);
  fflush(stdout);
}

int main(void) {
  work("parent");
  if (fork() == 0) {
    free(malloc(100));  // the child's first allocation, which its dump begins with
    work("child");
    _exit(0);
  }
  wait(NULL);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// A parent that traces its child by ptrace, as debuggers do, and one that stops and continues it:
// traced_by_parent HOW
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "work.h"

static void child_works(void) {
  raise(SIGUSR1);
  printf("work %lu\n", work(2048));
  raise(SIGUSR2);
  const int threads = work_in_threads(3, 512);
  printf("threads %d, %lu\n", threads, work_sum);
  fflush(stdout);
  raise(SIGSTOP);
  exit(41);
}

static void ignore(int number) { (void)number; }

static int ended(int status) {
  printf("ended %x\n", (unsigned)status);
  return 0;
}

// Signals are handed on; those that the child raised are told.
static int trace(void) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGUSR1, ignore);
    signal(SIGUSR2, ignore);
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    child_works();
  }
  for (int status;;) {
    if (waitpid(child, &status, 0) != child) return 1;
    if (!WIFSTOPPED(status)) return ended(status);
    const int number = WSTOPSIG(status);
    if (number == SIGUSR1 || number == SIGUSR2 || number == SIGSTOP) {
      printf("stopped by %s\n", sigabbrev_np(number));
      fflush(stdout);
    }
    ptrace(PTRACE_CONT, child, 0, number == SIGSTOP ? 0 : number);
  }
}

// Stopped at any moment, for some time, and continued. It may end at any of them.
static int stop(void) {
  const pid_t child = fork();
  if (child == 0) {
    printf("work %lu\n", work(4096));
    const int threads = work_in_threads(3, 2048);
    printf("threads %d, %lu\n", threads, work_sum);
    exit(42);
  }
  int status;
  for (int stops = 0; stops < 20; stops++) {
    usleep(1000);
    kill(child, SIGSTOP);
    if (waitpid(child, &status, WUNTRACED) != child) return 1;
    if (!WIFSTOPPED(status)) return ended(status);
    kill(child, SIGCONT);
    if (waitpid(child, &status, WCONTINUED) != child) return 1;
    if (!WIFCONTINUED(status)) return ended(status);
  }
  return waitpid(child, &status, 0) == child ? ended(status) : 1;
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  return strcmp(argv[1], "trace") == 0 ? trace() : stop();
}

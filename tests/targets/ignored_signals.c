// SPDX-License-Identifier: Apache-2.0
// Signals that the program ignores interrupt nothing: ignored_signals SECONDS
//
// Children end all the time, and SIGCHLD is left at its default, to be ignored, while the thread
// that made them computes. Four others wait in sigtimedwait, which any signal that is not dropped
// at once ends with EINTR. Prints how many waits there were; exits with 1 if one was interrupted.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int stop;
static volatile int interrupted;
static int waits;

static void* wait_for_nothing(void* unused) {
  const struct timespec moment = {0, 2000000};
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  while (!stop) {
    if (sigtimedwait(&set, NULL, &moment) < 0 && errno != EAGAIN) interrupted = errno;
    __atomic_fetch_add(&waits, 1, __ATOMIC_RELAXED);
  }
  return unused;
}

// The kernel asks the thread that forked whether a child's end is ignored.
static void compute_while_children_end(time_t end) {
  while (time(NULL) < end) {
    for (int i = 0; i < 4; i++)
      if (fork() == 0) _exit(0);
    for (int left = 4; left > 0;) left -= waitpid(-1, NULL, WNOHANG) > 0;
  }
}

int main(int count, char** arguments) {
  if (count != 2) return 2;
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, wait_for_nothing, NULL);
  compute_while_children_end(time(NULL) + atoi(arguments[1]));
  stop = 1;
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  printf("%d waits\n", waits);
  return interrupted != 0;
}

// SPDX-License-Identifier: Apache-2.0
// Threads that all make children at once, in each way: spawners ROUNDS
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "work.h"

extern char** environ;

enum { kThreads = 8, kWays = 6 };
static int rounds;
static unsigned long ended[kWays];

static int status_of(pid_t child) {
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

static int by_vfork(void) {
  const pid_t child = vfork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", "exit 3", NULL);
    _exit(127);
  }
  return status_of(child);
}

// It shares the memory, allocates and does not exec.
static int by_vfork_alone(void) {
  const pid_t child = vfork();
  if (child == 0) {
    free(malloc(100000));
    _exit(4);
  }
  return status_of(child);
}

static int by_spawn(void) {
  char* arguments[] = {"sh", "-c", "exit 5", NULL};
  pid_t child;
  if (posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ) != 0) return -1;
  return status_of(child);
}

static int by_popen(void) {
  char text[100] = "";
  FILE* from = popen("echo said", "r");
  if (from == NULL || fgets(text, sizeof text, from) == NULL) return -1;
  return strcmp(text, "said\n") == 0 ? pclose(from) + (6 << 8) : -2;
}

static int by_system(void) { return system("exit 7"); }

static int by_fork(void) {
  const pid_t child = fork();
  if (child == 0) _exit(work(8) != 0 ? 8 : 9);
  return status_of(child);
}

static void* spawn_on(void* argument) {
  int (*const ways[kWays])(void) = {by_vfork, by_vfork_alone, by_spawn,
                                    by_popen, by_system,      by_fork};
  const int first = *(int*)argument;
  for (int round = 0; round < rounds; round++) {
    for (int i = 0; i < kWays; i++) {
      const int way = (first + i) % kWays;
      const int status = ways[way]();
      if (status == (way + 3) << 8)
        __atomic_fetch_add(&ended[way], 1, __ATOMIC_RELAXED);
      else
        printf("way %d: %x\n", way, (unsigned)status);
      work(16);
    }
  }
  return NULL;
}

int main(int argc, char** argv) {
  rounds = argc > 1 ? atoi(argv[1]) : 2;
  pthread_t threads[kThreads];
  int numbers[kThreads];
  for (int i = 0; i < kThreads; i++) {
    numbers[i] = i;
    if (pthread_create(&threads[i], NULL, spawn_on, &numbers[i]) != 0) return 2;
  }
  for (int i = 0; i < kThreads; i++) pthread_join(threads[i], NULL);
  for (int way = 0; way < kWays; way++) printf("way %d: %lu\n", way, ended[way]);
  printf("nobody left: %d\n", wait(NULL) == -1 && errno == ECHILD);
  return 0;
}

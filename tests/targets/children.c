// SPDX-License-Identifier: Apache-2.0
// Has children in the way it is told, and prints what it saw of them: children HOW
#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

#define SITE __attribute__((noinline, used)) void
SITE parent_before(void) {
  for (int i = 0; i < 10; i++) {
    void* block = malloc(1000);
    __asm__ volatile("" : : "r"(block) : "memory");
  }
}
SITE parent_after(void) {
  for (int i = 0; i < 20; i++) {
    void* block = malloc(2000);
    __asm__ volatile("" : : "r"(block) : "memory");
  }
}
SITE child_allocates(void) {
  for (int i = 0; i < 30; i++) {
    void* block = malloc(3000);
    __asm__ volatile("" : : "r"(block) : "memory");
  }
}

static void report(pid_t child) {
  int status = 0;
  const pid_t got = waitpid(child, &status, 0);
  printf("child %s, status %#x\n", got == child ? "waited for" : "lost", status);
  // The profiler must not leave a child of its own that the program's wait() could see.
  errno = 0;
  const pid_t another = wait(NULL);
  printf("another wait: %d errno=%d\n", (int)another, errno);
}

static void fork_child(void) {
  const pid_t child = fork();
  if (child == 0) {
    child_allocates();
    exit(3);
  }
  report(child);
}

static void* exits(void* unused) { pthread_exit(unused); }

// The child allocates nothing: the first pthread_exit() has loaded what a later one needs.
static void fork_child_ends_its_thread(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, exits, NULL);
  pthread_join(thread, NULL);
  const pid_t child = fork();
  if (child == 0) pthread_exit(NULL);
  report(child);
}

// The child never calls exec nor exit handlers.
static void fork_child_quits(void) {
  const pid_t child = fork();
  if (child == 0) {
    child_allocates();
    _exit(3);
  }
  report(child);
}

static void vfork_child(char** argv) {
  const pid_t child = vfork();
  if (child == 0) {
    execv(argv[0], argv);
    _exit(127);
  }
  report(child);
}

// Not allowed by POSIX but done: a vfork child that allocates in its parent's memory.
static void vfork_child_allocates(void) {
  const pid_t child = vfork();
  if (child == 0) {
    free(malloc(4000));
    _exit(3);
  }
  report(child);
}

static void spawn_child(char** argv) {
  pid_t child = 0;
  printf("posix_spawn: %d\n", posix_spawn(&child, argv[0], NULL, NULL, argv, environ));
  report(child);
}

static void* threads_fork(void* unused) {
  for (int i = 0; i < 20; i++) {
    const pid_t child = fork();
    if (child == 0) {
      child_allocates();
      _exit(0);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child || status != 0) abort();
  }
  return unused;
}

static volatile int stop;
static void* allocate_meanwhile(void* unused) {
  while (!stop) free(malloc(500));
  return unused;
}

static void fork_under_load(void) {
  pthread_t load[4], forks;
  for (int i = 0; i < 4; i++) pthread_create(&load[i], NULL, allocate_meanwhile, NULL);
  pthread_create(&forks, NULL, threads_fork, NULL);
  pthread_join(forks, NULL);
  stop = 1;
  for (int i = 0; i < 4; i++) pthread_join(load[i], NULL);
  printf("20 forks under load\n");
}

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "fork";
  char self[4096] = {0};
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return 9;
  char* again[] = {self, (char*)"child", NULL};
  setvbuf(stdout, NULL, _IONBF, 0);
  if (strcmp(how, "child") == 0) return child_allocates(), 3;
  parent_before();
  if (strcmp(how, "fork") == 0) fork_child();
  if (strcmp(how, "fork_ends_thread") == 0) fork_child_ends_its_thread();
  if (strcmp(how, "fork_quits") == 0) fork_child_quits();
  if (strcmp(how, "vfork") == 0) vfork_child(again);
  if (strcmp(how, "vfork_allocates") == 0) vfork_child_allocates();
  if (strcmp(how, "spawn") == 0) spawn_child(again);
  if (strcmp(how, "fork_under_load") == 0) fork_under_load();
  if (strcmp(how, "exec") == 0) execv(self, again);
  parent_after();
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// What a debugger is to look into: recursion, a handler, a thread, a child, many calls.
//   debugged         ends with 7
//   debugged waits   says "ready", and ends when it gets SIGUSR1
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

volatile int signalled;

void on_signal(int number) { signalled += number; }

__attribute__((noinline)) int inner(int number) {
  int* volatile block = malloc(100);
  block[0] = number * 2;
  number = block[0];
  free(block);
  return number;
}

__attribute__((noinline)) int outer(int depth) {
  return depth == 0 ? inner(20) : outer(depth - 1) + 1;
}

__attribute__((noinline)) int sum(int count) {
  int total = 0;
  for (int i = 0; i < count; i++) total += inner(i);
  return total;
}

static void* run(void* depth) { return (void*)(long)outer((int)(long)depth); }

static int wait_for_signal(void) {
  puts("ready");
  fflush(stdout);
  while (!signalled) pause();
  return 0;
}

int main(int argc, char** argv) {
  (void)argv;
  signal(SIGUSR1, on_signal);
  if (argc > 1) return wait_for_signal();
  raise(SIGUSR1);
  pthread_t thread;
  void* result;
  pthread_create(&thread, NULL, run, (void*)3L);
  pthread_join(thread, &result);
  const pid_t child = fork();
  if (child == 0) _exit(outer(2) % 256);
  int status;
  waitpid(child, &status, 0);
  printf("%ld %d %d %d\n", (long)result, WEXITSTATUS(status), signalled, sum(300));
  return 7;
}

// SPDX-License-Identifier: Apache-2.0
// Allocates a known amount and ends in the way it is told: ends HOW
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((noinline, used)) void known_amount(void) {
  for (int i = 0; i < 100; i++) {
    void* block = malloc(1234);
    __asm__ volatile("" : : "r"(block) : "memory");
    if (i >= 60) free(block);
  }
}

static void* exits_process(void* unused) {
  exit(7);
  return unused;
}

int main(int argc, char** argv) {
  const struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  known_amount();
  const char* how = argc > 1 ? argv[1] : "return";
  if (strcmp(how, "return") == 0) return 7;
  if (strcmp(how, "exit") == 0) exit(7);
  if (strcmp(how, "_exit") == 0) _exit(7);
  if (strcmp(how, "quick_exit") == 0) quick_exit(7);
  if (strcmp(how, "exit_group") == 0) syscall(SYS_exit_group, 7);
  if (strcmp(how, "abort") == 0) abort();
  if (strcmp(how, "segv") == 0) raise(SIGSEGV);
  if (strcmp(how, "kill") == 0) kill(getpid(), SIGKILL);
  if (strcmp(how, "term") == 0) kill(getpid(), SIGTERM);
  if (strcmp(how, "pthread_exit") == 0) pthread_exit(NULL);
  if (strcmp(how, "exit_in_thread") == 0) {
    pthread_t thread;
    pthread_create(&thread, NULL, exits_process, NULL);
    pthread_join(thread, NULL);
  }
  return 2;
}

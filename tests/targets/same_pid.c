// SPDX-License-Identifier: Apache-2.0
// Children that get the pid of one before them, in a pid namespace of its own: same_pid. Each ends
// in another way.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "work.h"

static int ask_for_pid(int pid) {
  char text[20];
  const int length = snprintf(text, sizeof text, "%d", pid - 1);
  const int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
  const int done = fd >= 0 && write(fd, text, (size_t)length) == length;
  close(fd);
  return done;
}

__attribute__((noinline, used)) static void allocate_as(int number) {
  for (int i = 0; i <= number; i++) {
    void* block = malloc(7777);
    __asm__ volatile("" : : "r"(block) : "memory");
  }
}

int main(void) {
  enum { kPid = 300 };
  for (int number = 0; number < 4; number++) {
    if (!ask_for_pid(kPid)) return 2;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      allocate_as(number);
      printf("pid %d: %lu\n", getpid(), work(512));
      fflush(stdout);
      if (number % 2 == 1) raise(SIGKILL);
      exit(number);
    }
    int status;
    if (waitpid(child, &status, 0) != child) return 1;
    printf("child %d: %x\n", child, (unsigned)status);
  }
  return 0;
}

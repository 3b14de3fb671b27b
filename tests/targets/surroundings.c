// SPDX-License-Identifier: Apache-2.0
// Changes what the process stands on, then allocates a known amount: surroundings HOW [ARGUMENT]
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline, used)) void before_change(void) {
  for (int i = 0; i < 50; i++) {
    void* block = malloc(1111);
    __asm__ volatile("" : : "r"(block) : "memory");
  }
}

// A stack of its own for each pattern of bits: the dump has to grow after the change.
__attribute__((noinline, used)) void grow(int bits, int depth) {
  void* block = malloc(64);
  __asm__ volatile("" : : "r"(block) : "memory");
  if (depth == 0) return;
  if (bits & 1) {
    grow(bits >> 1, depth - 1);
    __asm__ volatile("# odd" ::: "memory");
  } else {
    grow(bits >> 1, depth - 1);
    __asm__ volatile("# even" ::: "memory");
  }
}

__attribute__((noinline, used)) void after_change(void) {
  for (int i = 0; i < 3000; i++) {
    void* block = malloc(2222);
    __asm__ volatile("" : : "r"(block) : "memory");
  }
}

static int go_to(const char* where) { return chdir(where); }

static int become_daemon(void) {
  // Twice, as daemons do; the first two processes end at once.
  if (fork() != 0) _exit(0);
  setsid();
  if (fork() != 0) _exit(0);
  return daemon(0, 0);
}

static int list_descriptors(void) {
  for (int fd = 0; fd < 1024; fd++) {
    if (fcntl(fd, F_GETFD) >= 0) dprintf(1, "fd %d\n", fd);
  }
  const int next = open("/dev/null", O_RDONLY);
  dprintf(1, "next fd %d\n", next);
  return 0;
}

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "";
  const char* argument = argc > 2 ? argv[2] : "/";
  before_change();
  int failed = 0;
  if (strcmp(how, "close_all") == 0) failed = close_range(3, ~0u, 0);
  if (strcmp(how, "close_stdio_too") == 0) failed = close_range(0, ~0u, 0);
  if (strcmp(how, "chdir") == 0) failed = go_to(argument);
  if (strcmp(how, "chroot") == 0) failed = chroot(argument) != 0 || go_to("/") != 0;
  if (strcmp(how, "daemon") == 0) failed = become_daemon();
  if (strcmp(how, "list_fds") == 0) failed = list_descriptors();
  if (strcmp(how, "umask") == 0) umask(0);
  if (failed) return 5;
  after_change();
  for (int bits = 0; bits < 4096; bits++) grow(bits, 12);
  return 0;
}

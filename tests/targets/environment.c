// SPDX-License-Identifier: Apache-2.0
// Programs do this to their environment, and fork: environment setenv|title|clear
//   setenv  the first allocation of the child is the one by which setenv() moves the environment
//   title   what the kernel gave as the environment is overwritten, as setproctitle() does
//   clear   there is none
// A freed environment that is small lies in malloc's cache, which writes over its first pointers.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

static void make_it_larger(void) {
  static int number;
  for (int i = 0; i < 21; i++) {
    char name[16];
    snprintf(name, sizeof name, "NAME%d", number++);
    setenv(name, "value", 1);
  }
  // Whatever is free behind it in the heap is taken: it cannot grow where it is.
  static void* volatile kept;
  for (size_t bytes = 20000; bytes >= 16; bytes -= 16) kept = malloc(bytes);
  (void)kept;
}

static void overwrite_it(void) {
  size_t count = 0;
  while (environ[count] != NULL) count++;
  char** copies = calloc(count + 1, sizeof *copies);
  for (size_t i = 0; i < count; i++) copies[i] = strdup(environ[i]);
  for (size_t i = 0; i < count; i++) memset(environ[i], 't', strlen(environ[i]));
  environ = copies;
}

static int child(void) {
  setenv("MADE_BY_CHILD", "yes", 1);
  free(malloc(1 << 20));
  printf("%s %s %s\n", getenv("MADE_BY_CHILD"), getenv("NAME7"), getenv("LC_ALL"));
  fflush(stdout);
  return 3;
}

static void run_child(void) {
  const pid_t made = fork();
  if (made == 0) _exit(child());
  int status = 0;
  waitpid(made, &status, 0);
  printf("child: %x\n", (unsigned)status);
  fflush(stdout);
}

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "";
  if (strcmp(how, "title") == 0) overwrite_it();
  if (strcmp(how, "title") != 0) clearenv();
  // A block has room for one pointer more, or none: one of two odd steps finds none.
  const int children = strcmp(how, "setenv") == 0 ? 2 : 1;
  for (int i = 0; i < children; i++) {
    if (children == 2) make_it_larger();
    run_child();
  }
  return 0;
}

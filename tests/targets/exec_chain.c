// SPDX-License-Identifier: Apache-2.0
// Becomes itself again and again, each time in another way: exec_chain STEP
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "work.h"

extern char** environ;

static char step_text[12];
static char* arguments[3] = {"exec_chain", step_text, NULL};

static void* exec_in_thread(void* path) {
  execv(path, arguments);
  return NULL;
}

static void* allocate_on(void* unused) {
  for (;;) work(16);
  return unused;
}

static int copy_in_memory(const char* path) {
  const int from = open(path, O_RDONLY);
  const int to = memfd_create("copy", MFD_CLOEXEC);
  struct stat status;
  if (from < 0 || to < 0 || fstat(from, &status) != 0) return -1;
  for (off_t done = 0; done < status.st_size;)
    if (sendfile(to, from, &done, (size_t)status.st_size) <= 0) return -1;
  close(from);
  return to;
}

static char** environment_without_library(void) {
  static char* kept[1000];
  int count = 0;
  for (char** entry = environ; *entry && count < 999; entry++)
    if (strncmp(*entry, "LD_PRELOAD=", 11) != 0) kept[count++] = *entry;
  return kept;
}

static int count_descriptors(void) {
  int count = 0;
  for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

static int go_on(int step, const char* path) {
  pthread_t thread;
  switch (step) {
    case 0: return execv(path, arguments);
    case 1: return execve(path, arguments, environ);
    case 2: return fexecve(open(path, O_RDONLY), arguments, environ);
    case 3: return fexecve(copy_in_memory(path), arguments, environ);
    case 4:
      path = "/proc/self/exe";  // a file in memory by now
      return (int)syscall(SYS_execveat, AT_FDCWD, path, arguments, environ, 0);
    case 5:  // a thread execs while others allocate
      for (int i = 0; i < 3; i++) pthread_create(&thread, NULL, allocate_on, NULL);
      pthread_create(&thread, NULL, exec_in_thread, (void*)path);
      for (;;) work(16);
    case 6:  // with signals blocked, ignored and pending
      signal(SIGUSR1, SIG_IGN);
      sigset_t set;
      sigemptyset(&set);
      sigaddset(&set, SIGUSR2);
      sigprocmask(SIG_BLOCK, &set, NULL);
      raise(SIGUSR2);
      return execv(path, arguments);
    case 7: return execvp(path, arguments);
    case 8: return execl(path, arguments[0], arguments[1], NULL);
    case 9:  // standard input and errors are closed: what is opened next takes their numbers
      close(0);
      close(2);
      return execv(path, arguments);
    case 10: return execve(path, arguments, environment_without_library());
    case 11: {
      char* nothing[1] = {NULL};
      return execve(path, arguments, nothing);
    }
    default: return 0;
  }
}

int main(int argc, char** argv) {
  const int step = argc > 1 ? atoi(argv[1]) : 0;
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length < 0) return 2;
  path[length] = '\0';
  const char* where = getenv("EXEC_CHAIN") ? getenv("EXEC_CHAIN") : "/nowhere";
  struct sigaction action;
  sigset_t blocked;
  sigset_t pending;
  sigaction(SIGUSR1, NULL, &action);
  sigprocmask(SIG_BLOCK, NULL, &blocked);
  sigpending(&pending);
  printf("step %d: work %lu, %d descriptors, next %d, ignored %d, blocked %d, pending %d\n", step,
         work(256), count_descriptors(), dup(1), action.sa_handler == SIG_IGN,
         sigismember(&blocked, SIGUSR2), sigismember(&pending, SIGUSR2));
  fflush(stdout);
  for (int fd = 3; fd < 20; fd++) close(fd);
  if (step == 12) return 33;
  snprintf(step_text, sizeof step_text, "%d", step + 1);
  go_on(step, step >= 10 ? path : where);
  printf("step %d: %s\n", step, strerror(errno));
  return 1;
}

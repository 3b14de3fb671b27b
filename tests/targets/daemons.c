// SPDX-License-Identifier: Apache-2.0
// Becomes a daemon without libc's daemon(): daemons HOW FILE. The first process stays, adopts the
// daemon and tells how it ended.
//
// The daemon closes every descriptor and does not open /dev/null: the file that it writes becomes
// its descriptors 0, 1 and 2, so that whatever somebody says on stderr is in that file.
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "work.h"

static int close_every(const char* how) {
  if (strcmp(how, "range") == 0) return close_range(0, ~0u, 0);
  if (strcmp(how, "from") == 0) {
    closefrom(0);
    return 0;
  }
  for (int fd = 0; fd < 4096; fd++) close(fd);
  return 0;
}

static void note(const char* text, unsigned long number) {
  char line[100];
  const int length = snprintf(line, sizeof line, "%s %lu\n", text, number);
  if (write(2, line, (size_t)length) != length) _exit(9);
}

static void live(const char* root) {
  note("work", work(2048));
  note("threads", (unsigned long)work_in_threads(3, 512));
  for (int i = 0; i < 3; i++) {
    const pid_t child = fork();
    if (child == 0) {
      note("child", work(512));
      _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    note("status", (unsigned long)status);
  }
  if (root != NULL) {
    // From here on no dump can be made.
    if (chroot(root) != 0 || chdir("/") != 0) _exit(8);
    for (int i = 0; i < 3; i++) {
      const pid_t child = fork();
      if (child == 0) {
        note("child below", work(512));
        exit(0);
      }
      int status;
      waitpid(child, &status, 0);
      note("status", (unsigned long)status);
    }
  }
  note("next fd", (unsigned long)open("/", O_RDONLY));
}

static void become_daemon(const char* how, const char* file, const char* root) {
  if (fork() != 0) _exit(0);
  setsid();
  if (fork() != 0) _exit(0);
  umask(022);
  if (close_every(how) != 0) _exit(5);
  if (open(file, O_RDWR | O_CREAT | O_APPEND, 0644) != 0 || dup(0) != 1 || dup(1) != 2) _exit(6);
  live(root);
  exit(7);
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  work(256);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t child = fork();
  if (child == 0) become_daemon(argv[1], argv[2], argc > 3 ? argv[3] : NULL);
  int last = 0;
  int ended = 0;
  for (int status; wait(&status) > 0; ended++)
    if (status != 0) last = status;
  printf("%d ended, %x\n", ended, (unsigned)last);
  return 0;
}

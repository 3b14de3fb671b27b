// SPDX-License-Identifier: Apache-2.0
// Works, in whatever surroundings it is started: ways_of_life [HOW]
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "work.h"

static int unlink_itself(void) {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length < 0) return -1;
  path[length] = '\0';
  return unlink(path);
}

static int leave_no_folder(void) {
  return mkdir("gone", 0700) != 0 || chdir("gone") != 0 || rmdir("../gone") != 0;
}

// The old root is gone for good.
static int change_root(void) {
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
    return -1;
  if (mkdir("root", 0700) != 0 || mount("none", "root", "tmpfs", 0, NULL) != 0) return -1;
  if (mkdir("root/old", 0700) != 0 || chdir("root") != 0) return -1;
  if (syscall(SYS_pivot_root, ".", "old") != 0 || chdir("/") != 0) return -1;
  return umount2("/old", MNT_DETACH);
}

// No reading of the clock by the program itself, which could not do it either.
static int do_without_cycle_counter(void) { return prctl(PR_SET_TSC, PR_TSC_SIGSEGV); }

static const struct {
  const char* name;
  int (*change)(void);
} ways[] = {
    {"unlink", unlink_itself},
    {"no_folder", leave_no_folder},
    {"pivot_root", change_root},
    {"no_cycle_counter", do_without_cycle_counter},
};

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "";
  printf("work %lu\n", work(64));
  for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
    if (strcmp(how, ways[i].name) == 0) printf("%s: %d\n", how, ways[i].change());
  printf("work %lu\n", work(4096));
  const int threads = work_in_threads(4, 1024);
  printf("threads %d, %lu\n", threads, work_sum);
  fflush(stdout);
  if (strcmp(how, "alone") == 0) return 11;
  const pid_t child = fork();
  if (child == 0) {
    printf("child %lu\n", work(512));
    exit(3);
  }
  int status = 0;
  const int ended = waitpid(child, &status, 0) == child;
  printf("ended %d, %x\n", ended, (unsigned)status);
  return 11;
}

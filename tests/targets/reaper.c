// SPDX-License-Identifier: Apache-2.0
// Waits for its children until it has none, as the first process of a container does.
#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "work.h"

int main(void) {
  printf("pid %d, work %lu\n", (int)getpid(), work(512));
  fflush(stdout);
  // Only the first one is watched: a child that allocates would be, too.
  for (int i = 0; i < 3; i++)
    if (fork() == 0) _exit(3 + i);
  int sum = 0;
  for (int status; wait(&status) > 0 || errno == EINTR;) sum += status;
  printf("ended %x, nobody left %d\n", (unsigned)sum, errno == ECHILD);
  return 6;
}

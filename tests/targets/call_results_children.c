// SPDX-License-Identifier: Apache-2.0
// Children: how they end, and what a child of vfork does.
#include <sys/resource.h>

#include "tests/targets/call_results.h"

static pid_t exiting(int code) {
  const pid_t child = fork();
  if (child == 0) _exit(code);
  return child;
}
static pid_t sleeping(void) {
  const pid_t child = fork();
  if (child == 0)
    for (;;) pause();
  return child;
}

// Which child it is, not its number.
#define TRY_WAIT(call)                                        \
  do {                                                        \
    int status = 4242;                                        \
    errno = kErrnoBefore;                                     \
    const pid_t who = (call);                                 \
    show(#call, who == child ? 1 : who == 0 ? 0 : -1, errno); \
    show_number("  status", status);                          \
  } while (0)

static void try_waiting(void) {
  struct rusage used = {0};
  pid_t child = exiting(3);
  TRY_WAIT(wait(&status));
  TRY_WAIT(wait(&status));
  child = exiting(4);
  TRY_WAIT(waitpid(child, &status, 0));
  TRY_WAIT(waitpid(child, &status, 0));
  child = exiting(5);
  TRY_WAIT(wait3(&status, 0, &used));
  child = exiting(6);
  TRY_WAIT(wait4(child, &status, 0, &used));
  TRY_WAIT(wait4(-1, &status, 1 << 20, &used));
  child = sleeping();
  TRY_WAIT(waitpid(-1, &status, WNOHANG));
  TRY_WAIT(wait3(&status, WNOHANG, NULL));
  kill(child, SIGSTOP);
  TRY_WAIT(waitpid(child, &status, WUNTRACED));
  kill(child, SIGKILL);
  TRY_WAIT(waitpid(child, &status, 0));
  TRY_WAIT(waitpid(-1, &status, 0));
}

static void try_waitid(void) {
  siginfo_t info = {0};
  const pid_t child = exiting(7);
  TRY(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT));
  show_number("  code", info.si_code);
  show_number("  status", info.si_status);
  TRY(waitid(P_ALL, 0, &info, WEXITED));
  TRY(waitid(P_ALL, 0, &info, WEXITED));
  TRY(waitid(P_PID, (id_t)child, &info, 0));
}

void try_children(void) {
  section = "children";
  try_waiting();
  try_waitid();
}

// The child borrows the memory and the stack of this thread.
void try_vfork(void) {
  section = "vfork";
  const struct Pipe ends = make_pipe();
  char in[16];
  int status = 0;
  const pid_t child = vfork();
  if (child == 0) {
    const int null = open("/dev/null", O_WRONLY);
    if (write(null, "x", 1) != 1 || dup2(ends.in, 1) != 1) _exit(1);
    close(ends.out);
    if (write(1, "from the child", 14) != 14) _exit(2);
    close(null);
    _exit(9);
  }
  const pid_t ended = waitpid(child, &status, 0);
  show_number("is it", ended == child);
  show_number("status", status);
  const long got = read(ends.out, in, some(sizeof in));
  show_text("read", in, got);
  show_number("still open", fcntl(ends.out, F_GETFD));
  close_both(ends);
}

// SPDX-License-Identifier: Apache-2.0
// What a program sees of its signals' actions: prints the answer of each call. The output must be
// the same with and without a profiler. Then it has a handler for every signal that can have one,
// computes for a second, and counts what came: only what it sent itself.
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// bsd_signal() is no longer declared by default, and the linker has it still.
sighandler_t sysv_signal(int number, sighandler_t handler);

static volatile int came[65];
static void count(int number) { came[number]++; }
static void count_with_info(int number, siginfo_t* info, void* context) {
  (void)context;
  came[number] += info->si_pid == getpid() ? 1 : 1000;
}

static const char* name_of(sighandler_t handler) {
  if (handler == SIG_DFL) return "default";
  if (handler == SIG_IGN) return "ignore";
  if (handler == SIG_ERR) return "error";
  if (handler == count) return "count";
  if (handler == (sighandler_t)count_with_info) return "count_with_info";
  return "a stranger";
}

static void show(int number, const char* when) {
  struct sigaction action;
  memset(&action, 0x55, sizeof action);
  if (sigaction(number, NULL, &action) != 0) {
    printf("%d %s: %s\n", number, when, strerror(errno));
    return;
  }
  printf("%d %s: %s flags %x mask %d\n", number, when, name_of(action.sa_handler),
         (unsigned)action.sa_flags & ~0x04000000u, sigismember(&action.sa_mask, SIGTERM));
}

static void set_in_every_way(int number) {
  show(number, "at first");
  printf("signal ignore: was %s\n", name_of(signal(number, SIG_IGN)));
  show(number, "ignored");
  printf("siginterrupt: %d\n", siginterrupt(number, 0));
  printf("signal default: was %s\n", name_of(signal(number, SIG_DFL)));
  printf("sigignore: %d\n", sigignore(number));
  printf("sigset: was %s\n", name_of(sigset(number, SIG_DFL)));
  printf("sysv_signal: was %s\n", name_of(sysv_signal(number, SIG_IGN)));
  show(number, "after sysv_signal");
  struct sigaction action = {0};
  struct sigaction before;
  action.sa_sigaction = count_with_info;
  action.sa_flags = SA_SIGINFO;
  sigaddset(&action.sa_mask, SIGTERM);
  printf("sigaction: %d\n", sigaction(number, &action, &before));
  printf("was %s\n", name_of(before.sa_handler));
  show(number, "own");
  printf("sigset: was %s\n", name_of(sigset(number, count)));
  printf("signal: was %s\n", name_of(signal(number, count)));
  show(number, "last");
}

static void ignored_stays_ignored(int number) {
  signal(number, SIG_IGN);
  raise(number);
  signal(number, SIG_DFL);
  const pid_t child = fork();
  if (child == 0) {
    raise(number);
    _exit(7);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  printf("%d by default: %s %d\n", number, WIFSIGNALED(status) ? "killed by" : "went on to",
         WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static void compute(double seconds) {
  const clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
  volatile uint64_t sum = 0;
  while (clock() < end)
    for (int i = 0; i < 100000; i++) sum = sum + (uint64_t)i;
}

// Of signals that nobody sent there are none, also when every one is blocked and waited for.
static void wait_for_all_signals(void) {
  sigset_t all;
  sigset_t before;
  siginfo_t info;
  const struct timespec moment = {0, 20000000};
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  compute(0.3);
  int number = sigtimedwait(&all, &info, &moment);
  printf("sigtimedwait: %d %s\n", number, strerror(errno));
  raise(SIGURG);
  compute(0.3);
  number = sigwaitinfo(&all, &info);
  printf("sigwaitinfo: %d code %d\n", number, info.si_code);
  raise(SIGUSR1);
  compute(0.3);
  const int error = sigwait(&all, &number);
  printf("sigwait: %d %d\n", error, number);
  sigprocmask(SIG_SETMASK, &before, NULL);
}

int main(void) {
  wait_for_all_signals();
  const int numbers[] = {SIGURG, SIGPROF, SIGSTKFLT, SIGUSR1};
  compute(0.3);
  for (int i = 0; i < 4; i++) ignored_stays_ignored(numbers[i]);
  for (int i = 0; i < 4; i++) {
    set_in_every_way(numbers[i]);
    compute(0.3);
  }
  for (int i = 0; i < 4; i++) raise(numbers[i]);
  for (int i = 1; i < 65; i++)
    if (came[i] != 0) printf("%d came %d times\n", i, came[i]);
  errno = 0;
  printf("sigaction 0: %d %d\n", sigaction(0, NULL, NULL), errno);
  printf("sigaction 99: %d %d\n", sigaction(99, NULL, NULL), errno);
  printf("signal kill: %s %d\n", name_of(signal(SIGKILL, SIG_IGN)), errno);
  return 0;
}

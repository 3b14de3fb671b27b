// SPDX-License-Identifier: Apache-2.0
// Gives up system calls by seccomp, then works on: sandboxed HOW. How each child ended is printed;
// a call that the program itself did not make would end it by a signal.
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "work.h"

#define ALLOW(number) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))

// What a worker needs that has its memory: no files, no mappings, no clocks, no threads.
static struct sock_filter narrow[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    LOAD(nr),
    ALLOW(SYS_write),
    ALLOW(SYS_exit),
    ALLOW(SYS_exit_group),
    ALLOW(SYS_rt_sigreturn),
    ALLOW(SYS_futex),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),  // replaced by another action
};
enum { kNarrow = sizeof narrow / sizeof narrow[0] };

// The same with threads and forks.
static struct sock_filter wide[] = {
    LOAD(nr),
    ALLOW(SYS_write),
    ALLOW(SYS_exit),
    ALLOW(SYS_exit_group),
    ALLOW(SYS_rt_sigreturn),
    ALLOW(SYS_rt_sigprocmask),
    ALLOW(SYS_rt_sigaction),
    ALLOW(SYS_futex),
    ALLOW(SYS_mmap),
    ALLOW(SYS_munmap),
    ALLOW(SYS_mprotect),
    ALLOW(SYS_madvise),
    ALLOW(SYS_brk),
    ALLOW(SYS_clone),
    ALLOW(SYS_clone3),
    ALLOW(SYS_set_robust_list),
    ALLOW(SYS_rseq),
    ALLOW(SYS_wait4),
    ALLOW(SYS_gettid),
    ALLOW(SYS_getpid),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};
enum { kWide = sizeof wide / sizeof wide[0] };

static volatile sig_atomic_t trapped;
static void count_trap(int number) {
  (void)number;
  trapped++;
}

static void say(const char* text, unsigned long number) {
  char line[100];
  const int length = snprintf(line, sizeof line, "%s %lu\n", text, number);
  if (write(1, line, (size_t)length) != length) _exit(9);
}

// Memory that stays, so that the allocator asks the kernel for none.
static void fill_arena(void) {
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 8 << 20);
  free(malloc(4 << 20));
}

static int install(struct sock_filter* filter, unsigned short length, int by_prctl, int flags) {
  const struct sock_fprog program = {length, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  if (by_prctl) return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static int narrow_with(unsigned action, int by_prctl, int flags) {
  narrow[kNarrow - 1].k = action;
  return install(narrow, kNarrow, by_prctl, flags);
}

static void strict(void) {
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) _exit(4);
  say("strict", work(2048));
  syscall(SYS_exit, 21);
}

static void strict_by_syscall(void) {
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL) != 0) _exit(4);
  say("strict by syscall", work(2048));
  syscall(SYS_exit, 22);
}

static void* strict_thread(void* argument) {
  free(malloc(1000));  // its arena
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
  *(unsigned long*)argument = work(1024);
  for (int i = 0; i < 1000; i++) {
    pthread_mutex_lock(&work_lock);
    pthread_mutex_unlock(&work_lock);
  }
  syscall(SYS_exit, 0);
  return NULL;
}

// One thread in it, while the process goes on as before.
static void strict_beside_others(void) {
  mallopt(M_ARENA_MAX, 1);
  unsigned long sum = 0;
  pthread_t thread;
  if (pthread_create(&thread, NULL, strict_thread, &sum) != 0) _exit(4);
  while (pthread_kill(thread, 0) == 0 && __atomic_load_n(&sum, __ATOMIC_ACQUIRE) == 0) usleep(1000);
  say("beside", sum);
  say("threads", (unsigned long)work_in_threads(3, 1024));
  _exit(23);
}

static void killed_by_prctl(void) {
  if (narrow_with(SECCOMP_RET_KILL_PROCESS, 1, 0) != 0) _exit(4);
  say("kill, by prctl", work(2048));
  exit(24);
}

static void killed_by_syscall(void) {
  if (narrow_with(SECCOMP_RET_KILL_THREAD, 0, SECCOMP_FILTER_FLAG_TSYNC) != 0) _exit(4);
  say("kill, by syscall", work(2048));
  exit(25);
}

static void gets_errors(void) {
  if (narrow_with(SECCOMP_RET_ERRNO | ENOSYS, 1, 0) != 0) _exit(4);
  say("error", work(2048));
  errno = 0;
  say("getppid", (unsigned long)(syscall(SYS_getppid) == -1 && errno == ENOSYS));
  exit(26);
}

static void is_trapped(void) {
  signal(SIGSYS, count_trap);
  if (narrow_with(SECCOMP_RET_TRAP, 1, 0) != 0) _exit(4);
  say("trap", work(2048));
  say("traps", (unsigned long)trapped);
  getppid();
  say("traps", (unsigned long)trapped);
  exit(27);
}

static void threads_and_forks(void) {
  if (install(wide, kWide, 1, 0) != 0) _exit(4);
  say("wide", work(2048));
  say("threads", (unsigned long)work_in_threads(4, 1024));
  for (int i = 0; i < 3; i++) {
    const pid_t child = fork();
    if (child == 0) {
      say("child", work(512));
      exit(3);
    }
    int status;
    say("ended", (unsigned long)waitpid(child, &status, 0) == (unsigned long)child);
    say("status", (unsigned long)status);
  }
  exit(28);
}

// Filters on top of each other; and one more that the kernel refuses.
static void several_filters(void) {
  struct sock_filter loops = BPF_STMT(BPF_JMP | BPF_JA, 5);
  if (install(wide, kWide, 0, 0) != 0) _exit(4);
  say("one", work(1024));
  syscall(SYS_exit_group, 29);
  (void)loops;
}

static void wrong_requests(void) {
  struct sock_filter loops = BPF_STMT(BPF_JMP | BPF_JA, 5);
  const struct sock_fprog too_long = {BPF_MAXINSNS, (struct sock_filter*)8};
  say("loops", (unsigned long)(install(&loops, 1, 1, 0) == -1 && errno == EINVAL));
  say("bad memory", (unsigned long)(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 8L) == -1));
  say("errno", (unsigned long)errno);
  say("bad memory", (unsigned long)(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &too_long) == -1));
  say("errno", (unsigned long)errno);
  say("bad mode", (unsigned long)(prctl(PR_SET_SECCOMP, 77, 0) == -1));
  say("errno", (unsigned long)errno);
  say("bad operation", (unsigned long)(syscall(SYS_seccomp, 77, 0, NULL) == -1));
  say("errno", (unsigned long)errno);
  say("work", work(2048));
  say("threads", (unsigned long)work_in_threads(3, 1024));
  exit(30);
}

static const struct {
  const char* name;
  void (*run)(void);
} ways[] = {
    {"strict", strict},
    {"strict_by_syscall", strict_by_syscall},
    {"strict_beside_others", strict_beside_others},
    {"killed_by_prctl", killed_by_prctl},
    {"killed_by_syscall", killed_by_syscall},
    {"gets_errors", gets_errors},
    {"is_trapped", is_trapped},
    {"threads_and_forks", threads_and_forks},
    {"several_filters", several_filters},
    {"wrong_requests", wrong_requests},
};

int main(int argc, char** argv) {
  fill_arena();
  for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
    if (argc > 1 && strcmp(argv[1], ways[i].name) != 0) continue;
    const pid_t child = fork();
    if (child == 0) {
      work(64);  // whoever watches has begun
      ways[i].run();
      _exit(5);
    }
    int status;
    if (waitpid(child, &status, 0) != child) return 1;
    printf("%s: %x\n", ways[i].name, (unsigned)status);
    fflush(stdout);
  }
  return 0;
}

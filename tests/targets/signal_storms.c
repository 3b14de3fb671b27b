// SPDX-License-Identifier: Apache-2.0
// Signals in every way that a program may have to do with them, and what came of it:
//   signal_storms WHAT
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_long came;
static atomic_long wrong;
static atomic_int stop;

static long cpu_ms(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
static void spin_ms(long ms) {
  const long end = cpu_ms(CLOCK_THREAD_CPUTIME_ID) + ms;
  while (cpu_ms(CLOCK_THREAD_CPUTIME_ID) < end) continue;
}
static void allocate_some(void) {
  for (int i = 0; i < 100; i++) {
    void* volatile block = malloc((size_t)i * 50);
    free(block);
  }
}
static void set_handler(int number, void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
  if (sigaction(number, &action, NULL) != 0) abort();
}
static void count(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  atomic_fetch_add(&came, 1);
}
static timer_t start_timer(clockid_t clock, int number, long ns) {
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = number};
  const struct itimerspec every = {{0, ns}, {0, ns}};
  timer_t timer;
  if (timer_create(clock, &event, &timer) != 0 || timer_settime(timer, 0, &every, NULL) != 0)
    abort();
  return timer;
}

// Each of a queue of real-time signals arrives, once, in order.
static atomic_int last_value = -1;
static void in_order(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  if (info->si_value.sival_int != atomic_load(&last_value) + 1) atomic_fetch_add(&wrong, 1);
  atomic_store(&last_value, info->si_value.sival_int);
  atomic_fetch_add(&came, 1);
  allocate_some();
}
static int queues(void) {
  set_handler(SIGRTMIN + 3, in_order, SA_RESTART);
  sigset_t set, before;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 3);
  for (int round = 0; round < 20; round++) {
    pthread_sigmask(SIG_BLOCK, &set, &before);
    for (int i = 0; i < 500; i++)
      if (sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = round * 500 + i}) != 0)
        return 1;
    spin_ms(3);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  printf("queued: %ld came, %ld out of order\n", atomic_load(&came), atomic_load(&wrong));
  return 0;
}

// 10 kHz, while another thread computes and allocates.
static void* compute(void* unused) {
  while (!atomic_load(&stop)) allocate_some();
  return unused;
}
static int fast_timers(void) {
  set_handler(SIGRTMIN + 4, count, SA_RESTART);
  set_handler(SIGALRM, count, SA_RESTART);
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, compute, NULL);
  timer_t timer = start_timer(CLOCK_MONOTONIC, SIGRTMIN + 4, 100000);
  const struct itimerval every = {{0, 200}, {0, 200}};
  setitimer(ITIMER_REAL, &every, NULL);
  while (atomic_load(&came) < 3000) allocate_some();
  timer_delete(timer);
  setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
  atomic_store(&stop, 1);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  puts("fast timers: all came");
  return 0;
}

// Children end faster than they are waited for; none is lost, and none that is not the program's
// is found.
static void reap(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  const int before = errno;
  int status;
  while (waitpid(-1, &status, WNOHANG) > 0) {
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) atomic_fetch_add(&wrong, 1);
    atomic_fetch_add(&came, 1);
  }
  errno = before;
}
static int children(void) {
  set_handler(SIGCHLD, reap, 0);
  for (int i = 0; i < 200; i++) {
    const pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) _exit(7);
    allocate_some();
  }
  sigset_t none;
  sigemptyset(&none);
  while (atomic_load(&came) < 200) {
    const struct timespec pause = {0, 5000000};
    nanosleep(&pause, NULL);
  }
  const pid_t stranger = waitpid(-1, NULL, WNOHANG);
  printf("children: %ld, wrong %ld, then %d %s\n", atomic_load(&came), atomic_load(&wrong),
         (int)stranger, strerror(errno));
  return 0;
}

// Handlers within handlers, 60 deep, each of which allocates.
static volatile int deepest;  // raise() is declared a leaf
static volatile int depth;
static void nest(int number, siginfo_t* info, void* context) {
  (void)info, (void)context;
  if (++depth > deepest) deepest = depth;
  allocate_some();
  if (depth < 60) raise(number);
  depth--;
  atomic_fetch_add(&came, 1);
}
static int nested(void) {
  set_handler(SIGUSR1, nest, SA_NODEFER);
  for (int i = 0; i < 100; i++) raise(SIGUSR1);
  printf("nested: %ld, %d deep\n", atomic_load(&came), deepest);
  return 0;
}

// A program that takes every signal out of a signalfd, or by sigwaitinfo: what comes is what it
// sent, and nothing else. Its threads have all of them blocked, and compute.
static void block_all(void) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
}
static void* send_signals(void* main_thread) {
  for (int i = 0; i < 300; i++) {
    pthread_kill(*(pthread_t*)main_thread, i % 2 == 0 ? SIGUSR1 : SIGRTMIN + 1);
    spin_ms(1);
    allocate_some();
    while (atomic_load(&came) + atomic_load(&wrong) <= i) usleep(100);
  }
  kill(getpid(), SIGTERM);
  return NULL;
}
static void note(int number) {
  if (number == SIGUSR1 || number == SIGRTMIN + 1)
    atomic_fetch_add(&came, 1);
  else if (number != SIGTERM && atomic_fetch_add(&wrong, 1) < 5)
    printf("a stranger: %s\n", strsignal(number));
}
static int take_all(int (*next)(int, const sigset_t*), int fd) {
  sigset_t all;
  sigfillset(&all);
  pthread_t self = pthread_self();
  pthread_t sender;
  pthread_create(&sender, NULL, send_signals, &self);
  int number;
  do {
    spin_ms(1);
    number = next(fd, &all);
    note(number);
  } while (number != SIGTERM);
  pthread_join(sender, NULL);
  printf("%ld came, %ld strangers\n", atomic_load(&came), atomic_load(&wrong));
  return 0;
}
static int read_next(int fd, const sigset_t* unused) {
  (void)unused;
  struct signalfd_siginfo info;
  return read(fd, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : SIGTERM;
}
static int from_signalfd(void) {
  block_all();
  sigset_t all;
  sigfillset(&all);
  return take_all(read_next, signalfd(-1, &all, SFD_CLOEXEC));
}
static int wait_next(int unused, const sigset_t* set) {
  (void)unused;
  int number = SIGTERM;
  return sigwait(set, &number) == 0 ? number : SIGTERM;
}
static int from_sigwait(void) {
  block_all();
  return take_all(wait_next, -1);
}
static int wait_next_info(int unused, const sigset_t* set) {
  (void)unused;
  siginfo_t info;
  int number;
  do number = sigwaitinfo(set, &info);
  while (number < 0 && errno == EINTR && atomic_fetch_add(&wrong, 1) >= 0);
  return number;
}
static int from_sigwaitinfo(void) {
  block_all();
  return take_all(wait_next_info, -1);
}

// All blocked, for long: nothing is pending that the program did not send.
static int blocked(void) {
  block_all();
  pthread_t thread;
  pthread_create(&thread, NULL, compute, NULL);
  spin_ms(50);
  atomic_store(&stop, 1);
  pthread_join(thread, NULL);
  raise(SIGUSR2);
  sigset_t pending;
  sigpending(&pending);
  for (int number = 1; number < 65; number++)
    if (sigismember(&pending, number) == 1) printf("pending: %d\n", number);
  return 0;
}

// Threads that change their masks, and signals to them from everywhere.
static void* change_mask(void* unused) {
  sigset_t set;
  sigfillset(&set);
  while (!atomic_load(&stop)) {
    sigset_t before, now;
    pthread_sigmask(SIG_BLOCK, &set, &before);
    allocate_some();
    pthread_sigmask(SIG_SETMASK, &before, &now);
    for (int number = 1; number < 32; number++)
      if (number != SIGKILL && number != SIGSTOP &&
          (sigismember(&now, number) != 1 || sigismember(&before, number) != 0))
        atomic_fetch_add(&wrong, 1);
    allocate_some();
  }
  return unused;
}
static int masks(void) {
  enum { kThreads = 4 };
  set_handler(SIGUSR1, count, SA_RESTART);
  set_handler(SIGUSR2, count, SA_RESTART);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) pthread_create(&threads[i], NULL, change_mask, NULL);
  for (int i = 0; i < 20000 || atomic_load(&came) < 100; i++)
    pthread_kill(threads[i % kThreads], i % 3 == 0 ? SIGUSR1 : SIGUSR2);
  atomic_store(&stop, 1);
  for (int i = 0; i < kThreads; i++) pthread_join(threads[i], NULL);
  printf("masks: wrong %ld\n", atomic_load(&wrong));
  return 0;
}

// A profiler of the program's own, by the signal that others use for it.
static void own_sample(int number, siginfo_t* info, void* context) {
  (void)context;
  if (number == SIGPROF && info->si_code != SI_KERNEL) atomic_fetch_add(&wrong, 1);
  if (number == SIGURG && info->si_code != SI_TIMER && info->si_code != SI_TKILL)
    atomic_fetch_add(&wrong, 1);
  atomic_fetch_add(&came, 1);
}
static int own_profiler(void) {
  spin_ms(5);
  set_handler(SIGPROF, own_sample, SA_RESTART);
  const struct itimerval every = {{0, 4000}, {0, 4000}};
  setitimer(ITIMER_PROF, &every, NULL);
  pthread_t thread;
  pthread_create(&thread, NULL, compute, NULL);
  while (atomic_load(&came) < 20) allocate_some();
  set_handler(SIGURG, own_sample, SA_RESTART);
  for (int i = 0; i < 50; i++) pthread_kill(thread, SIGURG);
  timer_t timer = start_timer(CLOCK_PROCESS_CPUTIME_ID, SIGURG, 3000000);
  while (atomic_load(&came) < 60) allocate_some();
  timer_delete(timer);
  setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL);
  set_handler(SIGSTKFLT, own_sample, SA_RESTART);
  raise(SIGSTKFLT);
  spin_ms(20);
  atomic_store(&stop, 1);
  pthread_join(thread, NULL);
  printf("own profiler: wrong %ld\n", atomic_load(&wrong));
  return 0;
}

// Handlers told to the kernel itself, without libc.
struct KernelAction {
  void (*handler)(int, siginfo_t*, void*);
  unsigned long flags;
  void (*restorer)(void);
  uint64_t mask;
};
__attribute__((naked, used)) static void restorer(void) { __asm__("mov $15, %eax\n\tsyscall"); }
static int raw_actions(void) {
  static const int kNumbers[] = {SIGUSR1, SIGURG, SIGPROF, SIGSTKFLT};
  for (int i = 0; i < 4; i++) {
    const struct KernelAction action = {count, SA_SIGINFO | SA_RESTART | 0x04000000, restorer, 0};
    if (syscall(SYS_rt_sigaction, kNumbers[i], &action, NULL, 8) != 0) return 1;
  }
  // Timers for samples run on, and come to the program's handler now: it counted what it sent.
  for (int i = 0; i < 4; i++) raise(kNumbers[i]);
  printf("raw: %s\n", atomic_load(&came) >= 4 ? "all came" : "some did not come");
  return 0;
}

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    int (*run)(void);
  } kWays[] = {
      {"queues", queues},
      {"fast_timers", fast_timers},
      {"children", children},
      {"nested", nested},
      {"signalfd", from_signalfd},
      {"sigwait", from_sigwait},
      {"sigwaitinfo", from_sigwaitinfo},
      {"blocked", blocked},
      {"masks", masks},
      {"own_profiler", own_profiler},
      {"raw_actions", raw_actions},
  };
  for (size_t i = 0; i < sizeof kWays / sizeof kWays[0]; i++)
    if (argc > 1 && strcmp(argv[1], kWays[i].name) == 0) return kWays[i].run();
  fprintf(stderr, "signal_storms: what?\n");
  return 2;
}

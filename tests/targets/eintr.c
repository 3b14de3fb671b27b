// SPDX-License-Identifier: Apache-2.0
// Calls that any signal's handler ends: not one may fail with EINTR, none may be over before its
// time, none may go on long after it. Each in a thread of its own, over and over.
//   eintr SECONDS   then says what was wrong, or "clean"
//   eintr own       a signal of the program's own still ends each of them
//   eintr cancel    says which of them end when their thread is cancelled
//   eintr jump      leaves one by siglongjmp, sleeps, says "ready", and computes until input ends
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const long kStepNs = 2000000;
// A busy machine is late; a call that began anew, with all of its time, is later still.
static const long kMostLateNs = 2000000000;

static int epoll_fd;
static int semaphores;
static int queue;
static sem_t semaphore;
static atomic_int stop;
static atomic_int interrupted;
static atomic_int early;
static atomic_int late;
static atomic_long calls;

static sigset_t mask_of(int number) {
  sigset_t set;
  sigemptyset(&set);
  if (number != 0) sigaddset(&set, number);
  return set;
}
static struct timespec span(long ns) { return (struct timespec){ns / 1000000000, ns % 1000000000}; }
static struct timespec at(clockid_t clock, long ns) {
  struct timespec time;
  clock_gettime(clock, &time);
  time.tv_nsec += ns % 1000000000;
  time.tv_sec += ns / 1000000000 + time.tv_nsec / 1000000000;
  time.tv_nsec %= 1000000000;
  return time;
}
static int ms_of(long ns) { return (int)(ns / 1000000); }

// Each gives 0, or the error it failed with; a timeout is none.
static int error_of(long result) {
  return result == -1 && errno != EAGAIN && errno != ETIMEDOUT ? errno : 0;
}

static int by_poll(long ns) { return error_of(poll(NULL, 0, ms_of(ns))); }
static int by_ppoll(long ns) {
  const struct timespec time = span(ns);
  return error_of(ppoll(NULL, 0, &time, NULL));
}
static int by_ppoll_with_mask(long ns) {
  const struct timespec time = span(ns);
  const sigset_t mask = mask_of(0);
  return error_of(ppoll(NULL, 0, &time, &mask));
}
static int by_select(long ns) {
  struct timeval time = {ns / 1000000000, ns % 1000000000 / 1000};
  return error_of(select(0, NULL, NULL, NULL, &time));
}
static int by_pselect(long ns) {
  const struct timespec time = span(ns);
  const sigset_t mask = mask_of(0);
  return error_of(pselect(0, NULL, NULL, NULL, &time, &mask));
}
static int by_epoll_wait(long ns) {
  struct epoll_event event;
  return error_of(epoll_wait(epoll_fd, &event, 1, ms_of(ns)));
}
static int by_epoll_pwait(long ns) {
  struct epoll_event event;
  const sigset_t mask = mask_of(0);
  return error_of(epoll_pwait(epoll_fd, &event, 1, ms_of(ns), &mask));
}
static int by_epoll_pwait2(long ns) {
  struct epoll_event event;
  const struct timespec time = span(ns);
  const int error = error_of(epoll_pwait2(epoll_fd, &event, 1, &time, NULL));
  if (error != ENOSYS) return error;
  return by_epoll_wait(ns);  // a kernel before 5.11
}
static int by_nanosleep(long ns) {
  const struct timespec time = span(ns);
  return error_of(nanosleep(&time, NULL));
}
static int by_clock_nanosleep(long ns) {
  const struct timespec time = span(ns);
  return clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}
static int by_clock_nanosleep_until(long ns) {
  const struct timespec time = at(CLOCK_MONOTONIC, ns);
  return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}
static int by_usleep(long ns) { return error_of(usleep((useconds_t)(ns / 1000))); }
static int by_thrd_sleep(long ns) {
  const struct timespec time = span(ns);
  return thrd_sleep(&time, NULL) == -1 ? EINTR : 0;
}
static int by_sem_timedwait(long ns) {
  const struct timespec time = at(CLOCK_REALTIME, ns);
  return error_of(sem_timedwait(&semaphore, &time));
}
static int by_sem_clockwait(long ns) {
  const struct timespec time = at(CLOCK_MONOTONIC, ns);
  return error_of(sem_clockwait(&semaphore, CLOCK_MONOTONIC, &time));
}
static int by_sigtimedwait(long ns) {
  const struct timespec time = span(ns);
  const sigset_t mask = mask_of(SIGUSR2);
  return error_of(sigtimedwait(&mask, NULL, &time));
}
static int by_semtimedop(long ns) {
  struct sembuf take = {0, -1, 0};
  const struct timespec time = span(ns);
  return error_of(semtimedop(semaphores, &take, 1, &time));
}

typedef int (*Way)(long ns);
static const struct {
  const char* name;
  Way way;
} kWays[] = {
    {"poll", by_poll},
    {"ppoll", by_ppoll},
    {"ppoll with a mask", by_ppoll_with_mask},
    {"select", by_select},
    {"pselect", by_pselect},
    {"epoll_wait", by_epoll_wait},
    {"epoll_pwait", by_epoll_pwait},
    {"epoll_pwait2", by_epoll_pwait2},
    {"nanosleep", by_nanosleep},
    {"clock_nanosleep", by_clock_nanosleep},
    {"clock_nanosleep until", by_clock_nanosleep_until},
    {"usleep", by_usleep},
    {"thrd_sleep", by_thrd_sleep},
    {"sem_timedwait", by_sem_timedwait},
    {"sem_clockwait", by_sem_clockwait},
    {"sigtimedwait", by_sigtimedwait},
    {"semtimedop", by_semtimedop},
};
enum { kWayCount = sizeof kWays / sizeof *kWays };

static long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000 + now.tv_nsec;
}

static void* use_over_and_over(void* argument) {
  const int number = *(const int*)argument;
  char name[16];
  snprintf(name, sizeof name, "%s", kWays[number].name);
  pthread_setname_np(pthread_self(), name);
  while (!stop) {
    const long begin = now_ns();
    const int error = kWays[number].way(kStepNs);
    const long took = now_ns() - begin;
    ++calls;
    if (error != 0) {
      ++interrupted;
      printf("%s: %s\n", kWays[number].name, strerror(error));
    } else if (took < kStepNs - 1000) {
      ++early;
      printf("%s: over after %ld ns\n", kWays[number].name, took);
    } else if (took > kStepNs + kMostLateNs) {
      ++late;
      printf("%s: took %ld ns\n", kWays[number].name, took);
    }
  }
  return NULL;
}

// Without an end: only what ends them may.
static void* receive_nothing(void* argument) {
  struct {
    long type;
    char text[8];
  } message;
  if (msgrcv(queue, &message, sizeof message.text, 1, 0) == -1 && errno == EINTR) {
    ++interrupted;
    puts("msgrcv: interrupted");
  }
  return argument;
}

static int run_for(int seconds) {
  pthread_t threads[kWayCount];
  pthread_t receiver;
  int numbers[kWayCount];
  pthread_create(&receiver, NULL, receive_nothing, NULL);
  for (int i = 0; i < kWayCount; ++i) {
    numbers[i] = i;
    pthread_create(&threads[i], NULL, use_over_and_over, &numbers[i]);
  }
  puts("ready");
  fflush(stdout);
  const long end = now_ns() + seconds * 1000000000L;
  while (now_ns() < end) by_clock_nanosleep(50000000);
  stop = 1;
  for (int i = 0; i < kWayCount; ++i) pthread_join(threads[i], NULL);
  struct {
    long type;
    char text[8];
  } message = {1, "end"};
  msgsnd(queue, &message, sizeof message.text, 0);
  pthread_join(receiver, NULL);
  if (interrupted + early + late == 0) puts("clean");
  return interrupted + early + late == 0 && calls > kWayCount ? 0 : 1;
}

static void on_signal(int number) { (void)number; }

struct Use {
  int number;
  atomic_int error;
  atomic_int done;
};

static void* use_once(void* argument) {
  struct Use* use = argument;
  use->error = kWays[use->number].way(20000000000L);
  use->done = 1;
  return NULL;
}

// With SA_RESTART, as mprof's own.
static int run_with_own_signals(void) {
  const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &action, NULL);
  int failed = 0;
  for (int i = 0; i < kWayCount; ++i) {
    struct Use use = {i, 0, 0};
    pthread_t thread;
    pthread_create(&thread, NULL, use_once, &use);
    while (!use.done) {
      by_clock_nanosleep(5000000);
      if (!use.done) pthread_kill(thread, SIGUSR1);
    }
    pthread_join(thread, NULL);
    if (use.error == EINTR) continue;
    printf("%s: %s, not EINTR\n", kWays[i].name, strerror(use.error));
    failed = 1;
  }
  if (failed == 0) puts("clean");
  return failed;
}

static void* use_until_cancelled(void* argument) {
  const int number = *(const int*)argument;
  kWays[number].way(500000000);
  return argument;
}

static int run_with_cancellations(void) {
  for (int i = 0; i < kWayCount; ++i) {
    pthread_t thread;
    void* result;
    pthread_create(&thread, NULL, use_until_cancelled, &i);
    by_clock_nanosleep(20000000);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    printf("%s: %s\n", kWays[i].name, result == PTHREAD_CANCELED ? "cancelled" : "over");
  }
  return 0;
}

static sigjmp_buf out_of_call;
static void jump_out(int number) { siglongjmp(out_of_call, number); }
static void* wake_main(void* main_thread) {
  by_clock_nanosleep(50000000);
  pthread_kill(*(pthread_t*)main_thread, SIGUSR1);
  return NULL;
}

static void* end_with_input(void* argument) {
  char byte;
  while (read(0, &byte, 1) > 0) continue;
  stop = 1;
  return argument;
}

__attribute__((noinline)) static void compute_after_jump(void) {
  while (!stop) ++calls;
}

static int run_with_jump(void) {
  pthread_t self = pthread_self();
  pthread_t waker;
  pthread_t reader;
  signal(SIGUSR1, jump_out);
  pthread_create(&waker, NULL, wake_main, &self);
  if (sigsetjmp(out_of_call, 1) == 0) poll(NULL, 0, -1);
  pthread_join(waker, NULL);
  usleep(1000);
  pthread_create(&reader, NULL, end_with_input, NULL);
  puts("ready");
  fflush(stdout);
  compute_after_jump();
  return pthread_join(reader, NULL);
}

int main(int argc, char** argv) {
  epoll_fd = epoll_create1(0);
  sem_init(&semaphore, 0, 0);
  semaphores = semget(IPC_PRIVATE, 1, 0600);
  queue = msgget(IPC_PRIVATE, 0600);
  int code = 2;
  if (argc == 2 && strcmp(argv[1], "own") == 0)
    code = run_with_own_signals();
  else if (argc == 2 && strcmp(argv[1], "cancel") == 0)
    code = run_with_cancellations();
  else if (argc == 2 && strcmp(argv[1], "jump") == 0)
    code = run_with_jump();
  else if (argc == 2)
    code = run_for(atoi(argv[1]));
  else
    fputs("usage: eintr SECONDS | own | cancel | jump\n", stderr);
  semctl(semaphores, 0, IPC_RMID);
  msgctl(queue, IPC_RMID, NULL);
  return code;
}

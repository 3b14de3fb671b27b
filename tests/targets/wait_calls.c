// SPDX-License-Identifier: Apache-2.0
// Functions that wait, sleep, set a signal's action, trim the heap or close a library, which
// nothing else here calls one by one: each some times, in a way that is over at once, and its
// answers.
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

// Of fortified programs, and of older ones.
extern int __poll_chk(struct pollfd*, nfds_t, int, size_t);
extern int __ppoll_chk(struct pollfd*, nfds_t, const struct timespec*, const sigset_t*, size_t);
extern void (*bsd_signal(int, void (*)(int)))(int);
extern void (*__sysv_signal(int, void (*)(int)))(int);

enum { kTimes = 5 };

static const struct timespec kNoTime;
static const struct timespec kShort = {0, 1000};
static int pipe_ends[2];
static int epoll_fd;
static int semaphores;
static int queue;

static void handle(int number) { (void)number; }

#define CALL(what)                                       \
  for (int i = 0; i < kTimes; i++) {                     \
    long answer = (errno = 0, (long)(what));             \
    printf("%s: %ld, errno %d\n", #what, answer, errno); \
  }

static void wait_for_descriptors(void) {
  struct pollfd ends[2] = {{pipe_ends[0], POLLIN, 0}, {pipe_ends[1], POLLOUT, 0}};
  struct epoll_event event;
  struct timeval no_time = {0, 0};
  fd_set set;
  FD_ZERO(&set);
  CALL(poll(ends, 2, 0))
  CALL(poll(ends, 1, 1))
  CALL(__poll_chk(ends, 2, 0, sizeof ends))
  CALL(ppoll(ends, 2, &kNoTime, NULL))
  CALL(ppoll(ends, 1, &kShort, NULL))
  CALL(__ppoll_chk(ends, 2, &kNoTime, NULL, sizeof ends))
  CALL(select(0, &set, NULL, NULL, &no_time))
  CALL(pselect(0, &set, NULL, NULL, &kShort, NULL))
  CALL(epoll_wait(epoll_fd, &event, 1, 0))
  CALL(epoll_wait(epoll_fd, &event, 1, 1))
  CALL(epoll_pwait(epoll_fd, &event, 1, 0, NULL))
  CALL(epoll_pwait2(epoll_fd, &event, 1, &kShort, NULL))
}

static void wait_for_messages(void) {
  struct {
    long type;
    char text[8];
  } message = {1, "text"};
  struct sembuf up = {0, 1, 0}, down = {0, -1, 0};
  CALL(msgsnd(queue, &message, sizeof message.text, 0))
  CALL(msgrcv(queue, &message, sizeof message.text, 0, 0))
  CALL(msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT))
  CALL(semop(semaphores, &up, 1))
  CALL(semop(semaphores, &down, 1))
  CALL(semtimedop(semaphores, &up, 1, &kShort))
  CALL(semtimedop(semaphores, &down, 1, &kShort))
  CALL(semtimedop(semaphores, &down, 1, &kShort))
}

static void sleep_a_little(void) {
  CALL(sleep(0))
  CALL(usleep(1))
  CALL(thrd_sleep(&kShort, NULL))
  CALL(nanosleep(&kShort, NULL))
  CALL(clock_nanosleep(CLOCK_MONOTONIC, 0, &kShort, NULL))
}

static int suspend(void) {
  sigset_t blocked, none;
  sigemptyset(&none);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  sigprocmask(SIG_BLOCK, &blocked, NULL);
  raise(SIGUSR1);
  return sigsuspend(&none);
}

static void set_actions(void) {
  CALL(bsd_signal(SIGUSR1, handle) == handle)
  CALL(suspend())
  CALL(pthread_sigmask(SIG_BLOCK, NULL, NULL))
  CALL(__sysv_signal(SIGUSR2, SIG_IGN) == SIG_IGN)
}

int main(void) {
  static char buffer[65536];
  setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
  if (pipe(pipe_ends) != 0 || (epoll_fd = epoll_create1(0)) < 0) return 1;
  queue = msgget(IPC_PRIVATE, 0600 | IPC_CREAT);
  semaphores = semget(IPC_PRIVATE, 1, 0600 | IPC_CREAT);
  if (queue < 0 || semaphores < 0) return 1;
  wait_for_descriptors();
  wait_for_messages();
  sleep_a_little();
  set_actions();
  CALL(malloc_trim(0) >= 0)
  CALL(dlclose(dlopen(NULL, RTLD_LAZY)))
  msgctl(queue, IPC_RMID, NULL);
  semctl(semaphores, 0, IPC_RMID);
  return 0;
}

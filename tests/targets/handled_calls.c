// SPDX-License-Identifier: Apache-2.0
// Calls that a signal of the program's own ends, whose handler blocks all signals meanwhile and
// takes some milliseconds: handled_calls ROUNDS sigaction|signal|sigset
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

static pthread_t waiter;
static pid_t waiter_id;
static atomic_int waiting;  // the number of the call
static atomic_int handled;

static long own_cpu_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1000000000 + now.tv_nsec;
}

static void handle(int number) {
  (void)number;
  const long end = own_cpu_ns() + 3000000;
  while (own_cpu_ns() < end) continue;
  handled++;
}

static int is_asleep(void) {
  char path[64];
  char text[256] = "";
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", waiter_id);
  FILE* file = fopen(path, "r");
  if (file == NULL) return 0;
  const size_t size = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[size] = '\0';
  const char* end = strrchr(text, ')');
  return end != NULL && end[2] == 'S';
}

static void* send(void* unused) {
  for (int done = 0; waiting >= 0;) {
    if (waiting > done && is_asleep()) {
      done = waiting;
      pthread_kill(waiter, SIGUSR1);
    }
  }
  return unused;
}

static int epoll_fd;
static sigset_t none;
static const struct timespec kLong = {1000, 0};

static int by_pause(void) { return pause(); }
static int by_poll(void) { return poll(NULL, 0, -1); }
static int by_ppoll(void) { return ppoll(NULL, 0, NULL, &none); }
static int by_select(void) { return select(0, NULL, NULL, NULL, NULL); }
static int by_pselect(void) { return pselect(0, NULL, NULL, NULL, &kLong, &none); }
static int by_epoll(void) {
  struct epoll_event event;
  return epoll_wait(epoll_fd, &event, 1, -1);
}
static int by_sigsuspend(void) { return sigsuspend(&none); }
static int by_nanosleep(void) { return nanosleep(&kLong, NULL); }
static int by_sleep(void) { return sleep(1000) > 900 ? -1 : 0; }

static const struct {
  const char* name;
  int (*call)(void);
} kCalls[] = {
    {"pause", by_pause},           {"poll", by_poll},       {"ppoll", by_ppoll},
    {"select", by_select},         {"pselect", by_pselect}, {"epoll_wait", by_epoll},
    {"sigsuspend", by_sigsuspend}, {"sleep", by_sleep},     {"nanosleep", by_nanosleep},
};

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // sigset()
static void set_handler(const char* how) {
  struct sigaction action = {.sa_handler = handle};
  sigfillset(&action.sa_mask);
  if (strcmp(how, "sigaction") == 0) sigaction(SIGUSR1, &action, NULL);
  if (strcmp(how, "signal") == 0) signal(SIGUSR1, handle);
  if (strcmp(how, "sigset") == 0) sigset(SIGUSR1, handle);
}

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 3;
  set_handler(argc > 2 ? argv[2] : "sigaction");
  sigemptyset(&none);
  epoll_fd = epoll_create1(0);
  waiter = pthread_self();
  waiter_id = gettid();
  pthread_t sender;
  pthread_create(&sender, NULL, send, NULL);
  for (int round = 0; round < rounds; round++) {
    for (size_t i = 0; i < sizeof kCalls / sizeof kCalls[0]; i++) {
      waiting++;
      const int result = kCalls[i].call();
      printf("%s: %d %s, handled %d\n", kCalls[i].name, result, strerror(errno), handled);
      fflush(stdout);
    }
  }
  waiting = -1;
  pthread_join(sender, NULL);
  return 0;
}

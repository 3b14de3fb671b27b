// SPDX-License-Identifier: Apache-2.0
// Threads that stand in known functions, under known names, until standard input ends.
//   kinds     one thread for each way to wait, and one that computes
//   many N    N threads that sleep, wait for a condition, or compute a little, by turns
// Prints "ready" once all are where they belong.
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#define NOINLINE __attribute__((noinline))

pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_rwlock_t g_rwlock = PTHREAD_RWLOCK_INITIALIZER;
pthread_cond_t g_cond = PTHREAD_COND_INITIALIZER;
pthread_mutex_t g_cond_mutex = PTHREAD_MUTEX_INITIALIZER;
sem_t g_semaphore;

namespace {

constexpr long kLongSeconds = 1000;
std::atomic<bool> stop;
std::atomic<int> ready;
std::atomic<unsigned long> sink;

void name_me(const char* name) { pthread_setname_np(pthread_self(), name); }

timespec deadline(clockid_t clock) {
  timespec at;
  clock_gettime(clock, &at);
  at.tv_sec += kLongSeconds;
  return at;
}

// Something stands behind each call, so that it is no tail call.
NOINLINE void hold_locks() {
  pthread_mutex_lock(&g_mutex);
  pthread_rwlock_wrlock(&g_rwlock);
  ++ready;
  while (!stop) usleep(20000);
  pthread_rwlock_unlock(&g_rwlock);
  pthread_mutex_unlock(&g_mutex);
}
NOINLINE void take_mutex() {
  ++ready;
  pthread_mutex_lock(&g_mutex);
  pthread_mutex_unlock(&g_mutex);
}
NOINLINE void read_rwlock() {
  ++ready;
  pthread_rwlock_rdlock(&g_rwlock);
  pthread_rwlock_unlock(&g_rwlock);
}
NOINLINE void await_condition() {
  pthread_mutex_lock(&g_cond_mutex);
  ++ready;
  while (!stop) pthread_cond_wait(&g_cond, &g_cond_mutex);
  pthread_mutex_unlock(&g_cond_mutex);
}
NOINLINE void await_semaphore() {
  ++ready;
  const timespec at = deadline(CLOCK_REALTIME);
  sink += static_cast<unsigned long>(sem_timedwait(&g_semaphore, &at));
}
NOINLINE void sleep_long() {
  ++ready;
  const timespec step{0, 50000000};
  while (!stop) sink += static_cast<unsigned long>(nanosleep(&step, nullptr));
}
NOINLINE void poll_pipe(int fd) {
  pollfd one{fd, POLLIN, 0};
  ++ready;
  sink += static_cast<unsigned long>(poll(&one, 1, -1));
}
NOINLINE void epoll_pipe(int fd) {
  const int epoll = epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  ++ready;
  sink += static_cast<unsigned long>(epoll_wait(epoll, &event, 1, -1));
  close(epoll);
}
NOINLINE void select_pipe(int fd) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(fd, &set);
  ++ready;
  sink += static_cast<unsigned long>(select(fd + 1, &set, nullptr, nullptr, nullptr));
}
NOINLINE void read_pipe(int fd) {
  char c;
  ++ready;
  sink += static_cast<unsigned long>(read(fd, &c, 1));
}
NOINLINE void compute() {
  ++ready;
  while (!stop) sink.fetch_add(1, std::memory_order_relaxed);
}
NOINLINE void compute_deaf() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  ++ready;
  while (!stop) sink.fetch_add(1, std::memory_order_relaxed);
}

void wait_for(int count) {
  while (ready < count) usleep(1000);
}

void until_input_ends() {
  usleep(50000);
  puts("ready");
  fflush(stdout);
  char c;
  while (read(0, &c, 1) > 0) {
  }
  stop = true;
}

NOINLINE std::vector<std::thread> start_kinds(int fd) {
  std::vector<std::thread> threads;
  const auto start = [&](const char* name, auto body) {
    threads.emplace_back([name, body] {
      name_me(name);
      body();
    });
  };
  start("holder", hold_locks);
  wait_for(1);
  start("waiter-1", take_mutex);
  start("waiter-2", take_mutex);
  start("reader", read_rwlock);
  start("cond", await_condition);
  start("semaphore", await_semaphore);
  start("sleeper", sleep_long);
  start("poller", [fd] { poll_pipe(fd); });
  start("epoller", [fd] { epoll_pipe(fd); });
  start("selecter", [fd] { select_pipe(fd); });
  start("blocked read", [fd] { read_pipe(fd); });
  start("spinner", compute);
  start("deaf", compute_deaf);
  wait_for(13);
  return threads;
}

int run_kinds() {
  int ends[2];
  if (pipe(ends) != 0) return 1;
  sem_init(&g_semaphore, 0, 0);
  auto threads = start_kinds(ends[0]);
  until_input_ends();
  close(ends[1]);
  sem_post(&g_semaphore);
  pthread_cond_broadcast(&g_cond);
  for (auto& thread : threads) thread.join();
  return 0;
}

NOINLINE void be_one_of_many(int number) {
  char name[16];
  snprintf(name, sizeof name, "many-%d", number);
  name_me(name);
  if (number % 3 == 0) return sleep_long();
  if (number % 3 == 1) return await_condition();
  ++ready;
  while (!stop) {
    for (int i = 0; i < 1000; ++i) ++sink;
    usleep(10000);
  }
}

int run_many(int count) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(be_one_of_many, i);
  wait_for(count);
  until_input_ends();
  pthread_mutex_lock(&g_cond_mutex);
  pthread_cond_broadcast(&g_cond);
  pthread_mutex_unlock(&g_cond_mutex);
  for (auto& thread : threads) thread.join();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "kinds") == 0) return run_kinds();
  if (argc == 3 && strcmp(argv[1], "many") == 0) return run_many(atoi(argv[2]));
  fprintf(stderr, "usage: thread_states kinds | many N\n");
  return 2;
}

// SPDX-License-Identifier: Apache-2.0
// All at once what a CPU profiler may break: cpu_storm SECONDS SEED PLUGIN
//
// For SECONDS: a library loaded and unloaded in a loop, exceptions through many frames, malloc in
// signal handlers, forked children that compute, allocate and end or become another program, 200
// short threads a second; beside them threads that sleep, poll and wait for I/O in every way that a
// signal could end with EINTR, with no handler of the program's that would. Prints what went on;
// exits with 1 and says why if a call was interrupted or an answer was wrong.
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace {

std::atomic<bool> stop;
std::atomic<uint64_t> loads, throws, handled, children, threads_ended, sleeps;

[[noreturn]] void fail(const char* what) {
  fprintf(stderr, "cpu_storm: %s: %s\n", what, strerror(errno));
  _exit(1);
}

// `what` gives an error number, or 0 for success.
template <class Call>
void uninterrupted(const char* name, Call&& call) {
  const int error = call();
  if (error != 0) {
    errno = error;
    fail(name);
  }
  sleeps.fetch_add(1, std::memory_order_relaxed);
}

int error_of(long result) { return result < 0 ? errno : 0; }

void load_and_unload(const char* plugin) {
  while (!stop.load()) {
    void* handle = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) fail("dlopen");
    dlclose(handle);
    loads.fetch_add(1);
  }
}

[[gnu::noinline]] void throw_below(int depth) {
  volatile char frame[64] = {};
  if (depth == 0) throw std::runtime_error("storm");
  throw_below(depth - 1);
  frame[0] = frame[1];
}

void throw_and_catch() {
  while (!stop.load()) {
    try {
      throw_below(20);
    } catch (const std::runtime_error& error) {
      if (strcmp(error.what(), "storm") != 0) fail("an exception");
      throws.fetch_add(1);
    }
  }
}

void allocate_in_handler(int) {
  const int before = errno;
  void* volatile block = malloc(100000);
  free(block);
  errno = before;
  handled.fetch_add(1);
}

// Its own thread is interrupted, and it does not sleep.
void signal_itself() {
  while (!stop.load()) {
    pthread_kill(pthread_self(), SIGUSR1);
    for (int i = 0; i < 50; i++) free(malloc(64));
  }
}

// Only what is allowed in the child of a process with threads.
[[noreturn]] void be_a_child(unsigned seed) {
  volatile uint64_t sum = 0;
  for (unsigned i = 0; i < 200000; i++) sum = sum + i * seed;
  if (seed % 2 == 0) execl("/bin/true", "true", nullptr);
  _exit(0);
}

void fork_children(unsigned seed) {
  while (!stop.load()) {
    const pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) be_a_child(seed);
    int status = 0;
    uninterrupted("waitpid", [&] { return error_of(waitpid(child, &status, 0)); });
    if (status != 0) fail("a child's exit code");
    children.fetch_add(1);
    seed++;
  }
}

void start_short_threads() {
  while (!stop.load()) {
    std::thread([] {
      volatile uint64_t sum = 0;
      for (uint64_t i = 0; i < 100000; i++) sum = sum + i;
    }).join();
    threads_ended.fetch_add(1);
    uninterrupted("usleep", [] { return error_of(usleep(4000)); });
  }
}

timespec after(clockid_t clock, long ms) {
  timespec time;
  clock_gettime(clock, &time);
  time.tv_nsec += ms * 1000000;
  time.tv_sec += time.tv_nsec / 1000000000;
  time.tv_nsec %= 1000000000;
  return time;
}

int timed_out(long result) { return result < 0 && errno != ETIMEDOUT ? errno : 0; }

// Every way to sleep that ends with EINTR when a handler ran, whatever its flags.
void sleep_in_every_way() {
  int ends[2];
  if (pipe(ends) != 0) fail("pipe");
  pollfd readable = {ends[0], POLLIN, 0};
  const int epoll = epoll_create1(0);
  epoll_event event = {EPOLLIN, {}};
  epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
  sem_t semaphore;
  sem_init(&semaphore, 0, 0);
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) fail("socketpair");
  const timeval patience = {0, 3000};
  setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  sigset_t usr2;
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &usr2, nullptr);
  const timespec pause = {0, 3000000};
  while (!stop.load()) {
    uninterrupted("poll", [&] { return error_of(poll(&readable, 1, 3)); });
    uninterrupted("ppoll", [&] { return error_of(ppoll(&readable, 1, &pause, nullptr)); });
    uninterrupted("select", [&] {
      fd_set set;
      FD_ZERO(&set);
      FD_SET(ends[0], &set);
      timeval limit = {0, 3000};
      return error_of(select(ends[0] + 1, &set, nullptr, nullptr, &limit));
    });
    uninterrupted("epoll_wait", [&] { return error_of(epoll_wait(epoll, &event, 1, 3)); });
    uninterrupted("nanosleep", [&] { return error_of(nanosleep(&pause, nullptr)); });
    uninterrupted("clock_nanosleep",
                  [&] { return clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr); });
    uninterrupted("sem_timedwait", [&] {
      const timespec deadline = after(CLOCK_REALTIME, 3);
      return timed_out(sem_timedwait(&semaphore, &deadline));
    });
    uninterrupted("sigtimedwait", [&] {
      return sigtimedwait(&usr2, nullptr, &pause) < 0 && errno != EAGAIN ? errno : 0;
    });
    uninterrupted("recv", [&] {
      char byte;
      return recv(sockets[0], &byte, 1, 0) < 0 && errno != EAGAIN ? errno : 0;
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const double seconds = atof(argv[1]);
  const auto seed = static_cast<unsigned>(atoi(argv[2]));
  struct sigaction action = {};
  action.sa_handler = allocate_in_handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  std::vector<std::thread> threads;
  threads.emplace_back(load_and_unload, argv[3]);
  threads.emplace_back(throw_and_catch);
  threads.emplace_back(signal_itself);
  threads.emplace_back(fork_children, seed);
  threads.emplace_back(start_short_threads);
  for (int i = 0; i < 4; i++) threads.emplace_back(sleep_in_every_way);
  const timespec end = after(CLOCK_MONOTONIC, static_cast<long>(seconds * 1000));
  if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, nullptr) != 0) fail("the main sleep");
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  printf("loads %lu throws %lu handled %lu children %lu threads %lu sleeps %lu\n", loads.load(),
         throws.load(), handled.load(), children.load(), threads_ended.load(), sleeps.load());
}

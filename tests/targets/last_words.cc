// SPDX-License-Identifier: Apache-2.0
// Ends in the middle of everything: last_words HOW. Other threads allocate, lock, wait, throw and
// make threads meanwhile; what is left to run at the end does so, too, and says so.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

std::atomic<bool> busy;

void say(const char* what) {
  if (write(1, what, strlen(what)) < 0) _exit(4);
}
void allocate_some() {
  for (int i = 0; i < 20; i++) {
    void* volatile block = malloc(static_cast<size_t>(i) * 400 + 8);
    free(block);
  }
}

// Static objects, one that is made at its first use, a thread that its destructor makes.
struct Late {
  const char* name;
  std::vector<std::string> kept{std::string(100, 'x')};
  explicit Late(const char* of) : name(of) {}
  ~Late() {
    kept.emplace_back(500, 'y');
    std::thread([] { allocate_some(); }).join();
    say(name);
  }
};
Late early_object("static object\n");
Late& object_of_first_use() {
  static Late object("object of first use\n");
  return object;
}
thread_local Late thread_object("thread's object\n");

void at_exit() {
  allocate_some();
  pthread_t thread;
  pthread_create(
      &thread, nullptr,
      [](void*) -> void* {
        allocate_some();
        return nullptr;
      },
      nullptr);
  pthread_join(thread, nullptr);
  say("atexit\n");
}
void at_exit_again() {
  atexit(at_exit);
  say("atexit adds one\n");
}
void at_quick_exit_say() {
  allocate_some();
  say("at_quick_exit\n");
}

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
[[noreturn]] void* be_busy(void*) {
  for (;;) {
    allocate_some();
    pthread_mutex_lock(&mutex);
    void* volatile block = malloc(3000);
    pthread_mutex_unlock(&mutex);
    free(block);
    try {
      throw std::runtime_error("busy");
    } catch (const std::exception&) {
    }
    std::thread([] { allocate_some(); }).detach();
    busy = true;
    usleep(100);
  }
}
void start_busy_threads() {
  // One that stands still for good where another waits for it at the end.
  static pthread_t threads[4];
  for (pthread_t& thread : threads) pthread_create(&thread, nullptr, be_busy, nullptr);
  while (!busy) usleep(100);
}

void in_handler(int) { exit(5); }
void quick_in_handler(int) { quick_exit(6); }
void leave_in_handler(int) { _exit(7); }
void say_abort(int) { say("SIGABRT\n"); }

void set_all() {
  object_of_first_use();
  thread_object.kept.emplace_back("used");
  atexit(at_exit_again);
  at_quick_exit(at_quick_exit_say);
}

// A signal that the process sends to itself, so that the handler is over when it goes on.
void by_signal(void (*handler)(int)) {
  signal(SIGUSR1, handler);
  raise(SIGUSR1);
}
// And one that comes at any instruction of a thread that computes.
void by_timer(void (*handler)(int)) {
  signal(SIGALRM, handler);
  const itimerval soon = {{0, 0}, {0, 3000}};
  setitimer(ITIMER_REAL, &soon, nullptr);
  for (volatile long i = 0;;) i = i + 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "";
  const bool wants_core = how == "core";
  const rlimit core = {wants_core ? RLIM_INFINITY : 0, wants_core ? RLIM_INFINITY : 0};
  setrlimit(RLIMIT_CORE, &core);
  set_all();
  start_busy_threads();
  if (how == "return") return 3;
  if (how == "exit") exit(3);
  if (how == "_exit") _exit(3);
  if (how == "quick_exit") quick_exit(3);
  if (how == "exit_in_thread") std::thread([] { exit(3); }).join();
  if (how == "exit_in_handler") by_signal(in_handler);
  if (how == "exit_in_timer") by_timer(leave_in_handler);
  if (how == "quick_exit_in_handler") by_signal(quick_in_handler);
  if (how == "quick_exit_in_timer") by_timer(quick_in_handler);
  if (how == "abort" || how == "core") abort();
  if (how == "abort_caught") {
    signal(SIGABRT, say_abort);
    abort();
  }
  if (how == "terminate") throw std::logic_error("not caught");
  if (how == "segv") {
    volatile int* nowhere = nullptr;
    *nowhere = 1;
  }
  if (how == "kill") raise(SIGKILL);
  return 2;
}

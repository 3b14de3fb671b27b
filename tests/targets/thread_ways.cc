// SPDX-License-Identifier: Apache-2.0
// Threads in every number, size and way to begin and to end: thread_ways WHAT
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

std::atomic<long> done;
std::atomic<long> wrong;
std::atomic<bool> stop;

void allocate_some(int times = 20) {
  for (int i = 0; i < times; i++) {
    void* volatile block = malloc(static_cast<size_t>(i) * 400 + 8);
    free(block);
  }
}
void spin_us(long us) {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  const long end = now.tv_sec * 1000000 + now.tv_nsec / 1000 + us;
  do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  while (now.tv_sec * 1000000 + now.tv_nsec / 1000 < end);
}

pthread_t start(void* (*body)(void*), void* argument = nullptr, size_t stack_bytes = 64 << 10,
                bool detached = false) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (pthread_attr_setstacksize(&attributes, stack_bytes) != 0) abort();
  if (detached) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, body, argument);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    printf("pthread_create: %s\n", strerror(error));
    exit(3);
  }
  return thread;
}

// 5,000 at once, all of which allocate, wait for the same lock and for each other.
constexpr int kMany = 5000;
pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_barrier_t barrier;
void* be_one_of_many(void*) {
  allocate_some();
  pthread_mutex_lock(&mutex);
  done++;
  pthread_mutex_unlock(&mutex);
  pthread_barrier_wait(&barrier);
  allocate_some();
  return nullptr;
}
int many_at_once() {
  pthread_barrier_init(&barrier, nullptr, kMany + 1);
  std::vector<pthread_t> threads;
  for (int i = 0; i < kMany; i++) threads.push_back(start(be_one_of_many));
  pthread_barrier_wait(&barrier);
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  printf("%ld threads\n", done.load());
  return 0;
}

void* be_short(void*) {
  allocate_some(3);
  done++;
  return nullptr;
}
int one_after_another() {
  for (int i = 0; i < 20000; i++) pthread_join(start(be_short), nullptr);
  printf("%ld threads\n", done.load());
  return 0;
}

// On the smallest stack that there is: all that hooks do, and samples in between.
void* be_small(void* number) {
  unsigned char frame[2000];
  memset(frame, static_cast<int>(reinterpret_cast<uintptr_t>(number)), sizeof frame);
  for (int i = 0; i < 10; i++) {
    allocate_some();
    pthread_mutex_lock(&mutex);
    spin_us(50);
    pthread_mutex_unlock(&mutex);
    const timespec soon = {0, 1000};
    nanosleep(&soon, nullptr);
    if (write(-1, frame, 1) != -1 || errno != EBADF) wrong++;
  }
  for (const unsigned char byte : frame)
    if (byte != static_cast<unsigned char>(reinterpret_cast<uintptr_t>(number))) wrong++;
  done++;
  return nullptr;
}
int smallest_stacks() {
  for (int round = 0; round < 20; round++) {
    std::vector<pthread_t> threads;
    for (uintptr_t i = 0; i < 10; i++)
      threads.push_back(start(be_small, reinterpret_cast<void*>(i), PTHREAD_STACK_MIN));
    for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  }
  printf("%ld threads, %ld wrong\n", done.load(), wrong.load());
  return 0;
}

// Cancelled at any instruction, where nothing is to be destroyed, or at points of cancellation.
void note_end(void*) { done++; }
volatile long turns;
void* be_cancelled_anywhere(void*) {
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, nullptr);
  for (;;) turns = 1;
}
void unlock_it(void*) { pthread_mutex_unlock(&mutex); }
pthread_cond_t never = PTHREAD_COND_INITIALIZER;
sem_t never_posted;
void* be_cancelled_waiting(void* how) {
  pthread_cleanup_push(note_end, nullptr);
  const std::string destroyed_in_passing(100, 'x');
  for (;;) {
    allocate_some();
    switch (reinterpret_cast<uintptr_t>(how) % 6) {
      case 0: pause(); break;
      case 1: sem_wait(&never_posted); break;
      case 2: sleep(1000); break;
      case 3: pthread_testcancel(); break;
      case 4: {
        pthread_mutex_lock(&mutex);
        pthread_cleanup_push(unlock_it, nullptr);
        pthread_cond_wait(&never, &mutex);
        pthread_cleanup_pop(1);
        break;
      }
      default: usleep(10); break;
    }
  }
  pthread_cleanup_pop(0);
  return nullptr;
}
int cancelled() {
  sem_init(&never_posted, 0, 0);
  long cancelled_threads = 0;
  for (int round = 0; round < 60; round++) {
    std::vector<pthread_t> threads;
    for (uintptr_t i = 0; i < 12; i++)
      threads.push_back(i % 4 == 3 ? start(be_cancelled_anywhere)
                                   : start(be_cancelled_waiting, reinterpret_cast<void*>(i)));
    if (round % 3 != 0) usleep(500);
    for (const pthread_t thread : threads) pthread_cancel(thread);
    for (const pthread_t thread : threads) {
      void* result;
      pthread_join(thread, &result);
      cancelled_threads += result == PTHREAD_CANCELED;
    }
  }
  // One that was cancelled before it ran at all has noted nothing.
  printf("%ld cancelled, mutex free: %d\n", cancelled_threads, pthread_mutex_trylock(&mutex));
  return 0;
}

// Owners that end with their lock.
pthread_mutex_t* robust;
void* die_with_lock(void*) {
  pthread_mutex_lock(robust);
  allocate_some();
  return nullptr;
}
int robust_mutexes() {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  robust = static_cast<pthread_mutex_t*>(
      mmap(nullptr, sizeof *robust, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pthread_mutex_init(robust, &attributes);
  long recovered = 0;
  for (int i = 0; i < 200; i++) {
    if (i % 20 == 0) {
      const pid_t child = fork();
      if (child == 0) {
        pthread_mutex_lock(robust);
        allocate_some();
        _exit(0);
      }
      waitpid(child, nullptr, 0);
    } else {
      pthread_join(start(die_with_lock), nullptr);
    }
    recovered += pthread_mutex_lock(robust) == EOWNERDEAD;
    pthread_mutex_consistent(robust);
    pthread_mutex_unlock(robust);
  }
  pthread_join(start(die_with_lock), nullptr);
  const int first = pthread_mutex_lock(robust);
  pthread_mutex_unlock(robust);
  printf("%ld recovered, then %d, %d\n", recovered, first, pthread_mutex_lock(robust));
  return 0;
}

// Made past libc, with and without the process's identity; they compute, and use system calls only.
// One without CLONE_SETTLS has its maker's thread-local storage.
int raw_thread(void*) {
  for (int i = 0; i < 3000000; i++) turns = i;
  done++;
  return 0;
}
int raw_clones() {
  constexpr size_t kStack = 64 << 10;
  for (int i = 0; i < 20; i++) {
    auto* stack = static_cast<char*>(mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0));
    std::atomic<pid_t> alive{1};
    const bool is_thread = i % 2 == 0;
    const int flags = is_thread ? CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                      CLONE_SYSVSEM | CLONE_CHILD_CLEARTID
                                : CLONE_VM | CLONE_FILES | SIGCHLD;
    const int made = clone(raw_thread, stack + kStack, flags, nullptr, nullptr, nullptr, &alive);
    if (made < 0) return 1;
    if (is_thread)
      while (alive.load() != 0) allocate_some();
    else if (waitpid(made, nullptr, 0) != made)
      wrong++;
    munmap(stack, kStack);
  }
  printf("%ld raw, %ld wrong\n", done.load(), wrong.load());
  return 0;
}

// The first thread leaves; the others go on, make more, and the last one ends the process.
void* go_on(void* left) {
  const auto number = reinterpret_cast<uintptr_t>(left);
  allocate_some();
  spin_us(3000);
  if (number == 0) {
    puts("the last one");
    exit(6);
  }
  start(go_on, reinterpret_cast<void*>(number - 1), 64 << 10, true);
  return nullptr;
}
int first_leaves() {
  start(go_on, reinterpret_cast<void*>(uintptr_t{20}), 64 << 10, true);
  pthread_exit(nullptr);
}

// What a thread leaves runs at its end, also where it ends by pthread_exit, in order.
struct Noisy {
  const char* name;
  std::vector<std::string> kept;
  explicit Noisy(const char* of) : name(of) { kept.emplace_back(200, 'x'); }
  ~Noisy() {
    kept.emplace_back(300, 'y');
    allocate_some();
    printf("%s is gone with %zu\n", name, kept.size());
  }
};
thread_local Noisy first_noise("first");
thread_local Noisy second_noise("second");
pthread_key_t noisy_key;
void end_noisily(void* value) {
  printf("key %ld\n", static_cast<long>(reinterpret_cast<uintptr_t>(value)));
  fflush(stdout);
  allocate_some();
  const auto left = reinterpret_cast<uintptr_t>(value) - 1;
  if (left != 0) pthread_setspecific(noisy_key, reinterpret_cast<void*>(left));
}
void* be_noisy(void* how) {
  const std::string destroyed_in_passing(100, 'x');
  first_noise.kept.emplace_back("one more");
  second_noise.kept.emplace_back("one more");
  pthread_setspecific(noisy_key, reinterpret_cast<void*>(uintptr_t{3}));
  if (how != nullptr) pthread_exit(nullptr);
  return nullptr;
}
int thread_locals() {
  pthread_key_create(&noisy_key, end_noisily);
  for (uintptr_t i = 0; i < 4; i++)
    pthread_join(start(be_noisy, reinterpret_cast<void*>(i % 2)), nullptr);
  first_noise.kept.emplace_back("of the main thread");
  return 0;
}

// Exceptions in many threads at once, thrown on across frames, stored and thrown again elsewhere.
[[gnu::noinline]] void throw_below(int depth) {
  const std::string passed(50, 'x');
  if (depth == 0) throw std::runtime_error(std::string("from below"));
  try {
    throw_below(depth - 1);
  } catch (const std::exception&) {
    if (depth % 8 != 0) throw;
    std::throw_with_nested(std::logic_error("nested"));
  }
}
std::exception_ptr handed_over() {
  try {
    throw_below(30);
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}
int levels(const std::exception& error) {
  try {
    std::rethrow_if_nested(error);
  } catch (const std::exception& inner) {
    return 1 + levels(inner);
  }
  return 1;
}
void throw_often() {
  for (int i = 0; i < 300; i++) {
    std::exception_ptr error;
    std::thread([&] { error = handed_over(); }).join();
    for (int turn = 0; turn < 10; turn++) {
      try {
        std::rethrow_exception(turn == 9 ? error : handed_over());
      } catch (const std::exception& caught) {
        if (levels(caught) == 4) done++;
      }
    }
  }
}
int exceptions() {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) threads.emplace_back(throw_often);
  for (std::thread& thread : threads) thread.join();
  printf("%ld caught\n", done.load());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    int (*run)();
  } kWays[] = {
      {"many_at_once", many_at_once},       {"one_after_another", one_after_another},
      {"smallest_stacks", smallest_stacks}, {"cancelled", cancelled},
      {"robust_mutexes", robust_mutexes},   {"raw_clones", raw_clones},
      {"first_leaves", first_leaves},       {"thread_locals", thread_locals},
      {"exceptions", exceptions},
  };
  setvbuf(stdout, nullptr, _IOLBF, 0);
  for (const auto& way : kWays)
    if (argc > 1 && strcmp(argv[1], way.name) == 0) return way.run();
  fprintf(stderr, "thread_ways: what?\n");
  return 2;
}

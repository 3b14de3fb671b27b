// SPDX-License-Identifier: Apache-2.0
// 64 threads on 1000 locks of every kind, with deadlines, cancellation, signals and forks:
// lock_storm SEED SECONDS
//
// Each lock guards two numbers that are equal whenever it is free. A thread has at most two
// mutexes, the second of a higher number, so only a fault of the locks themselves can hang it; then
// the watchdog ends the program by SIGABRT. Prints "ok" if all ended well.
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace {

constexpr size_t kThreads = 64;
constexpr size_t kEach = 200;  // of five kinds
constexpr int kHangSeconds = 20;
constexpr int kShortUs = 300;

struct Guarded {
  uint64_t first, second;
};
struct Mutex {
  pthread_mutex_t mutex;
  pthread_cond_t cond;  // the half of them that are waited on
  Guarded guarded;
};
struct Rwlock {
  pthread_rwlock_t lock;
  Guarded guarded;
};
struct Spin {
  pthread_spinlock_t lock;
  Guarded guarded;
};

Mutex mutexes[2 * kEach];
Rwlock rwlocks[kEach];
Spin spins[kEach];
sem_t semaphores[kEach];

struct Worker {
  pthread_t thread;
  uint64_t random;
  std::atomic<uint64_t> steps;
};
Worker workers[kThreads];
std::atomic<bool> stop;
std::atomic<bool> finished;

void must(bool good, const char* what) {
  if (good) return;
  fprintf(stderr, "lock_storm: %s\n", what);
  abort();
}

uint64_t draw(uint64_t& random, uint64_t below) {
  random ^= random << 13;
  random ^= random >> 7;
  random ^= random << 17;
  return (random >> 11) % below;
}

void nap_us(uint64_t us) {
  const timespec pause = {0, static_cast<long>(us * 1000)};
  nanosleep(&pause, nullptr);
}

timespec soon(clockid_t clock, uint64_t us) {
  timespec then;
  clock_gettime(clock, &then);
  then.tv_nsec += static_cast<long>(us * 1000);
  then.tv_sec += then.tv_nsec / 1000000000;
  then.tv_nsec %= 1000000000;
  return then;
}

// What is done inside: short, or with a sleep that makes the others wait.
void change(Guarded& guarded, uint64_t& random) {
  must(guarded.first == guarded.second, "two have the same lock");
  guarded.first++;
  if (draw(random, 16) == 0) nap_us(draw(random, kShortUs));
  guarded.second++;
}

// Cancellation is let in only where a handler puts everything right again.
class Cancellable {
 public:
  Cancellable() { pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before_); }
  ~Cancellable() { pthread_setcancelstate(before_, &before_); }

 private:
  int before_;
};

bool take(pthread_mutex_t* mutex, uint64_t& random) {
  const timespec real = soon(CLOCK_REALTIME, draw(random, kShortUs));
  const timespec monotonic = soon(CLOCK_MONOTONIC, draw(random, kShortUs));
  int error = 0;
  switch (draw(random, 8)) {
    case 0: error = pthread_mutex_trylock(mutex); break;
    case 1: error = pthread_mutex_timedlock(mutex, &real); break;
    case 2: error = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &monotonic); break;
    default: error = pthread_mutex_lock(mutex);
  }
  // A mutex that inherits priorities knows no deadline of the monotonic clock in older libcs.
  must(error == 0 || error == EBUSY || error == ETIMEDOUT || error == EINVAL, "mutex");
  return error == 0;
}

void use_mutex(uint64_t& random) {
  const size_t at = draw(random, 2 * kEach);
  Mutex& mutex = mutexes[at];
  if (!take(&mutex.mutex, random)) return;
  change(mutex.guarded, random);
  if (draw(random, 4) == 0 && at + 1 < 2 * kEach) {
    Mutex& second = mutexes[at + 1 + draw(random, 2 * kEach - at - 1)];
    if (take(&second.mutex, random)) {
      change(second.guarded, random);
      must(pthread_mutex_unlock(&second.mutex) == 0, "unlock of a second mutex");
    }
  }
  must(pthread_mutex_unlock(&mutex.mutex) == 0, "unlock of a mutex");
}

bool take(pthread_rwlock_t* lock, bool to_write, uint64_t& random) {
  const timespec end = soon(CLOCK_REALTIME, draw(random, kShortUs));
  int error = 0;
  switch (draw(random, 4)) {
    case 0:
      error = to_write ? pthread_rwlock_trywrlock(lock) : pthread_rwlock_tryrdlock(lock);
      break;
    case 1:
      error = to_write ? pthread_rwlock_timedwrlock(lock, &end)
                       : pthread_rwlock_timedrdlock(lock, &end);
      break;
    default: error = to_write ? pthread_rwlock_wrlock(lock) : pthread_rwlock_rdlock(lock);
  }
  must(error == 0 || error == EBUSY || error == ETIMEDOUT, "rwlock");
  return error == 0;
}

void use_rwlock(uint64_t& random) {
  Rwlock& rwlock = rwlocks[draw(random, kEach)];
  const bool to_write = draw(random, 3) == 0;
  if (!take(&rwlock.lock, to_write, random)) return;
  if (to_write) change(rwlock.guarded, random);
  must(rwlock.guarded.first == rwlock.guarded.second, "a reader among writers");
  must(pthread_rwlock_unlock(&rwlock.lock) == 0, "unlock of a rwlock");
}

void use_spin(uint64_t& random) {
  Spin& spin = spins[draw(random, kEach)];
  pthread_spin_lock(&spin.lock);
  must(spin.guarded.first++ == spin.guarded.second++, "two have the same spin lock");
  pthread_spin_unlock(&spin.lock);
}

void unlock(void* mutex) { pthread_mutex_unlock(static_cast<pthread_mutex_t*>(mutex)); }

// Without a condition to wait for: somebody signals sooner or later.
void use_cond(uint64_t& random) {
  Mutex& mutex = mutexes[draw(random, kEach)];
  const timespec end = soon(CLOCK_REALTIME, draw(random, 10 * kShortUs));
  pthread_mutex_lock(&mutex.mutex);
  pthread_cleanup_push(unlock, &mutex.mutex);
  {
    const Cancellable cancellable;
    if (draw(random, 3) == 0)
      pthread_cond_wait(&mutex.cond, &mutex.mutex);
    else
      pthread_cond_timedwait(&mutex.cond, &mutex.mutex, &end);
  }
  change(mutex.guarded, random);
  pthread_cleanup_pop(1);
}
void signal_cond(uint64_t& random) {
  Mutex& mutex = mutexes[draw(random, kEach)];
  if (draw(random, 2) == 0)
    pthread_cond_signal(&mutex.cond);
  else
    pthread_cond_broadcast(&mutex.cond);
}

void use_semaphore(uint64_t& random) {
  sem_t& semaphore = semaphores[draw(random, kEach)];
  const timespec end = soon(CLOCK_MONOTONIC, draw(random, kShortUs));
  const Cancellable cancellable;
  switch (draw(random, 3)) {
    case 0: sem_trywait(&semaphore); break;
    case 1: sem_clockwait(&semaphore, CLOCK_MONOTONIC, &end); break;
    default: sem_wait(&semaphore);
  }
}
// No more than some: so there is something to wait for.
void post_semaphore(uint64_t& random) {
  sem_t& semaphore = semaphores[draw(random, kEach)];
  int value = 0;
  sem_getvalue(&semaphore, &value);
  if (value < 3) sem_post(&semaphore);
}

void* end_soon(void* us) {
  nap_us(reinterpret_cast<uintptr_t>(us));
  return nullptr;
}
void use_thread(uint64_t& random) {
  pthread_t thread;
  void* us = reinterpret_cast<void*>(draw(random, kShortUs));
  if (pthread_create(&thread, nullptr, end_soon, us) != 0) return;
  must(pthread_join(thread, nullptr) == 0, "join");
}

void* work(void* argument) {
  auto& worker = *static_cast<Worker*>(argument);
  int before;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
  while (!stop.load(std::memory_order_relaxed)) {
    const uint64_t kind = draw(worker.random, 100);
    if (kind < 40)
      use_mutex(worker.random);
    else if (kind < 60)
      use_rwlock(worker.random);
    else if (kind < 65)
      use_spin(worker.random);
    else if (kind < 75)
      use_cond(worker.random);
    else if (kind < 84)
      signal_cond(worker.random);
    else if (kind < 91)
      use_semaphore(worker.random);
    else if (kind < 99)
      post_semaphore(worker.random);
    else
      use_thread(worker.random);
    worker.steps.fetch_add(1, std::memory_order_relaxed);
  }
  return nullptr;
}

void start(Worker& worker) {
  must(pthread_create(&worker.thread, nullptr, work, &worker) == 0, "pthread_create");
}

// Whoever waits without a deadline is woken by this one, also when all others have ended.
void* wake_all(void*) {
  while (!finished) {
    for (size_t i = 0; i < kEach; i++) {
      int value = 0;
      pthread_cond_broadcast(&mutexes[i].cond);
      sem_getvalue(&semaphores[i], &value);
      if (value == 0) sem_post(&semaphores[i]);
    }
    nap_us(3000);
  }
  return nullptr;
}

uint64_t all_steps() {
  uint64_t sum = 0;
  for (const Worker& worker : workers) sum += worker.steps.load(std::memory_order_relaxed);
  return sum;
}
void* watch(void*) {
  uint64_t last = 0;
  for (int quiet = 0; !finished; quiet++) {
    nap_us(500000);
    const uint64_t now = all_steps();
    if (now != last) quiet = 0;
    last = now;
    must(quiet < 2 * kHangSeconds, "hang");
  }
  return nullptr;
}

void on_signal(int) { sem_post(&semaphores[0]); }

// The child has one thread and the locks as they were; it uses those that are its own.
pthread_mutex_t child_mutex = PTHREAD_MUTEX_INITIALIZER;
void* work_in_child(void*) {
  for (int i = 0; i < 100; i++) {
    pthread_mutex_lock(&child_mutex);
    if (i % 10 == 0) nap_us(20);
    pthread_mutex_unlock(&child_mutex);
  }
  return nullptr;
}
void fork_one(uint64_t random) {
  const pid_t child = fork();
  must(child >= 0, "fork");
  if (child == 0) {
    alarm(kHangSeconds);
    pthread_t thread;
    must(pthread_create(&thread, nullptr, work_in_child, nullptr) == 0, "thread of a child");
    work_in_child(nullptr);
    pthread_join(thread, nullptr);
    if (random % 2 == 0) _exit(7);
    exit(7);
  }
  int status = 0;
  must(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7,
       "a child");
}

void cancel_one(uint64_t& random) {
  Worker& worker = workers[draw(random, kThreads)];
  pthread_cancel(worker.thread);
  void* result = nullptr;
  must(pthread_join(worker.thread, &result) == 0, "join of a worker");
  must(result == PTHREAD_CANCELED, "a worker ended by itself");
  start(worker);
}

void set_up(uint64_t seed) {
  const int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK,
                       PTHREAD_MUTEX_ADAPTIVE_NP};
  for (size_t i = 0; i < 2 * kEach; i++) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, types[i % 4]);
    if (i % 16 == 5) pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    if (i % 16 == 6) pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    must(pthread_mutex_init(&mutexes[i].mutex, &attributes) == 0, "pthread_mutex_init");
    pthread_cond_init(&mutexes[i].cond, nullptr);
  }
  for (size_t i = 0; i < kEach; i++) {
    pthread_rwlock_init(&rwlocks[i].lock, nullptr);
    pthread_spin_init(&spins[i].lock, PTHREAD_PROCESS_PRIVATE);
    sem_init(&semaphores[i], 0, 1);
  }
  for (size_t i = 0; i < kThreads; i++)
    workers[i].random = (seed * kThreads + i + 1) * 0x9e3779b97f4a7c15u | 1;
}

double seconds_since(const timespec& begin) {
  const timespec now = soon(CLOCK_MONOTONIC, 0);
  return static_cast<double>(now.tv_sec - begin.tv_sec) +
         static_cast<double>(now.tv_nsec - begin.tv_nsec) * 1e-9;
}
void disturb_for(double seconds, uint64_t& random) {
  const timespec begin = soon(CLOCK_MONOTONIC, 0);
  for (uint64_t turn = 0; seconds_since(begin) < seconds; turn++) {
    nap_us(5000);
    pthread_kill(workers[draw(random, kThreads)].thread, SIGUSR1);
    if (turn % 4 == 0) cancel_one(random);
    if (turn % 40 == 1) fork_one(random);
  }
}

// Everything is free at the end, and was one's alone whenever it was taken.
void check() {
  for (Mutex& mutex : mutexes) {
    must(pthread_mutex_trylock(&mutex.mutex) == 0, "a mutex is left locked");
    must(mutex.guarded.first == mutex.guarded.second, "what a mutex guards");
  }
  for (Rwlock& rwlock : rwlocks) {
    must(pthread_rwlock_trywrlock(&rwlock.lock) == 0, "a rwlock is left locked");
    must(rwlock.guarded.first == rwlock.guarded.second, "what a rwlock guards");
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  uint64_t random = strtoull(argv[1], nullptr, 10) * 0x2545f4914f6cdd1d | 1;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigaction(SIGUSR1, &action, nullptr);
  set_up(random);
  pthread_t waker, watchdog;
  must(pthread_create(&waker, nullptr, wake_all, nullptr) == 0, "pthread_create");
  must(pthread_create(&watchdog, nullptr, watch, nullptr) == 0, "pthread_create");
  for (Worker& worker : workers) start(worker);
  disturb_for(atof(argv[2]), random);
  stop = true;
  for (const Worker& worker : workers) pthread_join(worker.thread, nullptr);
  finished = true;
  pthread_join(waker, nullptr);
  pthread_join(watchdog, nullptr);
  check();
  puts("ok");
}

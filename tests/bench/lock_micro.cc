// SPDX-License-Identifier: Apache-2.0
// lock_micro --test NAME [--threads N] [--ops TOTAL] [--work STEPS] [--parked N] [--cores N]
//
//   mutex         lock, unlock
//   mutex-own     lock, unlock; each thread has a mutex of its own
//   rwlock-read   lock for reading, unlock
//   rwlock-mixed  the same, but one in 16 locks for writing
//   std-mutex     std::lock_guard on a std::mutex
//   std-shared    std::shared_mutex, taken shared and exclusively in turn
//   semaphore     post, wait
//   cond          two threads hand a turn to and fro; one operation is one hand-over
//   ring          threads hand a turn around by semaphores
//   create        a thread that does nothing is created and joined
//
// With several threads mutex and rwlock-mixed share one lock, which is contended to the end: the
// operations are one stock that all threads take from, since glibc's locks are not fair and a share
// for each would leave the slowest thread alone. STEPS is the length of the critical section and of
// the pause after it, in multiplications that wait for each other. N parked threads only exist.
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

#include <memory>
#include <mutex>
#include <shared_mutex>

#include "tests/bench/workload.h"

namespace mprof::bench {
namespace {

constexpr uint64_t kReadsAndOneWrite = 16;

unsigned cores = 0;  // how many the threads are pinned to; 0 leaves it to the kernel

// On lines of their own, as locks and data of a program mostly are.
alignas(64) pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
alignas(64) pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
alignas(64) pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
alignas(64) volatile uint64_t guarded = 1;
uint64_t stock;  // operations left, in the same line: it is guarded too

uint64_t multiply(uint64_t value, uint64_t steps) {
  for (uint64_t i = 0; i < steps; i++) value = value * 6364136223846793005u + 1442695040888963407u;
  return value;
}

// The thread's own work between critical sections. Through volatile, or nobody would need it.
void pause_between(uint64_t steps) {
  thread_local volatile uint64_t own = 1;
  own = multiply(own, steps);
}

uint64_t processor_ns() {
  timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<uint64_t>(used.tv_sec) * 1000000000u + static_cast<uint64_t>(used.tv_nsec);
}

// Nobody waits here: processor time is all the time there is, and other programs do not show in it.
template <class Operation>
uint64_t free_ns(uint64_t operations, const Operation& operation) {
  const uint64_t start_ns = processor_ns();
  for (uint64_t i = 0; i < operations; i++) operation(i);
  return processor_ns() - start_ns;
}

void lock_and_unlock(uint64_t) {
  pthread_mutex_lock(&mutex);
  guarded = guarded + 1;
  pthread_mutex_unlock(&mutex);
}

uint64_t own_mutexes_ns(unsigned threads, uint64_t operations) {
  struct alignas(128) Own {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    volatile uint64_t guarded = 0;
  };
  const auto owned = std::make_unique<Own[]>(threads);
  const uint64_t start_ns = processor_ns();
  elapsed_ns(threads, [&](unsigned i) {
    Own& own = owned[i];
    pin_thread(i, cores);
    for (uint64_t left = operations / threads; left > 0; left--) {
      pthread_mutex_lock(&own.mutex);
      own.guarded = own.guarded + 1;
      pthread_mutex_unlock(&own.mutex);
    }
  });
  return processor_ns() - start_ns;
}

// False when the stock is empty. Under the lock.
bool take(uint64_t operations, uint64_t steps) {
  if (stock < operations) return false;
  stock -= operations;
  guarded = multiply(guarded, steps);
  return true;
}

void contend_for_mutex(uint64_t steps) {
  for (bool more = true; more;) {
    pthread_mutex_lock(&mutex);
    more = take(1, steps);
    pthread_mutex_unlock(&mutex);
    pause_between(steps);
  }
}

void contend_for_rwlock(uint64_t steps) {
  for (bool more = true; more;) {
    pthread_rwlock_wrlock(&rwlock);
    more = take(kReadsAndOneWrite, steps);
    pthread_rwlock_unlock(&rwlock);
    pause_between(steps);
    for (uint64_t reads = 1; reads < kReadsAndOneWrite; reads++) {
      pthread_rwlock_rdlock(&rwlock);
      pause_between(steps);
      pthread_rwlock_unlock(&rwlock);
      pause_between(steps);
    }
  }
}

template <class Contend>
uint64_t contended_ns(unsigned threads, uint64_t operations, const Contend& contend) {
  stock = operations;
  return cores_of(threads) * elapsed_ns(threads, [&](unsigned i) {
           pin_thread(i, cores);
           contend();
         });
}

// Of two threads that wait for each other one is at work: elapsed time is core time.
uint64_t ping_pong_ns(uint64_t hand_overs) {
  unsigned turn = 0;
  return elapsed_ns(2, [&](unsigned me) {
    pin_thread(me, cores);
    for (uint64_t left = hand_overs / 2; left > 0; left--) {
      pthread_mutex_lock(&mutex);
      while (turn != me) pthread_cond_wait(&cond, &mutex);
      turn = 1 - me;
      pthread_cond_signal(&cond);
      pthread_mutex_unlock(&mutex);
    }
  });
}

uint64_t ring_ns(unsigned threads, uint64_t hand_overs) {
  const auto turns = std::make_unique<sem_t[]>(threads);
  for (unsigned i = 0; i < threads; i++) sem_init(&turns[i], 0, i == 0 ? 1 : 0);
  return elapsed_ns(threads, [&](unsigned me) {
    pin_thread(me, cores);
    for (uint64_t left = hand_overs / threads; left > 0; left--) {
      sem_wait(&turns[me]);
      sem_post(&turns[(me + 1) % threads]);
    }
  });
}

uint64_t semaphore_ns(uint64_t operations) {
  sem_t semaphore;
  sem_init(&semaphore, 0, 0);
  return free_ns(operations, [&](uint64_t) {
    sem_post(&semaphore);
    sem_wait(&semaphore);
  });
}

uint64_t create_and_join_ns(uint64_t operations) {
  const auto nothing = [](void*) -> void* { return nullptr; };
  return elapsed_ns(1, [&](unsigned) {
    for (uint64_t i = 0; i < operations; i++) {
      pthread_t thread;
      if (pthread_create(&thread, nullptr, nothing, nullptr) != 0) die("cannot create", "a thread");
      pthread_join(thread, nullptr);
    }
  });
}

uint64_t std_mutex_ns(uint64_t operations) {
  std::mutex lock;
  return free_ns(operations, [&](uint64_t) {
    const std::lock_guard guard(lock);
    guarded = guarded + 1;
  });
}

uint64_t std_shared_ns(uint64_t operations) {
  std::shared_mutex lock;
  return free_ns(operations, [&](uint64_t i) {
    if (i % 2 == 0) {
      const std::shared_lock guard(lock);
      guarded = guarded + 1;
    } else {
      const std::unique_lock guard(lock);
      guarded = guarded + 1;
    }
  });
}

void read_lock_and_unlock(uint64_t) {
  pthread_rwlock_rdlock(&rwlock);
  guarded = guarded + 1;
  pthread_rwlock_unlock(&rwlock);
}

uint64_t mutex_ns(unsigned threads, uint64_t operations, uint64_t steps) {
  if (threads > 1) return contended_ns(threads, operations, [=] { contend_for_mutex(steps); });
  return free_ns(operations, lock_and_unlock);
}

uint64_t run(std::string_view test, unsigned threads, uint64_t operations, uint64_t steps) {
  if (test == "mutex") return mutex_ns(threads, operations, steps);
  if (test == "mutex-own") return own_mutexes_ns(threads, operations);
  if (test == "rwlock-mixed")
    return contended_ns(threads, operations, [=] { contend_for_rwlock(steps); });
  if (test == "cond") return ping_pong_ns(operations);
  if (test == "ring") return ring_ns(threads, operations);
  if (threads > 1) die("not a test of several threads", test);
  if (test == "rwlock-read") return free_ns(operations, read_lock_and_unlock);
  if (test == "std-mutex") return std_mutex_ns(operations);
  if (test == "std-shared") return std_shared_ns(operations);
  if (test == "semaphore") return semaphore_ns(operations);
  if (test == "create") return create_and_join_ns(operations);
  die("unknown test", test);
}

// glibc leaves out the atomic instructions while there is one thread.
void park(uint64_t threads) {
  for (uint64_t i = 0; i < threads; i++)
    std::thread([] {
      for (;;) pause();
    }).detach();
}

}  // namespace
}  // namespace mprof::bench

int main(int argc, char** argv) {
  using namespace mprof::bench;
  const Options options(argc, argv,
                        {"--test", "--threads", "--ops", "--work", "--parked", "--cores"});
  pin_as_asked();
  park(options.number("--parked", 0));
  cores = static_cast<unsigned>(options.number("--cores", 0));
  const std::string_view test = options.text("--test", "mutex");
  const auto threads = static_cast<unsigned>(options.number("--threads", 1));
  const uint64_t operations = options.number("--ops", 1000000);
  report(operations, run(test, threads, operations, options.number("--work", 20)));
}

// SPDX-License-Identifier: Apache-2.0
// Work shared out by OpenMP, with all that waits in it, and a std::mutex in the middle of it.
#include <omp.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <thread>
#include <vector>

std::mutex g_mutex;

namespace {

constexpr int kThreads = 4;

long add_in_critical() {
  long sum = 0;
#pragma omp parallel for num_threads(kThreads) schedule(dynamic, 16)
  for (int i = 0; i < 20000; ++i) {
#pragma omp critical
    sum += i;
  }
  return sum;
}

long add_under_omp_lock() {
  long sum = 0;
  omp_lock_t lock;
  omp_init_lock(&lock);
#pragma omp parallel for num_threads(kThreads)
  for (int i = 0; i < 20000; ++i) {
    omp_set_lock(&lock);
    sum += i % 7;
    omp_unset_lock(&lock);
  }
  omp_destroy_lock(&lock);
  return sum;
}

// Each thread takes what its neighbour wrote before the barrier.
long pass_on_at_barriers() {
  std::vector<long> cells(kThreads, 1);
#pragma omp parallel num_threads(kThreads)
  for (int round = 0; round < 200; ++round) {
    const int me = omp_get_thread_num();
    const long neighbour = cells[(me + 1) % kThreads];
#pragma omp barrier
    cells[me] = (cells[me] + neighbour * (me + 2)) % 1000003;
#pragma omp barrier
  }
  long sum = 0;
  for (const long cell : cells) sum += cell;
  return sum;
}

long fibonacci(int n) {
  if (n < 2) return n;
  long left = 0;
  long right = 0;
#pragma omp task shared(left) if (n > 12)
  left = fibonacci(n - 1);
  right = fibonacci(n - 2);
#pragma omp taskwait
  return left + right;
}

long run_tasks() {
  long result = 0;
#pragma omp parallel num_threads(kThreads)
#pragma omp single
  result = fibonacci(20);
  return result;
}

std::atomic<int> came;

// Not before all are there: each but the first has to wait.
[[gnu::noinline]] void hold_mutex(long& counter) {
  ++came;
  const std::lock_guard guard(g_mutex);
  while (came < kThreads) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ++counter;
}

long count_under_mutex() {
  long counter = 0;
#pragma omp parallel num_threads(kThreads)
  hold_mutex(counter);
  return counter;
}

}  // namespace

int main() {
  std::printf("critical %ld\n", add_in_critical());
  std::printf("lock %ld\n", add_under_omp_lock());
  std::printf("barriers %ld\n", pass_on_at_barriers());
  std::printf("tasks %ld\n", run_tasks());
  std::printf("mutex %ld\n", count_under_mutex());
  return 3;
}

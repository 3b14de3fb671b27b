// SPDX-License-Identifier: Apache-2.0
// Work shared out by oneTBB: loops, task groups, a pipeline, and a tbb::mutex that is held for
// long.
#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/concurrent_queue.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/mutex.h>
#include <oneapi/tbb/parallel_pipeline.h>
#include <oneapi/tbb/parallel_reduce.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <thread>

namespace tbb = oneapi::tbb;

namespace {

constexpr int kThreads = 4;

long reduce() {
  return tbb::parallel_reduce(
      tbb::blocked_range<int>(0, 2'000'000, 1000), 0L,
      [](const tbb::blocked_range<int>& range, long sum) {
        for (int i = range.begin(); i != range.end(); ++i) sum += i % 11;
        return sum;
      },
      std::plus<>());
}

long fibonacci(int n) {
  if (n < 12) return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
  long left = 0;
  tbb::task_group group;
  group.run([&] { left = fibonacci(n - 1); });
  const long right = fibonacci(n - 2);
  group.wait();
  return left + right;
}

// In order at both ends, side by side in the middle.
long run_pipeline() {
  int next = 0;
  long hash = 0;
  tbb::parallel_pipeline(
      8, tbb::make_filter<void, int>(tbb::filter_mode::serial_in_order,
                                     [&](tbb::flow_control& control) {
                                       if (next == 500) control.stop();
                                       return next++;
                                     }) &
             tbb::make_filter<int, long>(tbb::filter_mode::parallel,
                                         [](int n) { return static_cast<long>(n) * n; }) &
             tbb::make_filter<long, void>(tbb::filter_mode::serial_in_order, [&](long square) {
               hash = (hash * 31 + square) % 1000003;
             }));
  return hash;
}

void hold_mutex(tbb::mutex& mutex, long& counter) {
  const tbb::mutex::scoped_lock guard(mutex);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  ++counter;
}

long count_under_mutex() {
  tbb::mutex mutex;
  long counter = 0;
  tbb::task_group group;
  for (int i = 0; i < 12; ++i) group.run([&] { hold_mutex(mutex, counter); });
  group.wait();
  return counter;
}

using Queue = tbb::concurrent_bounded_queue<int>;

[[gnu::noinline]] long sum_up(Queue& queue) {
  long sum = 0;
  for (int item = 0; item >= 0; queue.pop(item)) sum += item;
  return sum;
}

// Who waits for an item sleeps at once; who waits for a tbb::mutex yields for a long time first.
long pass_through_queue() {
  Queue queue;
  queue.set_capacity(4);
  long sum = 0;
  std::thread consumer([&] { sum = sum_up(queue); });
  for (int i = 0; i < 200; ++i) queue.push(i);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  queue.push(-1);
  consumer.join();
  return sum;
}

}  // namespace

int main() {
  tbb::task_scheduler_handle scheduler{tbb::attach{}};
  {
    // As many on every machine.
    const tbb::global_control threads(tbb::global_control::max_allowed_parallelism, kThreads);
    tbb::task_arena arena(kThreads);
    arena.execute([] {
      std::printf("reduce %ld\n", reduce());
      std::printf("tasks %ld\n", fibonacci(22));
      std::printf("pipeline %ld\n", run_pipeline());
      std::printf("mutex %ld\n", count_under_mutex());
      std::printf("queue %ld\n", pass_through_queue());
    });
  }
  // Waits for the end of the workers.
  std::printf("finalized %d\n", tbb::finalize(scheduler, std::nothrow));
  return 3;
}

// SPDX-License-Identifier: Apache-2.0
// Processor time whose split between functions is known: cpu_truth shares THREADS MS_PER_THREAD
//                                                        cpu_truth short THREADS MS_PER_THREAD
//
// `shares`: each thread gives 60, 30 and 10 % of its time to spin_most, spin_some and spin_few.
// `short`: so many threads one after the other, all in spin_short, beside two in spin_long.
// Prints a line a function, "NAME NANOSECONDS", as the threads' own clocks had it, and `process`.
//
// Turns are of many lengths: a timer that ticks as evenly as the turns would see some of them only.
// And long: the kernel lets timers expire at its ticks, and on a busy machine not at each.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace {

constexpr int64_t kMs = 1'000'000;

int64_t read_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}
int64_t thread_ns() { return read_ns(CLOCK_THREAD_CPUTIME_ID); }

struct Spinner {
  const char* name;
  void (*spin)(int64_t ns);
  int percent;
  std::atomic<int64_t> spent_ns{0};
};

// Some 100 microseconds between two looks at the clock, whose time is the kernel's.
[[gnu::always_inline]] inline void burn(int64_t ns) {
  const int64_t end = thread_ns() + ns;
  do {
    uint64_t value = static_cast<uint64_t>(end);
    for (int i = 0; i < 100'000; ++i) {
      value = value * 6364136223846793005u + 1442695040888963407u;
      asm volatile("" : "+r"(value));
    }
  } while (thread_ns() < end);
}

}  // namespace

// Not in a namespace: the test knows them by these names. Each has code of its own.
[[gnu::noinline]] void spin_most(int64_t ns) { burn(ns); }
[[gnu::noinline]] void spin_some(int64_t ns) { burn(ns + 1); }
[[gnu::noinline]] void spin_few(int64_t ns) { burn(ns + 2); }
[[gnu::noinline]] void spin_short(int64_t ns) { burn(ns + 3); }
[[gnu::noinline]] void spin_long(int64_t ns) { burn(ns + 4); }

namespace {

Spinner spinners[] = {{"spin_most", spin_most, 60, {}},
                      {"spin_some", spin_some, 30, {}},
                      {"spin_few", spin_few, 10, {}},
                      {"spin_short", spin_short, 0, {}},
                      {"spin_long", spin_long, 0, {}}};

[[gnu::noinline]] void take_turn(Spinner& spinner, int64_t ns) {
  const int64_t before = thread_ns();
  spinner.spin(ns);
  spinner.spent_ns += thread_ns() - before;
}

// A turn is half to one and a half of its share of a second.
[[gnu::noinline]] void take_turns(int64_t total_ns, unsigned seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> stretch(0.5, 1.5);
  for (int64_t left_ns = total_ns; left_ns > 0; left_ns -= 1000 * kMs)
    for (int i = 0; i < 3; ++i)
      take_turn(spinners[i],
                static_cast<int64_t>(stretch(random) * spinners[i].percent * 10 * kMs));
}

void run_shares(int threads, int64_t ns) {
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(take_turns, ns, i);
  take_turns(ns, 0);
  for (std::thread& other : others) other.join();
}

void run_short(int threads, int64_t ns) {
  std::vector<std::thread> others;
  for (int i = 0; i < 2; ++i) others.emplace_back([] { take_turn(spinners[4], 1000 * kMs); });
  for (int i = 0; i < threads; ++i) std::thread([ns] { take_turn(spinners[3], ns); }).join();
  for (std::thread& other : others) other.join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int threads = atoi(argv[2]);
  const int64_t ns = atoi(argv[3]) * kMs;
  if (strcmp(argv[1], "shares") == 0)
    run_shares(threads, ns);
  else
    run_short(threads, ns);
  for (const Spinner& spinner : spinners)
    if (spinner.spent_ns != 0)
      printf("%s %lld\n", spinner.name, static_cast<long long>(spinner.spent_ns));
  printf("process %lld\n", static_cast<long long>(read_ns(CLOCK_PROCESS_CPUTIME_ID)));
}

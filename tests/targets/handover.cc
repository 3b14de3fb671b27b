// SPDX-License-Identifier: Apache-2.0
// One thread allocates, another frees: handover SECONDS [PAUSE_US]
//
// The giver allocates a `first_of_pair` and then a `second_of_pair`; the taker frees them in the
// opposite order. So at any consistent cut there are as many firsts as seconds, or one more, and
// neither was freed more often than it was allocated. At the end nothing is left.
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace {

constexpr size_t kSlots = 64;
struct Pair {
  void* first;
  void* second;
};
Pair slots[kSlots];
std::atomic<size_t> given;
std::atomic<size_t> taken;
std::atomic<bool> finished;
useconds_t pause_us;

double now_s() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

extern "C" [[gnu::noinline]] void* first_of_pair() {
  void* block = malloc(300);
  asm volatile("" : : "r"(block) : "memory");
  return block;
}
extern "C" [[gnu::noinline]] void* second_of_pair() {
  void* block = malloc(600);
  asm volatile("" : : "r"(block) : "memory");
  return block;
}

namespace {

void give_until(double end_s) {
  for (size_t next = 0; now_s() < end_s; next++) {
    while (next - taken.load(std::memory_order_acquire) >= kSlots) sched_yield();
    Pair& slot = slots[next % kSlots];
    slot.first = first_of_pair();
    slot.second = second_of_pair();
    given.store(next + 1, std::memory_order_release);
    if (pause_us != 0) usleep(pause_us);
  }
}

void* take(void*) {
  for (size_t next = 0;; next++) {
    while (next == given.load(std::memory_order_acquire)) {
      if (finished.load() && next == given.load()) return nullptr;
      sched_yield();
    }
    free(slots[next % kSlots].second);
    free(slots[next % kSlots].first);
    taken.store(next + 1, std::memory_order_release);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? atof(argv[1]) : 1;
  pause_us = argc > 2 ? static_cast<useconds_t>(atoi(argv[2])) : 0;
  pthread_t taker;
  if (pthread_create(&taker, nullptr, take, nullptr) != 0) return 2;
  give_until(now_s() + seconds);
  finished.store(true);
  pthread_join(taker, nullptr);
}

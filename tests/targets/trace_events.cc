// SPDX-License-Identifier: Apache-2.0
// Makes events of a trace as fast as a drainer takes them: trace_events THREADS ROUNDS
//
// A round of a thread is a region, a byte through a pipe, and now and then a log with its number, a
// yield, a task, a mutex that another thread has, and a moment of sleep, in which the drainer gets
// ahead. ROUNDS 0: until it is killed. Prints how many rounds there were, of all threads together.
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <vector>

#include "preload/mprof.h"

namespace {

constexpr uint64_t kRoundsBetweenLogs = 16;
constexpr uint64_t kRoundsBetweenYields = 64;
constexpr uint64_t kRoundsBetweenTasks = 64;
constexpr uint64_t kRoundsBetweenLocks = 64;
constexpr uint64_t kRoundsBetweenPauses = 256;

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
uint64_t rounds_wanted;

void say_round(uint64_t task, uint64_t round) {
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, round);
  mprof_log(task, "round", text);
}

void hold_for_a_moment() {
  pthread_mutex_lock(&mutex);
  usleep(50);
  pthread_mutex_unlock(&mutex);
}

}  // namespace

extern "C" [[gnu::noinline]] void pass_a_byte(const int* channel) {
  char byte = 'x';
  if (write(channel[1], &byte, 1) != 1 || read(channel[0], &byte, 1) != 1) abort();
}

extern "C" [[gnu::noinline]] void do_a_round(uint64_t round, const int* channel) {
  const uint64_t task = round % kRoundsBetweenTasks == 0 ? mprof_task_begin("errand", 0) : 0;
  const mprof_region_t region = mprof_region_begin(task, "round");
  pass_a_byte(channel);
  if (round % kRoundsBetweenLogs == 0) say_round(task, round);
  if (round % kRoundsBetweenLocks == 0) hold_for_a_moment();
  if (round % kRoundsBetweenYields == 0) sched_yield();
  mprof_region_end(region);
  if (task != 0) mprof_task_end(task);
}

namespace {

void* make_events(void*) {
  int channel[2];
  if (pipe(channel) != 0) abort();
  for (uint64_t round = 0; rounds_wanted == 0 || round < rounds_wanted; ++round) {
    do_a_round(round, channel);
    if (round % kRoundsBetweenPauses == 0) usleep(200);
  }
  close(channel[0]);
  close(channel[1]);
  return nullptr;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  std::vector<pthread_t> threads(strtoul(arguments[1], nullptr, 10));
  rounds_wanted = strtoull(arguments[2], nullptr, 10);
  for (pthread_t& thread : threads)
    if (pthread_create(&thread, nullptr, make_events, nullptr) != 0) return 3;
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  printf("%llu\n", static_cast<unsigned long long>(rounds_wanted * threads.size()));
  return 0;
}

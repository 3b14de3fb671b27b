// SPDX-License-Identifier: Apache-2.0
// Turns its own trace on and off: trace_sessions COUNT
//
// While it is on, a thread that was there before works within a region of the session's name, and
// another one is made and joined; while it is off the same happens in regions named "untold".
// Prints the answers of mprof.h that were not as they should be, and nothing else.
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "preload/mprof.h"

static sem_t wanted;
static sem_t done;
static const char* name;

static void expect(const char* what, int answer, int right) {
  if (answer != right) printf("%s: %d\n", what, answer);
}

extern "C" __attribute__((noinline)) void work_in_region() {
  const mprof_region_t region = mprof_region_begin(0, name);
  usleep(1000);
  mprof_region_end(region);
}

static void* work_when_wanted(void*) {
  for (;;) {
    sem_wait(&wanted);
    if (name == nullptr) return nullptr;
    work_in_region();
    sem_post(&done);
  }
}

static void* live_shortly(void* argument) { return argument; }

static void work() {
  pthread_t thread;
  sem_post(&wanted);
  sem_wait(&done);
  if (pthread_create(&thread, nullptr, live_shortly, nullptr) != 0) exit(3);
  pthread_join(thread, nullptr);
}

int main(int count, char** arguments) {
  if (count != 2) return 2;
  pthread_t worker;
  sem_init(&wanted, 0, 0);
  sem_init(&done, 0, 0);
  if (pthread_create(&worker, nullptr, work_when_wanted, nullptr) != 0) return 3;
  for (int i = 0; i < atoi(arguments[1]); i++) {
    char session[32];
    snprintf(session, sizeof session, "session %d", i);
    name = "untold";
    work();
    expect("is on", mprof_trace_is_on(), 0);
    expect("start", mprof_trace_start(), 0);
    expect("is on", mprof_trace_is_on(), 1);
    name = session;
    work();
    expect("stop", mprof_trace_stop(), 0);
  }
  name = nullptr;
  sem_post(&wanted);
  pthread_join(worker, nullptr);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// hand_around THREADS MS: threads hand a turn around by semaphores for so long. Prints how long
// all of them waited for it, in nanoseconds, as they measured it themselves.
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { kMostThreads = 64 };
static struct Member {
  sem_t turn;
  pthread_t thread;
  int64_t waited_ns;
} members[kMostThreads];
static int count;
static int64_t end_ns;

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

__attribute__((noinline)) static void wait_for_turn(struct Member* member) {
  const int64_t begin_ns = now_ns();
  while (sem_wait(&member->turn) != 0) {
  }
  member->waited_ns += now_ns() - begin_ns;
}

static void* run(void* argument) {
  struct Member* member = argument;
  struct Member* next = &members[(member - members + 1) % count];
  for (int more = 1; more;) {
    wait_for_turn(member);
    more = now_ns() < end_ns;
    sem_post(&next->turn);
  }
  return NULL;
}

int main(int argc, char** argv) {
  count = argc > 2 ? atoi(argv[1]) : 0;
  if (count < 2 || count > kMostThreads) return 2;
  end_ns = now_ns() + atoi(argv[2]) * INT64_C(1000000);
  for (int i = 0; i < count; i++) sem_init(&members[i].turn, 0, i == 0);
  for (int i = 0; i < count; i++)
    if (pthread_create(&members[i].thread, NULL, run, &members[i]) != 0) return 3;
  int64_t waited_ns = 0;
  for (int i = 0; i < count; i++) {
    pthread_join(members[i].thread, NULL);
    waited_ns += members[i].waited_ns;
  }
  printf("%lld\n", (long long)waited_ns);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// A program that is told by its standard input what to do, and is blocked in between:
// steered poll|read|spin
//
// Each byte is a command: '+' keeps 1000 blocks of 100 bytes, '-' frees the last 1000 kept, 'm'
// makes and frees 200000 blocks of 1000 bytes, 'w' makes a thread wait 20 ms for a mutex. Each is
// answered by a line; so is an end of a wait that brought no byte. In between it is blocked in poll
// or read, or computes.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kBlocks = 1000, kMaxKept = 100 };
static void* kept[kMaxKept][kBlocks];
static int kept_count;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

__attribute__((noinline)) static void keep_blocks(void) {
  for (int i = 0; i < kBlocks; i++) kept[kept_count][i] = malloc(100);
  kept_count++;
}

__attribute__((noinline)) static void free_blocks(void) {
  kept_count--;
  for (int i = 0; i < kBlocks; i++) free(kept[kept_count][i]);
}

__attribute__((noinline)) static void make_many(void) {
  for (int i = 0; i < 200000; i++) {
    void* block = malloc(1000);
    *(volatile char*)block = 1;
    free(block);
  }
}

static void* wait_for_mutex(void* unused) {
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  return unused;
}

__attribute__((noinline)) static void keep_waiting(void) {
  pthread_t thread;
  pthread_mutex_lock(&mutex);
  pthread_create(&thread, NULL, wait_for_mutex, NULL);
  // 2: somebody sleeps for it. A thread may take long to get there.
  while (*(volatile int*)&mutex.__data.__lock != 2) usleep(1000);
  usleep(20000);
  pthread_mutex_unlock(&mutex);
  pthread_join(thread, NULL);
}

static int input_is_there(int timeout_ms) {
  struct pollfd wait = {0, POLLIN, 0};
  const int ready = poll(&wait, 1, timeout_ms);
  if (ready < 0) printf("poll: %s\n", strerror(errno));
  return ready > 0;
}

static volatile unsigned long steps;

static int await_byte(const char* how, char* byte) {
  if (strcmp(how, "poll") == 0 && !input_is_there(-1)) return -1;
  while (strcmp(how, "spin") == 0 && !input_is_there(0))
    for (int i = 0; i < 2000000; i++) steps++;
  return (int)read(0, byte, 1);
}

static void obey(char command) {
  if (command == '+') keep_blocks();
  if (command == '-') free_blocks();
  if (command == 'm') make_many();
  if (command == 'w') keep_waiting();
  printf("%c\n", command);
}

int main(int count, char** arguments) {
  setvbuf(stdout, NULL, _IONBF, 0);
  if (count != 2) return 2;
  char byte;
  for (;;) {
    const int got = await_byte(arguments[1], &byte);
    if (got == 0) return 0;
    if (got < 0) printf("%s: %s\n", arguments[1], strerror(errno));
    if (got > 0) obey(byte);
  }
}

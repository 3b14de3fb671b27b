// SPDX-License-Identifier: Apache-2.0
// How far down a thread's stack, and its alternate signal stack, were written to: both are painted
// before. stack_use prints "WHAT: STACK ALTERNATE" in bytes; the first thread made of all is not
// shown, because the loader then binds functions on its stack.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { kStackBytes = 256 << 10, kPaint = 0xa5 };

static unsigned char* painted(void) {
  unsigned char* stack =
      mmap(NULL, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) abort();
  memset(stack, kPaint, kStackBytes);
  return stack;
}
static int written(const unsigned char* stack) {
  int low = 0;
  while (low < kStackBytes && stack[low] == kPaint) low++;
  return kStackBytes - low;
}

static void do_nothing(void) {}
static void compute(void) {
  struct timespec now;
  do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  while (now.tv_nsec < 150000000);
}
static void allocate(void) {
  for (int i = 0; i < 40000; i++) {
    void* volatile block = malloc((size_t)(100 + i % 4000));
    block = realloc(block, 5000);
    free(block);
  }
}
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static void* contend(void* unused) {
  for (int i = 0; i < 200; i++) {
    pthread_mutex_lock(&mutex);
    usleep(100);
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&mutex);
  }
  return unused;
}
static void lock(void) {
  pthread_t other;
  pthread_create(&other, NULL, contend, NULL);
  for (int i = 0; i < 100; i++) {
    const struct timespec past = {0, 1};
    pthread_mutex_lock(&mutex);
    pthread_cond_timedwait(&cond, &mutex, &past);
    pthread_mutex_unlock(&mutex);
    usleep(50);
  }
  pthread_join(other, NULL);
}
static void call(void) {
  for (int i = 0; i < 200; i++) {
    char byte;
    const int fd = open("/dev/null", O_RDWR);
    if (write(fd, "", 1) != 1 || read(fd, &byte, 1) != 0) abort();
    close(fd);
    poll(NULL, 0, 0);
    sched_yield();
  }
}
static void* end(void* unused) { return unused; }
static void make_thread(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, end, NULL);
  pthread_join(thread, NULL);
}

static unsigned char* alternate;
static void* run(void* work) {
  const stack_t stack = {.ss_sp = alternate, .ss_size = kStackBytes};
  if (alternate != NULL) sigaltstack(&stack, NULL);
  ((void (**)(void))work)[0]();
  return NULL;
}
// Bytes of the stack; of the alternate one, too, if there is to be one.
static int measure(void (*work)(void), int* on_alternate) {
  pthread_attr_t attributes;
  pthread_t thread;
  unsigned char* stack = painted();
  alternate = on_alternate != NULL ? painted() : NULL;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, stack, kStackBytes);
  pthread_create(&thread, &attributes, run, &work);
  pthread_join(thread, NULL);
  if (on_alternate != NULL) *on_alternate = written(alternate);
  return written(stack);
}

int main(void) {
  static const struct {
    const char* name;
    void (*run)(void);
  } kWorks[] = {{"nothing", do_nothing}, {"compute", compute}, {"allocate", allocate},
                {"lock", lock},          {"call", call},       {"make_thread", make_thread}};
  for (size_t i = 0; i < sizeof kWorks / sizeof kWorks[0]; i++) {
    int on_alternate;
    measure(kWorks[i].run, &on_alternate);
    measure(kWorks[i].run, &on_alternate);
    printf("%s: %d %d\n", kWorks[i].name, measure(kWorks[i].run, NULL), on_alternate);
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// An allocator, to be preloaded, that ends the program when a thread comes into it that is inside
// it already, as from a hook that allocates while the allocator calls what is hooked. It keeps
// count of its calls and tells the numbers when a program that returned from main, or called
// exit(), ends.
//
// STRICT_MALLOC, of words: `locks`: takes a mutex as any program does, and with it in its hands
// maps memory, reads a file and yields now and then; `looks-up`: its first calls look functions up,
// of which one is missing, so that dlsym() allocates in the middle of malloc.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern void* __libc_malloc(size_t);
extern void __libc_free(void*);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

enum { kMalloc, kFree, kCalloc, kRealloc, kAligned, kFunctions };
static const char* const names[kFunctions] = {"malloc", "free", "calloc", "realloc", "aligned"};
static unsigned long calls[kFunctions];
static int is_counting;

static __thread const char* inside __attribute__((tls_model("initial-exec")));
static __thread int looking_up __attribute__((tls_model("initial-exec")));

enum { kUnknown, kLocks = 1, kLooksUp = 2, kKnown = 4 };
static int modes;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned long turns;

static void say(const char* text) {
  ssize_t written = write(2, text, strlen(text));  // some programs have closed it by then
  (void)written;
}

static void end(const char* function) {
  inside = NULL;
  say("strict_malloc: ");
  say(function);
  say(" called from inside the allocator\n");
  abort();
}

static int modes_wanted(void) {
  const char* words = getenv("STRICT_MALLOC");
  int wanted = kKnown;
  if (words && strstr(words, "locks")) wanted |= kLocks;
  if (words && strstr(words, "looks-up")) wanted |= kLooksUp;
  return wanted;
}

// What allocators do with their lock in their hands.
static void work(void) {
  char text[16];
  void* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC);
  if (page == MAP_FAILED || fd < 0 || read(fd, text, sizeof text) <= 0) abort();
  close(fd);
  munmap(page, 4096);
  sched_yield();
}

static void look_up(void) {
  looking_up = 1;
  if (!dlsym(RTLD_DEFAULT, "malloc") || dlsym(RTLD_DEFAULT, "no_such_function")) abort();
  looking_up = 0;
}

// 0: this call comes from a look-up of the allocator's own.
static int enter(int function) {
  int before = errno;
  if (looking_up) return 0;
  if (inside) end(names[function]);
  inside = names[function];
  if (is_counting) __atomic_fetch_add(&calls[function], 1, __ATOMIC_RELAXED);
  if (modes == kUnknown) {
    modes = modes_wanted();
    if (modes & kLooksUp) look_up();
  }
  if (modes & kLocks) {
    pthread_mutex_lock(&mutex);
    if (turns++ % 64 == 0) work();
  }
  errno = before;
  return 1;
}

static void leave(int entered) {
  if (!entered) return;
  if (modes & kLocks) pthread_mutex_unlock(&mutex);
  inside = NULL;
}

void* malloc(size_t bytes) {
  int entered = enter(kMalloc);
  void* block = __libc_malloc(bytes);
  leave(entered);
  return block;
}

void free(void* block) {
  int entered;
  if (block == NULL) return;
  entered = enter(kFree);
  __libc_free(block);
  leave(entered);
}

void* calloc(size_t count, size_t size) {
  int entered = enter(kCalloc);
  void* block = __libc_calloc(count, size);
  leave(entered);
  return block;
}

void* realloc(void* old, size_t bytes) {
  int entered = enter(kRealloc);
  void* block = __libc_realloc(old, bytes);
  leave(entered);
  return block;
}

void* reallocarray(void* old, size_t count, size_t size) {
  size_t bytes;
  if (!__builtin_mul_overflow(count, size, &bytes)) return realloc(old, bytes);
  errno = ENOMEM;
  return NULL;
}

void* memalign(size_t alignment, size_t bytes) {
  int entered = enter(kAligned);
  void* block = __libc_memalign(alignment, bytes);
  leave(entered);
  return block;
}

void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
void* valloc(size_t bytes) { return memalign(4096, bytes); }
void* pvalloc(size_t bytes) { return memalign(4096, (bytes + 4095) & ~(size_t)4095); }

int posix_memalign(void** out, size_t alignment, size_t bytes) {
  int before = errno;
  void* block;
  if (alignment % sizeof(void*) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0)
    return EINVAL;
  block = memalign(alignment, bytes);
  errno = before;
  if (block == NULL) return ENOMEM;
  *out = block;
  return 0;
}

static void lock(void) { pthread_mutex_lock(&mutex); }
static void unlock(void) { pthread_mutex_unlock(&mutex); }

// A child writes nothing: its parent tells.
static pid_t counting_process;
static void tell(void) {
  char text[256];
  int at = 0;
  if (getpid() != counting_process) return;
  is_counting = 0;
  for (int i = 0; i < kFunctions; i++)
    at += snprintf(text + at, sizeof text - (size_t)at, " %s %lu", names[i], calls[i]);
  say("strict_malloc:");
  say(text);
  say("\n");
}

typedef int Main(int, char**, char**);
static Main* programs_main;
static int counted_main(int count, char** arguments, char** environment) {
  pthread_atfork(lock, unlock, unlock);
  atexit(tell);
  counting_process = getpid();
  is_counting = 1;
  return programs_main(count, arguments, environment);
}

// Counting begins with main: what a preloaded library does at its start is its own affair.
int __libc_start_main(Main* main, int count, char** arguments, void (*init)(void),
                      void (*fini)(void), void (*ld_fini)(void), void* stack_end) {
  int (*real)(Main*, int, char**, void (*)(void), void (*)(void), void (*)(void), void*);
  *(void**)&real = dlsym(RTLD_NEXT, "__libc_start_main");
  programs_main = main;
  return real(counted_main, count, arguments, init, fini, ld_fini, stack_end);
}

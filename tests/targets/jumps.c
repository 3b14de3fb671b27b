// SPDX-License-Identifier: Apache-2.0
// Ways to be somewhere else than where one was called: jumps, fibers, alternate stacks, deep and
// large frames, code that no table describes.  jumps WHAT
#include <alloca.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static long cpu_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
static void spin_us(long us) {
  const long end = cpu_us() + us;
  while (cpu_us() < end) continue;
}
static void allocate_some(void) {
  for (int i = 0; i < 50; i++) {
    void* volatile block = malloc((size_t)i * 100);
    free(block);
  }
}
static unsigned char* map(size_t bytes, int rights) {
  void* memory = mmap(NULL, bytes, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  return memory;
}
static void set_handler(int number, void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
  if (sigaction(number, &action, NULL) != 0) abort();
}

// Out of handlers: a timer's, in the middle of computing and of waiting, and a guard page's.
static sigjmp_buf back;
static volatile sig_atomic_t may_jump;
static volatile long jumped;

static void jump_back(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  if (!may_jump) return;
  may_jump = 0;
  siglongjmp(back, 1);
}
static void repeat_alarm(long us) {
  const struct itimerval every = {{0, us}, {0, us}};
  setitimer(ITIMER_REAL, &every, NULL);
}
static pthread_mutex_t jump_mutex = PTHREAD_MUTEX_INITIALIZER;
static int alarms(void) {
  set_handler(SIGALRM, jump_back, SA_NODEFER);
  repeat_alarm(2000);
  for (volatile int i = 0; i < 200; i++) {
    if (sigsetjmp(back, 1) == 0) {
      may_jump = 1;
      if (i % 4 == 0) pause();
      if (i % 4 == 1) sleep(10);
      if (i % 4 == 2) usleep(900000);
      for (;;) spin_us(100);
    }
    jumped++;
    pthread_mutex_lock(&jump_mutex);
    allocate_some();
    pthread_mutex_unlock(&jump_mutex);
  }
  repeat_alarm(0);
  printf("alarms: %ld\n", jumped);
  return 0;
}
static unsigned char* guard;
static void on_fault(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  if (info->si_addr != guard) _exit(9);
  siglongjmp(back, 1);
}
static int guard_pages(void) {
  guard = map(4096, PROT_NONE);
  set_handler(SIGSEGV, on_fault, 0);
  for (volatile int i = 0; i < 20000; i++) {
    if (sigsetjmp(back, 1) == 0)
      *(volatile unsigned char*)guard = 1;
    else
      jumped++;
    if (i % 100 == 0) allocate_some();
  }
  // Barriers of a collector: the handler opens the page, and the store is made again.
  printf("guard pages: %ld\n", jumped);
  return 0;
}
static void open_page(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  mprotect((void*)((uintptr_t)info->si_addr & ~(uintptr_t)4095), 4096, PROT_READ | PROT_WRITE);
  jumped++;
}
static int write_barriers(void) {
  enum { kPages = 64 };
  unsigned char* pages = map(kPages * 4096, PROT_READ);
  set_handler(SIGSEGV, open_page, SA_NODEFER);
  for (int round = 0; round < 100; round++) {
    for (int i = 0; i < kPages; i++) pages[i * 4096] = (unsigned char)round;
    mprotect(pages, kPages * 4096, PROT_READ);
    allocate_some();
  }
  printf("write barriers: %ld\n", jumped);
  return 0;
}

// setjmp as exceptions: many frames are left at once, each of which holds a block.
struct Catch {
  jmp_buf place;
  struct Catch* outer;
};
static struct Catch* catching;
static void* kept[64];
__attribute__((noipa)) static void leave(void) { longjmp(catching->place, 1); }
static void throw_from(int depth) {
  struct Catch here;
  if (depth > 40) return leave();
  here.outer = catching;
  kept[depth] = malloc((size_t)depth * 64);
  if (depth % 10 == 0) {
    catching = &here;
    if (setjmp(here.place) != 0) {
      catching = here.outer;
      free(kept[depth]);
      longjmp(catching->place, 1);
    }
  }
  throw_from(depth + 1);
}
static int setjmp_stacks(void) {
  for (volatile int i = 0; i < 3000; i++) {
    struct Catch outermost = {.outer = NULL};
    catching = &outermost;
    if (setjmp(outermost.place) == 0)
      throw_from(1);
    else
      jumped++;
    for (int depth = 1; depth <= 40; depth++)
      if (depth % 10 != 0) free(kept[depth]);
  }
  printf("setjmp stacks: %ld\n", jumped);
  return 0;
}

// Fibers that go from thread to thread, each turn on another one.
enum { kFibers = 64, kFiberThreads = 4, kTurns = 200, kFiberStack = 32 << 10 };
static struct Fiber {
  ucontext_t context;
  atomic_int busy;
  int turns;
  long sum;
} fibers[kFibers];
static __thread ucontext_t scheduler;
static __thread struct Fiber* running;
static atomic_int fibers_done;

// Not cached over a switch: the fiber may be on another thread then.
__attribute__((noinline)) static ucontext_t* this_scheduler(void) {
  __asm__ volatile("");
  return &scheduler;
}
static void fiber_body(unsigned number) {
  struct Fiber* fiber = &fibers[number];
  for (; fiber->turns < kTurns; fiber->turns++) {
    unsigned char* volatile block = malloc(1000 + number);
    block[999] = (unsigned char)number;
    pthread_mutex_lock(&jump_mutex);
    fiber->sum += block[999];
    pthread_mutex_unlock(&jump_mutex);
    swapcontext(&fiber->context, this_scheduler());
    free(block);
  }
  atomic_fetch_add(&fibers_done, 1);
  for (;;) swapcontext(&fiber->context, this_scheduler());
}
static void* run_fibers(void* unused) {
  unsigned next = (unsigned)(uintptr_t)unused * 7;
  while (atomic_load(&fibers_done) < kFibers) {
    struct Fiber* fiber = &fibers[next++ % kFibers];
    if (atomic_exchange(&fiber->busy, 1) != 0) continue;
    running = fiber;
    swapcontext(this_scheduler(), &fiber->context);
    atomic_store(&running->busy, 0);
  }
  return NULL;
}
static void make_fibers(void) {
  for (volatile unsigned i = 0; i < kFibers; i++) {
    getcontext(&fibers[i].context);
    fibers[i].context.uc_stack.ss_sp = map(kFiberStack, PROT_READ | PROT_WRITE);
    fibers[i].context.uc_stack.ss_size = kFiberStack;
    makecontext(&fibers[i].context, (void (*)(void))fiber_body, 1, i);
  }
}
static int migrating_fibers(void) {
  make_fibers();
  pthread_t threads[kFiberThreads];
  for (uintptr_t i = 0; i < kFiberThreads; i++)
    pthread_create(&threads[i], NULL, run_fibers, (void*)i);
  for (int i = 0; i < kFiberThreads; i++) pthread_join(threads[i], NULL);
  long sum = 0;
  for (int i = 0; i < kFibers; i++) sum += fibers[i].sum;
  printf("fibers: %d done, %ld\n", atomic_load(&fibers_done), sum);
  return 0;
}

// Alternate stacks of every size, with what lies below them watched, and handlers on them that
// need most of what is there.
enum { kBelow = 64 << 10, kPaint = 0xa5 };
static volatile long handled;
static void stay_on_stack(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  spin_us(5000);
  handled++;
}
static int small_signal_stacks(void) {
  set_handler(SIGUSR1, stay_on_stack, SA_ONSTACK);
  const size_t minimum = (size_t)sysconf(_SC_MINSIGSTKSZ);
  const size_t sizes[] = {2048, minimum, minimum + 512, minimum + 1024, 8192, 16384};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    unsigned char* memory = map(kBelow + sizes[i], PROT_READ | PROT_WRITE);
    memset(memory, kPaint, kBelow);
    const stack_t stack = {.ss_sp = memory + kBelow, .ss_size = sizes[i]};
    if (sigaltstack(&stack, NULL) != 0) printf("%zu: %s\n", i, strerror(errno));
    spin_us(20000);
    if (sizes[i] >= minimum + 512)
      for (int turn = 0; turn < 5; turn++) raise(SIGUSR1);
    stack_t now;
    sigaltstack(NULL, &now);
    size_t intact = 0;
    while (intact < kBelow && memory[intact] == kPaint) intact++;
    printf("%zu: %d handled, %s below, %s\n", i, (int)handled,
           intact == kBelow ? "intact" : "written to",
           now.ss_sp == stack.ss_sp && now.ss_size == stack.ss_size ? "as set" : "another");
  }
  struct sigaction action;
  sigaction(SIGUSR1, NULL, &action);
  for (int number = 1; number < 65; number++)
    if (sigismember(&action.sa_mask, number) == 1) printf("blocks %d\n", number);
  const stack_t none = {.ss_flags = SS_DISABLE};
  printf("none: %d\n", sigaltstack(&none, NULL));
  spin_us(5000);
  return 0;
}

// A stack that overflows is noticed on another one, again and again.
static void overflown(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  siglongjmp(back, 1);
}
__attribute__((noinline)) static long recurse(long depth) {
  volatile char frame[200];
  frame[0] = (char)depth;
  if (depth % 1000 == 0) allocate_some();
  const long below = depth == 0 ? 0 : recurse(depth - 1);
  return below + frame[0];
}
static void* overflow(void* turns) {
  const size_t bytes = 32 << 10;
  const stack_t stack = {.ss_sp = map(bytes, PROT_READ | PROT_WRITE), .ss_size = bytes};
  sigaltstack(&stack, NULL);
  for (volatile long i = 0; i < (long)turns; i++) {
    if (sigsetjmp(back, 1) == 0)
      recurse(1L << 40);
    else
      jumped++;
  }
  return NULL;
}
static int stack_overflow(void) {
  set_handler(SIGSEGV, overflown, SA_ONSTACK);
  overflow((void*)20);
  pthread_t thread;
  pthread_create(&thread, NULL, overflow, (void*)20);
  pthread_join(thread, NULL);
  printf("overflows: %ld\n", jumped);
  return 0;
}

// Frames beyond any number, and frames of a megabyte.
__attribute__((noinline)) static size_t large_frames(int depth) {
  const size_t bytes = 50000 + (size_t)depth * 1000;
  unsigned char* frame = alloca(bytes);
  frame[0] = frame[bytes - 1] = (unsigned char)depth;
  void* volatile block = malloc(5000);
  spin_us(200);
  const size_t below = depth == 0 ? 0 : large_frames(depth - 1);
  free(block);
  return below + frame[0] + frame[bytes - 1];
}
static void* be_deep(void* unused) {
  long sum = 0;
  for (int i = 0; i < 20; i++) sum += recurse(100000) != 0;
  sum += (long)large_frames(100);
  printf("deep: %ld\n", sum);
  return unused;
}
static int deep(void) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 20);
  pthread_t thread;
  pthread_create(&thread, &attributes, be_deep, NULL);
  return pthread_join(thread, NULL);
}

// Code made at run time, without tables and without frame pointers, that calls malloc and free.
typedef void Generated(void* (*allocate)(size_t), void (*release)(void*), long turns);
static const unsigned char kCode[] = {
    0x55,                          // push rbp
    0x53,                          // push rbx
    0x41, 0x54,                    // push r12
    0x41, 0x55,                    // push r13
    0x48, 0x83, 0xec, 0x08,        // sub rsp, 8
    0x48, 0x89, 0xfb,              // mov rbx, rdi
    0x49, 0x89, 0xf4,              // mov r12, rsi
    0x49, 0x89, 0xd5,              // mov r13, rdx
    0xbd, 0xef, 0xbe, 0xad, 0xde,  // mov ebp, 0xdeadbeef: no frame pointer at all
    0xbf, 0x00, 0x02, 0x00, 0x00,  // 1: mov edi, 512
    0xff, 0xd3,                    // call rbx
    0x48, 0x89, 0xc7,              // mov rdi, rax
    0x41, 0xff, 0xd4,              // call r12
    0x49, 0xff, 0xcd,              // dec r13
    0x75, 0xee,                    // jnz 1
    0x48, 0x83, 0xc4, 0x08,        // add rsp, 8
    0x41, 0x5d,                    // pop r13
    0x41, 0x5c,                    // pop r12
    0x5b,                          // pop rbx
    0x5d,                          // pop rbp
    0xc3,                          // ret
};
static int generated_code(void) {
  for (int i = 0; i < 100; i++) {
    unsigned char* page = map(4096, PROT_READ | PROT_WRITE);
    // At the very end of what is readable, every other time.
    unsigned char* start = i % 2 == 0 ? page : page + 4096 - sizeof kCode;
    memcpy(start, kCode, sizeof kCode);
    mprotect(page, 4096, PROT_EXEC | PROT_READ);
    ((Generated*)(uintptr_t)start)(malloc, free, 5000);
    munmap(page, 4096);
  }
  puts("generated code ran");
  return 0;
}

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    int (*run)(void);
  } kWays[] = {
      {"alarms", alarms},
      {"guard_pages", guard_pages},
      {"write_barriers", write_barriers},
      {"setjmp_stacks", setjmp_stacks},
      {"migrating_fibers", migrating_fibers},
      {"small_signal_stacks", small_signal_stacks},
      {"stack_overflow", stack_overflow},
      {"deep", deep},
      {"generated_code", generated_code},
  };
  for (size_t i = 0; i < sizeof kWays / sizeof kWays[0]; i++)
    if (argc > 1 && strcmp(argv[1], kWays[i].name) == 0) return kWays[i].run();
  fprintf(stderr, "jumps: what?\n");
  return 2;
}

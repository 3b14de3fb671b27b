// SPDX-License-Identifier: Apache-2.0
// Uses locks where a profiler of locks could stumble, and prints what came of it: lock_life WHAT
#include <dlfcn.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SITE __attribute__((noinline, used)) void

int early_waited(void);  // of lock_life_library.c

static const char* argument = "";

static void nap_us(long us) {
  const struct timespec pause = {0, us * 1000};
  nanosleep(&pause, NULL);
}
static void spin_us(int us) {
  struct timespec begin, now;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  do {
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - begin.tv_sec) * 1000000 + (now.tv_nsec - begin.tv_nsec) / 1000 < us);
}
static void await(atomic_int* stage, int wanted) {
  while (atomic_load(stage) < wanted) nap_us(100);
}
static pthread_t start(void* (*body)(void*), void* of) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, of) != 0) abort();
  return thread;
}
static void join_all(pthread_t* threads, int count) {
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

// Whatever hangs ends by SIGABRT: of a timer, because SIGALRM is used otherwise.
static void watch_over(int seconds) {
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGABRT};
  const struct itimerspec end = {.it_value = {seconds, 0}};
  timer_t timer;
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 ||
      timer_settime(timer, 0, &end, NULL) != 0)
    abort();
}

// early, plugin: locks in constructors

static int early(void) {
  printf("good calls in the constructor: %d\n", early_waited());
  return 0;
}
static int plugin(void) {
  for (int i = 0; i < 3; i++) {
    void* library = dlopen(argument, RTLD_NOW);
    if (library == NULL) return 2;
    int (*waited)(void) = (int (*)(void))dlsym(library, "plugin_waited");
    printf("good calls in the constructor: %d\n", waited());
    dlclose(library);
  }
  return 0;
}

// signal_post: a storm of SIGALRM posts what threads wait for, and interrupts their other locks

enum { kPosts = 3000, kTakers = 4 };
static sem_t posted;
static atomic_int posts;
static atomic_int taken;
static pthread_mutex_t taken_mutex = PTHREAD_MUTEX_INITIALIZER;

static void post_in_handler(int number) {
  (void)number;
  if (atomic_fetch_add(&posts, 1) < kPosts) sem_post(&posted);
}
SITE take_posted(void) {
  while (sem_wait(&posted) != 0) {
  }
}
static void* take_posts(void* unused) {
  for (;;) {
    take_posted();
    pthread_mutex_lock(&taken_mutex);
    const int mine = atomic_fetch_add(&taken, 1);
    spin_us(10);
    pthread_mutex_unlock(&taken_mutex);
    if (mine >= kPosts) return unused;
  }
}
static int signal_post(void) {
  pthread_t threads[kTakers];
  const struct sigaction action = {.sa_handler = post_in_handler, .sa_flags = SA_RESTART};
  const struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
  sem_init(&posted, 0, 0);
  sigaction(SIGALRM, &action, NULL);
  for (int i = 0; i < kTakers; i++) threads[i] = start(take_posts, NULL);
  setitimer(ITIMER_REAL, &often, NULL);
  await(&taken, kPosts);
  setitimer(ITIMER_REAL, &never, NULL);
  for (int i = 0; i < kTakers; i++) sem_post(&posted);
  join_all(threads, kTakers);
  printf("taken %d\n", atomic_load(&taken) - kTakers);
  return 0;
}

// handler_locks: POSIX forbids it, programs do it. The handler's mutex is none of those that the
// threads that it interrupts have; what it may interrupt is the library in the middle of a hook.

static pthread_mutex_t handler_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t interrupted_mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_int handled;
static atomic_int stop;

SITE lock_in_handler(void) {
  pthread_mutex_lock(&handler_mutex);
  spin_us(20);
  pthread_mutex_unlock(&handler_mutex);
}
static void lock_handler(int number) {
  (void)number;
  lock_in_handler();
  atomic_fetch_add(&handled, 1);
}
static void* lock_and_be_interrupted(void* unused) {
  while (!atomic_load(&stop)) {
    pthread_mutex_lock(&interrupted_mutex);
    spin_us(2);
    pthread_mutex_unlock(&interrupted_mutex);
  }
  return unused;
}
static int handler_locks(void) {
  enum { kThreads = 3, kSignals = 500 };
  pthread_t threads[kThreads];
  const struct sigaction action = {.sa_handler = lock_handler, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &action, NULL);
  for (int i = 0; i < kThreads; i++) threads[i] = start(lock_and_be_interrupted, NULL);
  for (int sent = 0; sent < kSignals; sent++) {
    for (int i = 0; i < kThreads; i++) pthread_kill(threads[i], SIGUSR1);
    await(&handled, sent * kThreads + kThreads);
  }
  atomic_store(&stop, 1);
  join_all(threads, kThreads);
  printf("handled %d\n", atomic_load(&handled));
  return 0;
}

// fork: with handlers that take the program's locks, while others contend for them

enum { kForkLocks = 3, kForks = 30 };
static pthread_mutex_t fork_mutexes[kForkLocks] = {
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};

static void before_fork(void) {
  for (int i = 0; i < kForkLocks; i++) pthread_mutex_lock(&fork_mutexes[i]);
}
static void after_fork(void) {
  for (int i = kForkLocks; i-- > 0;) pthread_mutex_unlock(&fork_mutexes[i]);
}
static void* contend_for_all(void* unused) {
  while (!atomic_load(&stop)) {
    before_fork();
    spin_us(5);
    after_fork();
    nap_us(50);
  }
  return unused;
}
static void* contend_a_while(void* unused) {
  for (int i = 0; i < 50; i++) {
    before_fork();
    spin_us(5);
    after_fork();
  }
  return unused;
}
SITE child_contends(void) {
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) threads[i] = start(contend_a_while, NULL);
  contend_a_while(NULL);
  join_all(threads, 2);
}
static int wait_for_child(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}
static int forks(void) {
  pthread_t threads[4];
  int good = 0;
  pthread_atfork(before_fork, after_fork, after_fork);
  for (int i = 0; i < 4; i++) threads[i] = start(contend_for_all, NULL);
  for (int i = 0; i < kForks; i++) {
    const pid_t child = fork();
    if (child == 0) {
      watch_over(20);
      child_contends();
      exit(7);
    }
    good += wait_for_child(child) == 7;
  }
  atomic_store(&stop, 1);
  join_all(threads, 4);
  printf("good children %d\n", good);
  return 0;
}

// fork_waited_for: the child has the locks that the parent's threads wait for, and not the threads

static pthread_mutex_t waited_mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t waited_semaphore;
static atomic_int begun;

static void* wait_for_both(void* unused) {
  atomic_fetch_add(&begun, 1);
  pthread_mutex_lock(&waited_mutex);
  pthread_mutex_unlock(&waited_mutex);
  sem_wait(&waited_semaphore);
  sem_post(&waited_semaphore);
  return unused;
}
static void use_both(void) {
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) threads[i] = start(wait_for_both, NULL);
  nap_us(3000);
  pthread_mutex_unlock(&waited_mutex);
  sem_post(&waited_semaphore);
  join_all(threads, 2);
}
static int fork_waited_for(void) {
  pthread_t threads[4];
  int good = 0;
  pthread_mutex_lock(&waited_mutex);
  sem_init(&waited_semaphore, 0, 0);
  for (int i = 0; i < 4; i++) threads[i] = start(wait_for_both, NULL);
  await(&begun, 4);
  nap_us(5000);
  for (int i = 0; i < 5; i++) {
    const pid_t child = fork();
    if (child == 0) {
      watch_over(20);
      use_both();
      exit(7);
    }
    good += wait_for_child(child) == 7;
  }
  pthread_mutex_unlock(&waited_mutex);
  sem_post(&waited_semaphore);
  join_all(threads, 4);
  printf("good children %d\n", good);
  return 0;
}

// thread_exit: destructors of thread-specific data that wait for a lock, and for one another

static pthread_key_t exit_keys[2];
static pthread_mutex_t exit_mutex = PTHREAD_MUTEX_INITIALIZER;
static int destroyed;

SITE lock_in_destructor(void) {
  pthread_mutex_lock(&exit_mutex);
  destroyed++;
  spin_us(50);
  pthread_mutex_unlock(&exit_mutex);
}
static void destroy_again(void* value) {
  lock_in_destructor();
  // A second round of destructors, when what the library keeps for the thread may be gone.
  if ((intptr_t)value > 1) pthread_setspecific(exit_keys[0], (void*)((intptr_t)value - 1));
}
static void* set_keys(void* unused) {
  pthread_setspecific(exit_keys[0], (void*)3);
  pthread_setspecific(exit_keys[1], (void*)1);
  return unused;
}
static int thread_exit(void) {
  enum { kRounds = 20, kThreads = 8 };
  for (int i = 0; i < 2; i++) pthread_key_create(&exit_keys[i], destroy_again);
  for (int round = 0; round < kRounds; round++) {
    pthread_t threads[kThreads];
    for (int i = 0; i < kThreads; i++) threads[i] = start(set_keys, NULL);
    join_all(threads, kThreads);
  }
  printf("destroyed %d\n", destroyed);
  return 0;
}

// futexes: a lock of the program's own, on the bare system call

static atomic_int futex_lock;
static long futex_protected;

static long futex(int operation, int value) {
  return syscall(SYS_futex, &futex_lock, operation, value, NULL, NULL, 0);
}
SITE wait_in_futex(void) { futex(FUTEX_WAIT_PRIVATE, 2); }
static void lock_futex(void) {
  int expected = 0;
  if (atomic_compare_exchange_strong(&futex_lock, &expected, 1)) return;
  while (atomic_exchange(&futex_lock, 2) != 0) wait_in_futex();
}
static void unlock_futex(void) {
  if (atomic_exchange(&futex_lock, 0) == 2) futex(FUTEX_WAKE_PRIVATE, 1);
}
static void* count_in_futex(void* unused) {
  for (int i = 0; i < 500; i++) {
    lock_futex();
    futex_protected++;
    if (i % 10 == 0) nap_us(50);
    unlock_futex();
  }
  return unused;
}
static int futexes(void) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) threads[i] = start(count_in_futex, NULL);
  join_all(threads, 4);
  printf("counted %ld\n", futex_protected);
  return 0;
}

// allocator: whose own locks are mutexes, maybe; also across fork

static void* allocate_a_lot(void* unused) {
  void* kept[64] = {0};
  for (unsigned i = 0; i < 100000; i++) {
    const unsigned at = i * 2654435761u >> 26;
    free(kept[at]);
    kept[at] = malloc(i % 4000);
  }
  for (int i = 0; i < 64; i++) free(kept[i]);
  return unused;
}
static int allocator(void) {
  pthread_t threads[8];
  int good = 0;
  for (int i = 0; i < 8; i++) threads[i] = start(allocate_a_lot, NULL);
  for (int i = 0; i < 5; i++) {
    const pid_t child = fork();
    if (child == 0) {
      watch_over(20);
      pthread_t thread = start(allocate_a_lot, NULL);
      allocate_a_lot(NULL);
      pthread_join(thread, NULL);
      exit(7);
    }
    good += wait_for_child(child) == 7;
  }
  join_all(threads, 8);
  printf("good children %d\n", good);
  return 0;
}

// gone_*: who gets the lock lets it go and unmaps it at once, as POSIX allows; the one before may
// still be on its way out of its unlock, and must not look at the lock again.

struct Page {
  pthread_mutex_t mutex;
  pthread_rwlock_t rwlock;
  pthread_spinlock_t spin;
  sem_t semaphore;
  pthread_cond_t cond;
  pthread_barrier_t barrier;
  atomic_int stage;
};
struct Gone {
  void (*take_first)(struct Page*);
  void (*let_go)(struct Page*);
  void (*take_last)(struct Page*);
};

static void take_mutex(struct Page* page) { pthread_mutex_lock(&page->mutex); }
static void give_mutex(struct Page* page) { pthread_mutex_unlock(&page->mutex); }
static void last_mutex(struct Page* page) {
  pthread_mutex_lock(&page->mutex);
  pthread_mutex_unlock(&page->mutex);
}
static void take_rwlock(struct Page* page) { pthread_rwlock_wrlock(&page->rwlock); }
static void give_rwlock(struct Page* page) { pthread_rwlock_unlock(&page->rwlock); }
static void last_rwlock(struct Page* page) {
  pthread_rwlock_rdlock(&page->rwlock);
  pthread_rwlock_unlock(&page->rwlock);
}
static void take_spin(struct Page* page) { pthread_spin_lock(&page->spin); }
static void give_spin(struct Page* page) { pthread_spin_unlock(&page->spin); }
static void last_spin(struct Page* page) {
  pthread_spin_lock(&page->spin);
  pthread_spin_unlock(&page->spin);
}
static void take_nothing(struct Page* page) { (void)page; }
static void give_semaphore(struct Page* page) { sem_post(&page->semaphore); }
static void last_semaphore(struct Page* page) { sem_wait(&page->semaphore); }
static void meet(struct Page* page) { pthread_barrier_wait(&page->barrier); }
static void meet_last(struct Page* page) {
  pthread_barrier_wait(&page->barrier);
  pthread_barrier_destroy(&page->barrier);
}
static void signal_cond(struct Page* page) { pthread_cond_broadcast(&page->cond); }
static void give_signalled(struct Page* page) {
  signal_cond(page);
  pthread_mutex_unlock(&page->mutex);
}
static void last_signalled(struct Page* page) {
  pthread_mutex_lock(&page->mutex);
  // The other one has it while it is away, and signals in that time, or did so before.
  const struct timespec past = {1, 0};
  pthread_cond_timedwait(&page->cond, &page->mutex, &past);
  pthread_mutex_unlock(&page->mutex);
  pthread_cond_destroy(&page->cond);
}

static const struct Gone* gone;
static struct Page* _Atomic gone_page;
static atomic_int gone_round;
static int gone_rounds;

static void* be_last(void* unused) {
  for (int round = 1; round <= gone_rounds; round++) {
    while (atomic_load(&gone_round) < round) sched_yield();
    struct Page* page = atomic_load(&gone_page);
    atomic_store(&page->stage, 1);
    gone->take_last(page);
    munmap(page, sizeof *page);
  }
  return unused;
}
static struct Page* new_page(void) {
  struct Page* page =
      mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) abort();
  pthread_mutex_init(&page->mutex, NULL);
  pthread_rwlock_init(&page->rwlock, NULL);
  pthread_spin_init(&page->spin, PTHREAD_PROCESS_PRIVATE);
  sem_init(&page->semaphore, 0, 0);
  pthread_cond_init(&page->cond, NULL);
  pthread_barrier_init(&page->barrier, NULL, 2);
  return page;
}
static int all_gone(const struct Gone* kind, int rounds) {
  gone = kind;
  gone_rounds = rounds;
  pthread_t thread = start(be_last, NULL);
  for (int round = 1; round <= rounds; round++) {
    struct Page* page = new_page();
    kind->take_first(page);
    atomic_store(&gone_page, page);
    atomic_store(&gone_round, round);
    while (atomic_load(&page->stage) == 0) sched_yield();
    spin_us(round % 60);
    kind->let_go(page);
  }
  pthread_join(thread, NULL);
  printf("gone %d\n", rounds);
  return 0;
}
static int gone_mutex(void) {
  return all_gone(&(struct Gone){take_mutex, give_mutex, last_mutex}, 1500);
}
static int gone_rwlock(void) {
  return all_gone(&(struct Gone){take_rwlock, give_rwlock, last_rwlock}, 1500);
}
static int gone_spin(void) {
  return all_gone(&(struct Gone){take_spin, give_spin, last_spin}, 150);
}
static int gone_semaphore(void) {
  return all_gone(&(struct Gone){take_nothing, give_semaphore, last_semaphore}, 1500);
}
static int gone_barrier(void) {
  return all_gone(&(struct Gone){take_nothing, meet, meet_last}, 1500);
}
static int gone_cond(void) {
  return all_gone(&(struct Gone){take_mutex, give_signalled, last_signalled}, 1500);
}

// reused: the same memory as one kind of lock after another, each waited for

static union {
  pthread_mutex_t mutex;
  pthread_rwlock_t rwlock;
  sem_t semaphore;
  pthread_barrier_t barrier;
} reused_lock;
static atomic_int reused_begun;

static void* reused_mutex(void* unused) {
  atomic_store(&reused_begun, 1);
  pthread_mutex_lock(&reused_lock.mutex);
  pthread_mutex_unlock(&reused_lock.mutex);
  return unused;
}
static void* reused_rwlock(void* unused) {
  atomic_store(&reused_begun, 1);
  pthread_rwlock_rdlock(&reused_lock.rwlock);
  pthread_rwlock_unlock(&reused_lock.rwlock);
  return unused;
}
static void* reused_semaphore(void* unused) {
  atomic_store(&reused_begun, 1);
  sem_wait(&reused_lock.semaphore);
  return unused;
}
static void* reused_barrier(void* unused) {
  atomic_store(&reused_begun, 1);
  pthread_barrier_wait(&reused_lock.barrier);
  return unused;
}
static pthread_t start_reused(void* (*body)(void*)) {
  atomic_store(&reused_begun, 0);
  pthread_t thread = start(body, NULL);
  await(&reused_begun, 1);
  nap_us(500);
  return thread;
}
static int reused(void) {
  for (int round = 0; round < 50; round++) {
    pthread_mutex_init(&reused_lock.mutex, NULL);
    pthread_mutex_lock(&reused_lock.mutex);
    pthread_t thread = start_reused(reused_mutex);
    pthread_mutex_unlock(&reused_lock.mutex);
    pthread_join(thread, NULL);
    pthread_mutex_destroy(&reused_lock.mutex);
    pthread_rwlock_init(&reused_lock.rwlock, NULL);
    pthread_rwlock_wrlock(&reused_lock.rwlock);
    thread = start_reused(reused_rwlock);
    pthread_rwlock_unlock(&reused_lock.rwlock);
    pthread_join(thread, NULL);
    pthread_rwlock_destroy(&reused_lock.rwlock);
    sem_init(&reused_lock.semaphore, 0, 0);
    thread = start_reused(reused_semaphore);
    sem_post(&reused_lock.semaphore);
    pthread_join(thread, NULL);
    sem_destroy(&reused_lock.semaphore);
    pthread_barrier_init(&reused_lock.barrier, NULL, 2);
    thread = start_reused(reused_barrier);
    pthread_barrier_wait(&reused_lock.barrier);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&reused_lock.barrier);
  }
  printf("reused\n");
  return 0;
}

// jump: a signal handler jumps out of a wait, which never returns; the thread goes on

static sigjmp_buf jump_back;
static sem_t never_posted;
static pthread_mutex_t jump_mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_int may_jump;
static int jumped;

static void jump_out(int number) {
  (void)number;
  siglongjmp(jump_back, 1);
}
SITE wait_and_jump(void) {
  if (sigsetjmp(jump_back, 1) == 0) {
    atomic_fetch_add(&may_jump, 1);
    sem_wait(&never_posted);
  }
  jumped++;
}
static void* jump_often(void* unused) {
  for (int i = 0; i < 200; i++) {
    wait_and_jump();
    pthread_mutex_lock(&jump_mutex);
    spin_us(20);
    pthread_mutex_unlock(&jump_mutex);
  }
  return unused;
}
static int jump(void) {
  const struct sigaction action = {.sa_handler = jump_out};
  sigaction(SIGUSR1, &action, NULL);
  sem_init(&never_posted, 0, 0);
  pthread_t thread = start(jump_often, NULL);
  for (int i = 1; i <= 200; i++) {
    await(&may_jump, i);
    // Asleep by then.
    pthread_mutex_lock(&jump_mutex);
    nap_us(1000);
    pthread_kill(thread, SIGUSR1);
    nap_us(300);
    pthread_mutex_unlock(&jump_mutex);
  }
  pthread_join(thread, NULL);
  printf("jumped %d\n", jumped);
  return 0;
}

// small_stack: the least that POSIX allows

static pthread_mutex_t small_mutex = PTHREAD_MUTEX_INITIALIZER;

SITE lock_on_small_stack(void) {
  pthread_mutex_lock(&small_mutex);
  nap_us(500);
  pthread_mutex_unlock(&small_mutex);
}
static void* lock_small(void* unused) {
  for (int i = 0; i < 20; i++) lock_on_small_stack();
  return unused;
}
static int small_stack(void) {
  pthread_t threads[4];
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, (size_t)PTHREAD_STACK_MIN);
  for (int i = 0; i < 4; i++)
    if (pthread_create(&threads[i], &attributes, lock_small, NULL) != 0) return 2;
  join_all(threads, 4);
  printf("done\n");
  return 0;
}

// cancelled: threads end in the middle of a wait, deferred or at once; the locks are used on

static pthread_mutex_t cancel_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cancel_cond = PTHREAD_COND_INITIALIZER;
static sem_t cancel_semaphore;
static atomic_int cancel_begun;

static void unlock_cancelled(void* mutex) { pthread_mutex_unlock(mutex); }
static void* wait_in_cond(void* unused) {
  pthread_mutex_lock(&cancel_mutex);
  pthread_cleanup_push(unlock_cancelled, &cancel_mutex);
  atomic_fetch_add(&cancel_begun, 1);
  for (;;) pthread_cond_wait(&cancel_cond, &cancel_mutex);
  pthread_cleanup_pop(1);
  return unused;
}
static void* wait_in_semaphore(void* unused) {
  atomic_fetch_add(&cancel_begun, 1);
  while (sem_wait(&cancel_semaphore) == 0) {
  }
  return unused;
}
static void* wait_at_any_point(void* unused) {
  int before;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before);
  atomic_fetch_add(&cancel_begun, 1);
  while (sem_wait(&cancel_semaphore) == 0) {
  }
  return unused;
}
static int cancelled(void) {
  enum { kThreads = 6 };
  void* (*const bodies[])(void*) = {wait_in_cond, wait_in_semaphore, wait_at_any_point};
  int count = 0;
  sem_init(&cancel_semaphore, 0, 0);
  for (int round = 0; round < 60; round++) {
    pthread_t threads[kThreads];
    atomic_store(&cancel_begun, 0);
    for (int i = 0; i < kThreads; i++) threads[i] = start(bodies[i % 3], NULL);
    await(&cancel_begun, kThreads);
    pthread_mutex_lock(&cancel_mutex);
    for (int i = 0; i < kThreads; i++) pthread_cancel(threads[i]);
    nap_us(200);
    pthread_mutex_unlock(&cancel_mutex);
    for (int i = 0; i < kThreads; i++) {
      void* result;
      pthread_join(threads[i], &result);
      count += result == PTHREAD_CANCELED;
    }
  }
  printf("cancelled %d\n", count);
  return 0;
}

// exit_*: the process ends while threads wait for everything there is

static pthread_mutex_t exit_held = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t exit_written = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t exit_cond = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t exit_cond_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t atexit_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t exit_barrier;
static sem_t exit_semaphore;
static pthread_t exit_main;
static atomic_int exit_begun;

static void* wait_for_exit(void* which) {
  atomic_fetch_add(&exit_begun, 1);
  switch ((intptr_t)which) {
    case 0: pthread_mutex_lock(&exit_held); break;
    case 1: pthread_rwlock_rdlock(&exit_written); break;
    case 2: pthread_rwlock_wrlock(&exit_written); break;
    case 3: sem_wait(&exit_semaphore); break;
    case 4: pthread_barrier_wait(&exit_barrier); break;
    case 5: pthread_join(exit_main, NULL); break;
    default: pthread_mutex_lock(&exit_cond_mutex); pthread_cond_wait(&exit_cond, &exit_cond_mutex);
  }
  return NULL;
}
static void lock_at_exit(void) {
  pthread_mutex_lock(&atexit_mutex);
  pthread_mutex_unlock(&atexit_mutex);
  pthread_mutex_unlock(&exit_held);
  puts("at exit");
}
static void start_those_who_wait(void) {
  exit_main = pthread_self();
  sem_init(&exit_semaphore, 0, 0);
  pthread_barrier_init(&exit_barrier, NULL, 2);
  pthread_mutex_lock(&exit_held);
  pthread_rwlock_wrlock(&exit_written);
  atexit(lock_at_exit);
  for (intptr_t i = 0; i < 7; i++) start(wait_for_exit, (void*)i);
  await(&exit_begun, 7);
  nap_us(3000);
}
static int exit_return(void) {
  start_those_who_wait();
  return 5;
}
static int exit_at_once(void) {
  start_those_who_wait();
  fflush(stdout);
  _exit(5);
}
static void* exit_elsewhere_body(void* unused) {
  exit(5);
  return unused;
}
static int exit_elsewhere(void) {
  start_those_who_wait();
  pthread_join(start(exit_elsewhere_body, NULL), NULL);
  return 6;
}

static const struct {
  const char* name;
  int (*run)(void);
} kWays[] = {
    {"early", early},
    {"plugin", plugin},
    {"signal_post", signal_post},
    {"handler_locks", handler_locks},
    {"fork", forks},
    {"fork_waited_for", fork_waited_for},
    {"thread_exit", thread_exit},
    {"futexes", futexes},
    {"allocator", allocator},
    {"gone_mutex", gone_mutex},
    {"gone_rwlock", gone_rwlock},
    {"gone_spin", gone_spin},
    {"gone_semaphore", gone_semaphore},
    {"gone_barrier", gone_barrier},
    {"gone_cond", gone_cond},
    {"reused", reused},
    {"jump", jump},
    {"small_stack", small_stack},
    {"cancelled", cancelled},
    {"exit_return", exit_return},
    {"exit_at_once", exit_at_once},
    {"exit_elsewhere", exit_elsewhere},
};

int main(int argc, char** argv) {
  if (argc > 2) argument = argv[2];
  watch_over(60);
  for (size_t i = 0; argc > 1 && i < sizeof kWays / sizeof kWays[0]; i++)
    if (strcmp(kWays[i].name, argv[1]) == 0) return kWays[i].run();
  return 2;
}

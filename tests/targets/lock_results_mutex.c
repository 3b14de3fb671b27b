// SPDX-License-Identifier: Apache-2.0
// Mutexes of every type, robustness and protocol.
#include <limits.h>
#include <sched.h>
#include <sys/mman.h>

#include "tests/targets/lock_results.h"

const struct MutexKind kMutexKinds[kMutexKindCount] = {
    {"normal", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, 0, 0},
    {"recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, 0, 1},
    {"errorcheck", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, 0, 1},
    {"adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, 0, 0},
    {"shared normal", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, 1, 0},
    {"shared recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, 1, 1},
    {"robust normal", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, 0, 1},
    {"robust recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, 0, 1},
    {"robust errorcheck", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, 0, 1},
    {"robust shared", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, 1, 1},
    {"inheriting normal", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED, 0, 1},
    {"inheriting recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED,
     0, 1},
    {"inheriting errorcheck", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED,
     0, 1},
    {"inheriting robust", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_ROBUST, 0, 1},
};

int make_mutex(pthread_mutex_t* mutex, const struct MutexKind* kind) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, kind->type);
  pthread_mutexattr_setprotocol(&attributes, kind->protocol);
  pthread_mutexattr_setrobust(&attributes, kind->robustness);
  pthread_mutexattr_setpshared(&attributes, kind->sharing);
  const int result = pthread_mutex_init(mutex, &attributes);
  pthread_mutexattr_destroy(&attributes);
  return result;
}

int lock(void* mutex) { return pthread_mutex_lock(mutex); }
int trylock(void* mutex) { return pthread_mutex_trylock(mutex); }
static int unlock(void* mutex) { return pthread_mutex_unlock(mutex); }
int lock_and_unlock(void* mutex) {
  const int result = pthread_mutex_lock(mutex);
  const int second = pthread_mutex_unlock(mutex);
  return result != 0 ? result : second;
}
int timedlock_briefly(void* mutex) {
  const struct timespec end = in_ms(CLOCK_REALTIME, kShortMs);
  const int result = pthread_mutex_timedlock(mutex, &end);
  return result == ETIMEDOUT && !is_past(CLOCK_REALTIME, end) ? EILSEQ : result;
}
static int clocklock_briefly(void* mutex) {
  const struct timespec end = in_ms(CLOCK_MONOTONIC, kShortMs);
  const int result = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &end);
  return result == ETIMEDOUT && !is_past(CLOCK_MONOTONIC, end) ? EILSEQ : result;
}
static int clocklock_realtime(void* mutex) {
  const struct timespec end = in_ms(CLOCK_REALTIME, kShortMs);
  return pthread_mutex_clocklock(mutex, CLOCK_REALTIME, &end);
}
static int clocklock_odd_clock(void* mutex) {
  return pthread_mutex_clocklock(mutex, CLOCK_PROCESS_CPUTIME_ID, &kPast);
}
static int clocklock_no_clock(void* mutex) { return pthread_mutex_clocklock(mutex, 4711, &kPast); }
static int timedlock_past(void* mutex) { return pthread_mutex_timedlock(mutex, &kPast); }
static int timedlock_epoch(void* mutex) { return pthread_mutex_timedlock(mutex, &kBeforeTheEpoch); }
static int timedlock_negative(void* mutex) { return pthread_mutex_timedlock(mutex, &kNegative); }
static int timedlock_too_many(void* mutex) { return pthread_mutex_timedlock(mutex, &kTooMany); }

static const struct Attempt kMutexAttempts[] = {
    {"trylock", trylock},
    {"timedlock", timedlock_briefly},
    {"clocklock", clocklock_briefly},
    {"clocklock of real time", clocklock_realtime},
    {"clocklock of CPU time", clocklock_odd_clock},
    {"clocklock of no clock", clocklock_no_clock},
    {"timedlock in the past", timedlock_past},
    {"timedlock before the epoch", timedlock_epoch},
    {"timedlock, negative ns", timedlock_negative},
    {"timedlock, too many ns", timedlock_too_many},
};
enum { kMutexAttemptCount = sizeof kMutexAttempts / sizeof kMutexAttempts[0] };

static void attempt_and_undo(const char* when, const struct Attempt* attempt, void* mutex) {
  const int result = attempt->function(mutex);
  printf("%s: %s, %s: %s", section, attempt->name, when, strerrorname_np(result));
  printf(result == 0 ? ", unlock: %s\n" : "\n", strerrorname_np(result == 0 ? unlock(mutex) : 0));
}
static int attempt_all_elsewhere(void* mutex) {
  for (int i = 0; i < kMutexAttemptCount; i++)
    attempt_and_undo("owned by another", &kMutexAttempts[i], mutex);
  return 0;
}

static void* hold_a_while(void* argument) {
  struct Hold* hold = argument;
  pthread_mutex_lock(hold->mutex);
  atomic_store(&hold->held, 1);
  nap_ms(kShortMs);
  hold->unlocked = pthread_mutex_unlock(hold->mutex);
  return NULL;
}
void wait_behind(const char* what, int (*function)(void*), pthread_mutex_t* mutex) {
  struct Hold hold = {mutex, 0, -1};
  pthread_t thread;
  pthread_create(&thread, NULL, hold_a_while, &hold);
  await(&hold.held, 1);
  show(what, function(mutex));
  show("its unlock", pthread_mutex_unlock(mutex));
  pthread_join(thread, NULL);
  show("unlock by the one before", hold.unlocked);
}
int timedlock_long(void* mutex) {
  const struct timespec end = in_ms(CLOCK_REALTIME, kLongMs);
  return pthread_mutex_timedlock(mutex, &end);
}
static int clocklock_long(void* mutex) {
  const struct timespec end = in_ms(CLOCK_MONOTONIC, kLongMs);
  return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &end);
}

static void try_destroyed(pthread_mutex_t* mutex) {
  show("lock, destroyed", pthread_mutex_lock(mutex));
  show("trylock, destroyed", pthread_mutex_trylock(mutex));
  show("timedlock, destroyed", timedlock_briefly(mutex));
  show("unlock, destroyed", pthread_mutex_unlock(mutex));
}

static void try_mutex_kind(const struct MutexKind* kind) {
  pthread_mutex_t mutex;
  section = kind->name;
  show("init", make_mutex(&mutex, kind));
  show("lock", pthread_mutex_lock(&mutex));
  show("unlock", pthread_mutex_unlock(&mutex));
  for (int i = 0; i < kMutexAttemptCount; i++) attempt_and_undo("free", &kMutexAttempts[i], &mutex);
  if (kind->knows_its_owner) show("unlock, free", pthread_mutex_unlock(&mutex));
  show("lock", pthread_mutex_lock(&mutex));
  if (kind->type == PTHREAD_MUTEX_ERRORCHECK) show("lock, own", pthread_mutex_lock(&mutex));
  for (int i = 0; i < kMutexAttemptCount; i++) attempt_and_undo("own", &kMutexAttempts[i], &mutex);
  in_another_thread(attempt_all_elsewhere, &mutex);
  if (kind->knows_its_owner) show("unlock, not mine", in_another_thread(unlock, &mutex));
  // Of a robust one glibc lets go, and keeps it in the list of the thread.
  if (kind->robustness == PTHREAD_MUTEX_STALLED)
    show("destroy, own", pthread_mutex_destroy(&mutex));
  show("consistent, though it is", pthread_mutex_consistent(&mutex));
  show("unlock", pthread_mutex_unlock(&mutex));
  wait_behind("lock, behind another", lock, &mutex);
  wait_behind("timedlock, behind another", timedlock_long, &mutex);
  show("lock and unlock elsewhere", in_another_thread(lock_and_unlock, &mutex));
  show("destroy", pthread_mutex_destroy(&mutex));
  try_destroyed(&mutex);
}

static void try_unlock_by_another(void) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  section = "a normal mutex that another unlocks";
  show("lock", pthread_mutex_lock(&mutex));
  show("unlock elsewhere", in_another_thread(unlock, &mutex));
  show("lock again", pthread_mutex_lock(&mutex));
  show("unlock", pthread_mutex_unlock(&mutex));
  wait_behind("clocklock, behind another", clocklock_long, &mutex);
}

// The count is glibc's; there is no other way up there in a short time.
static void try_recursion(void) {
  pthread_mutex_t mutex;
  section = "recursion";
  make_mutex(&mutex, &kMutexKinds[kRecursive]);
  for (int i = 0; i < 1000; i++)
    if (pthread_mutex_lock(&mutex) != 0) show_number("lock failed at", i);
  for (int i = 0; i < 999; i++)
    if (pthread_mutex_unlock(&mutex) != 0) show_number("unlock failed at", i);
  show("trylock elsewhere after 999 unlocks", in_another_thread(trylock, &mutex));
  mutex.__data.__count = UINT_MAX;
  show("lock at the limit", pthread_mutex_lock(&mutex));
  show("trylock at the limit", pthread_mutex_trylock(&mutex));
  show("timedlock at the limit", timedlock_briefly(&mutex));
  mutex.__data.__count = 1;
  show("unlock", pthread_mutex_unlock(&mutex));
  show("lock and unlock elsewhere", in_another_thread(lock_and_unlock, &mutex));
}

// Robust mutexes whose owner dies

static const struct MutexKind* robust_kind(int i) {
  static const int kinds[] = {kRobustNormal, kRobustRecursive, kRobustErrorcheck, kRobustShared,
                              kInheritingRobust};
  return i < 5 ? &kMutexKinds[kinds[i]] : NULL;
}
int lock_and_die(void* mutex) { return pthread_mutex_lock(mutex); }

static void try_owner_died(const struct MutexKind* kind, const char* how, int (*take)(void*)) {
  pthread_mutex_t mutex;
  make_mutex(&mutex, kind);
  printf("%s: owner dies, then %s: lock: %s\n", kind->name, how,
         strerrorname_np(in_another_thread(lock_and_die, &mutex)));
  show(how, take(&mutex));
  show("lock elsewhere, inconsistent", in_another_thread(trylock, &mutex));
  show("consistent", pthread_mutex_consistent(&mutex));
  show("consistent again", pthread_mutex_consistent(&mutex));
  show("unlock", pthread_mutex_unlock(&mutex));
  show("lock and unlock elsewhere", in_another_thread(lock_and_unlock, &mutex));
  show("destroy", pthread_mutex_destroy(&mutex));
}
static void try_not_recovered(const struct MutexKind* kind) {
  pthread_mutex_t mutex;
  make_mutex(&mutex, kind);
  in_another_thread(lock_and_die, &mutex);
  show("lock, to give it up", pthread_mutex_lock(&mutex));
  show("unlock without consistent", pthread_mutex_unlock(&mutex));
  // More than once: glibc's trylock leaves such a mutex locked, its lock does not.
  for (int i = 0; i < 2; i++) {
    show("lock", pthread_mutex_lock(&mutex));
    show("timedlock", timedlock_briefly(&mutex));
    show("elsewhere", in_another_thread(lock, &mutex));
  }
  show("trylock", pthread_mutex_trylock(&mutex));
  show("timedlock after trylock", timedlock_briefly(&mutex));
}
static void* hold_and_die(void* argument) {
  struct Hold* hold = argument;
  pthread_mutex_lock(hold->mutex);
  atomic_store(&hold->held, 1);
  nap_ms(kShortMs);
  return NULL;
}
static void try_waiting_when_owner_dies(const struct MutexKind* kind, int (*take)(void*)) {
  pthread_mutex_t mutex;
  struct Hold hold = {&mutex, 0, 0};
  pthread_t thread;
  make_mutex(&mutex, kind);
  pthread_create(&thread, NULL, hold_and_die, &hold);
  await(&hold.held, 1);
  show("waiting when the owner dies", take(&mutex));
  show("consistent", pthread_mutex_consistent(&mutex));
  show("unlock", pthread_mutex_unlock(&mutex));
  pthread_join(thread, NULL);
}
// The child dies with the mutex of a page that both have.
static void try_owner_process_dies(void) {
  struct Shared {
    pthread_mutex_t mutex;
    atomic_int held;
  };
  section = "owner process dies";
  struct Shared* shared =
      mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  make_mutex(&shared->mutex, &kMutexKinds[kRobustShared]);
  const pid_t child = fork();
  if (child == 0) {
    pthread_mutex_lock(&shared->mutex);
    atomic_store(&shared->held, 1);
    nap_ms(kShortMs);
    _exit(0);
  }
  await(&shared->held, 1);
  show("lock", pthread_mutex_lock(&shared->mutex));
  show("consistent", pthread_mutex_consistent(&shared->mutex));
  show("unlock", pthread_mutex_unlock(&shared->mutex));
  show("lock and unlock", lock_and_unlock(&shared->mutex));
}
static void try_robust(void) {
  for (int i = 0; robust_kind(i) != NULL; i++) {
    section = robust_kind(i)->name;
    try_owner_died(robust_kind(i), "lock", lock);
    try_owner_died(robust_kind(i), "trylock", trylock);
    try_owner_died(robust_kind(i), "timedlock", timedlock_briefly);
    try_not_recovered(robust_kind(i));
    try_waiting_when_owner_dies(robust_kind(i), lock);
    try_waiting_when_owner_dies(robust_kind(i), timedlock_long);
  }
  try_owner_process_dies();
}

// Priorities: where they are permitted; else the lines say so, with and without the library.

static int run_fifo(int priority) {
  const struct sched_param parameter = {priority};
  return pthread_setschedparam(pthread_self(), priority > 0 ? SCHED_FIFO : SCHED_OTHER, &parameter);
}
static int own_priority(void) {
  struct sched_param parameter = {-1};
  sched_getparam(0, &parameter);
  return parameter.sched_priority;
}
static int try_ceiling_as_fifo(void* mutex) {
  int ceiling = 0;
  show("run with a priority", run_fifo(2));
  show("lock", pthread_mutex_lock(mutex));
  show_number("priority inside", own_priority());
  show("trylock, own", pthread_mutex_trylock(mutex));
  show("trylock elsewhere", in_another_thread(trylock, mutex));
  show("timedlock elsewhere", in_another_thread(timedlock_briefly, mutex));
  show("unlock", pthread_mutex_unlock(mutex));
  show_number("priority outside", own_priority());
  show("setprioceiling", pthread_mutex_setprioceiling(mutex, 6, &ceiling));
  show_number("ceiling before", ceiling);
  show("getprioceiling", pthread_mutex_getprioceiling(mutex, &ceiling));
  show_number("ceiling now", ceiling);
  show("trylock", pthread_mutex_trylock(mutex));
  show_number("priority inside", own_priority());
  show("unlock", pthread_mutex_unlock(mutex));
  show("run above the ceiling", run_fifo(7));
  show("lock above the ceiling", pthread_mutex_lock(mutex));
  show("trylock above the ceiling", pthread_mutex_trylock(mutex));
  show("run without priority", run_fifo(0));
  return 0;
}
static void try_ceiling(void) {
  pthread_mutex_t mutex;
  pthread_mutexattr_t attributes;
  section = "ceiling";
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_PROTECT);
  pthread_mutexattr_setprioceiling(&attributes, 5);
  show("init", pthread_mutex_init(&mutex, &attributes));
  // A thread each: the one that was refused is taken for one that has the ceiling's priority.
  show("lock without priority", in_another_thread(lock, &mutex));
  show("trylock without priority", in_another_thread(trylock, &mutex));
  show("timedlock without priority", in_another_thread(timedlock_briefly, &mutex));
  in_another_thread(try_ceiling_as_fifo, &mutex);
}

static atomic_int inherit_stage;
static atomic_int inherit_tid;

static long kernel_priority(pid_t tid) {
  char path[64], text[1024] = "";
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  const int fd = open(path, O_RDONLY);
  if (fd < 0 || read(fd, text, sizeof text - 1) < 0) return 4711;
  close(fd);
  long priority = 4711;
  const char* at = strrchr(text, ')');
  for (int field = 2; at != NULL && field < 18; field++) at = strchr(at + 1, ' ');
  if (at != NULL) sscanf(at, "%ld", &priority);
  return priority;
}
static void* hold_for_higher(void* mutex) {
  pthread_mutex_lock(mutex);
  atomic_store(&inherit_tid, gettid());
  atomic_store(&inherit_stage, 1);
  await(&inherit_stage, 2);
  pthread_mutex_unlock(mutex);
  atomic_store(&inherit_stage, 3);
  await(&inherit_stage, 4);
  return NULL;
}
static void* want_with_priority(void* mutex) {
  if (run_fifo(3) != 0) return NULL;
  await(&inherit_stage, 1);
  pthread_mutex_lock(mutex);
  pthread_mutex_unlock(mutex);
  return NULL;
}
static void try_inheritance(void) {
  pthread_mutex_t mutex;
  pthread_t holder, higher;
  section = "inheritance";
  make_mutex(&mutex, &kMutexKinds[kInheritingNormal]);
  pthread_create(&holder, NULL, hold_for_higher, &mutex);
  await(&inherit_stage, 1);
  show_number("priority of the holder alone", kernel_priority(inherit_tid));
  pthread_create(&higher, NULL, want_with_priority, &mutex);
  for (int i = 0; i < 300 && kernel_priority(inherit_tid) >= 0; i++) nap_ms(1);
  show_number("priority of the holder, waited for", kernel_priority(inherit_tid));
  atomic_store(&inherit_stage, 2);
  await(&inherit_stage, 3);
  show_number("priority after its unlock", kernel_priority(inherit_tid));
  atomic_store(&inherit_stage, 4);
  pthread_join(holder, NULL);
  pthread_join(higher, NULL);
}

void try_mutexes(void) {
  for (int i = 0; i < kMutexKindCount; i++) try_mutex_kind(&kMutexKinds[i]);
  try_unlock_by_another();
  try_recursion();
  try_robust();
  try_ceiling();
  try_inheritance();
}

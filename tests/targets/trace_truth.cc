// SPDX-License-Identifier: Apache-2.0
// Waits of known length for each cause that a trace tells apart, and who ended them: trace_truth
//
// Prints what it measured itself, as JSON. Each wait is in a function of its own, each release too;
// nothing else of this program waits in them. A wait is over between the moment at which something
// is about to end it and the one at which the waiter is back: on a quiet machine they are as good
// as one. All causes side by side: nearly all of it is sleep.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/mprof.h"
#include "tests/targets/lock_events.h"

using lock_events::await;
using lock_events::fail;
using lock_events::nap_ms;
using lock_events::now_ns;

#define SITE extern "C" [[gnu::noinline]] void

namespace {

constexpr int kRounds = 3;
// Long enough that what a busy machine adds stays far below a twentieth.
constexpr int kHoldMs = 250;
constexpr int kYields = 100;
constexpr int kBetweenYieldsNs = 1000000;
constexpr int kThreads = 20;
constexpr int kBusyMs = 200;
constexpr int64_t kLeastLateNs = 2000000;
constexpr size_t kGrownBytes = size_t{32} << 20;

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t held_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_rwlock_t read_lock = PTHREAD_RWLOCK_INITIALIZER;
pthread_rwlock_t write_lock = PTHREAD_RWLOCK_INITIALIZER;
sem_t semaphore;
pthread_barrier_t barrier;

struct Condition {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  bool is_met = false;
};
Condition condition;
Condition relocked;

struct Channel {
  int reader = -1;
  int writer = -1;
};
Channel polled;
Channel selected;
Channel epolled;
Channel slow_pipe;
Channel slow_peer;
int listener = -1;
sockaddr_in listener_address;
int locked_file = -1;

void check(bool is_right, const char* what) {
  if (!is_right) fail(what);
}

}  // namespace

// Not in a namespace: the test knows these by their names.

SITE wait_for_mutex() {
  check(pthread_mutex_lock(&mutex) == 0, "mutex");
  pthread_mutex_unlock(&mutex);
}
SITE release_mutex() { pthread_mutex_unlock(&mutex); }

SITE wait_in_vain() {
  const timespec end = lock_events::in_ms(CLOCK_REALTIME, kHoldMs);
  check(pthread_mutex_timedlock(&held_mutex, &end) == ETIMEDOUT, "timed mutex");
}

SITE wait_to_read() {
  check(pthread_rwlock_rdlock(&read_lock) == 0, "rdlock");
  pthread_rwlock_unlock(&read_lock);
}
SITE release_writer() { pthread_rwlock_unlock(&read_lock); }
SITE wait_to_write() {
  check(pthread_rwlock_wrlock(&write_lock) == 0, "wrlock");
  pthread_rwlock_unlock(&write_lock);
}
SITE release_reader() { pthread_rwlock_unlock(&write_lock); }

SITE wait_for_condition() {
  pthread_mutex_lock(&condition.mutex);
  while (!condition.is_met) pthread_cond_wait(&condition.cond, &condition.mutex);
  pthread_mutex_unlock(&condition.mutex);
}
SITE signal_condition() { pthread_cond_signal(&condition.cond); }

SITE wait_for_condition_and_lock() {
  pthread_mutex_lock(&relocked.mutex);
  while (!relocked.is_met) pthread_cond_wait(&relocked.cond, &relocked.mutex);
  pthread_mutex_unlock(&relocked.mutex);
}
SITE signal_with_lock() { pthread_cond_broadcast(&relocked.cond); }
SITE unlock_after_signal() { pthread_mutex_unlock(&relocked.mutex); }

SITE wait_for_semaphore() { check(sem_wait(&semaphore) == 0, "sem_wait"); }
SITE post_semaphore() { sem_post(&semaphore); }

SITE wait_at_barrier() { pthread_barrier_wait(&barrier); }
SITE arrive_last() { pthread_barrier_wait(&barrier); }

SITE wait_for_thread(pthread_t thread) { check(pthread_join(thread, nullptr) == 0, "join"); }

SITE sleep_for_a_while() {
  const timespec time = {0, kHoldMs * 1000000};
  check(nanosleep(&time, nullptr) == 0, "nanosleep");
}

SITE wait_in_poll() {
  pollfd wanted = {polled.reader, POLLIN, 0};
  check(poll(&wanted, 1, -1) == 1, "poll");
}
SITE wait_in_select() {
  fd_set wanted;
  FD_ZERO(&wanted);
  FD_SET(selected.reader, &wanted);
  check(select(selected.reader + 1, &wanted, nullptr, nullptr, nullptr) == 1, "select");
}
SITE wait_in_epoll(int set) {
  epoll_event event = {};
  check(epoll_wait(set, &event, 1, -1) == 1, "epoll_wait");
}
SITE read_slow_pipe() {
  char byte = 0;
  check(read(slow_pipe.reader, &byte, 1) == 1, "read");
}
SITE receive_from_slow_peer() {
  char byte = 0;
  check(recv(slow_peer.reader, &byte, 1, 0) == 1, "recv");
}
SITE accept_late_client() {
  const int client = accept(listener, nullptr, nullptr);
  check(client >= 0, "accept");
  close(client);
}
SITE wait_for_child(pid_t child) { check(waitpid(child, nullptr, 0) == child, "waitpid"); }
SITE wait_for_file(int file) { check(flock(file, LOCK_EX) == 0, "flock"); }

// Yields that follow each other at once are one.
SITE give_way() {
  for (int i = 0; i < kYields; i++) {
    sched_yield();
    for (const int64_t next = now_ns() + kBetweenYieldsNs; now_ns() < next;) {
    }
  }
}

extern "C" [[gnu::noinline]] void* live_shortly(void* argument) { return argument; }

SITE make_threads() {
  for (int i = 0; i < kThreads; i++) {
    pthread_t thread;
    check(pthread_create(&thread, nullptr, live_shortly, nullptr) == 0, "pthread_create");
    pthread_join(thread, nullptr);
  }
}

// The break moves, which a mapping of its own would not.
SITE grow_heap() {
  constexpr size_t kBlockBytes = 64 * 1024;
  static void* blocks[kGrownBytes / kBlockBytes];
  for (void*& block : blocks) memset(block = malloc(kBlockBytes), 1, kBlockBytes);
  for (void* block : blocks) free(block);
}

namespace {

struct Times {
  int64_t least_ns = 0;
  int64_t most_ns = 0;
};

struct Cause {
  const char* name;
  const char* profile;  // of `go tool trace`; "": in none
  const char* waiter;
  void (*wait)();
  std::vector<const char*> releasers = {};  // none: the kernel ends the wait
  void (*prepare)() = [] {};
  void (*before_end)() = [] {};
  void (*end)() = nullptr;  // none: it ends by itself
};

// The wait that is under way in a thread.
struct Round {
  const Cause* cause;
  std::atomic<int> has_come{0};
  int64_t begin_ns = 0;
  int64_t sleeper_end_ns = 0;  // what it waits for is not over before that
  int64_t back_ns = 0;
};
thread_local Round* own_round;

// Called once more by waits that need something done just before.
void come() {
  own_round->begin_ns = now_ns();
  own_round->has_come = 1;
}

void* wait_once(void* argument) {
  own_round = static_cast<Round*>(argument);
  come();
  own_round->cause->wait();
  own_round->back_ns = now_ns();
  return nullptr;
}

void make_pipe(Channel& channel) { check(pipe(&channel.reader) == 0, "pipe"); }
void make_sockets(Channel& channel) {
  check(socketpair(AF_UNIX, SOCK_STREAM, 0, &channel.reader) == 0, "socketpair");
}
void send_byte(const Channel& channel) { check(write(channel.writer, "x", 1) == 1, "write"); }

void listen_somewhere() {
  socklen_t bytes = sizeof listener_address;
  auto* address = reinterpret_cast<sockaddr*>(&listener_address);
  listener_address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {}};
  listener = socket(AF_INET, SOCK_STREAM, 0);
  check(bind(listener, address, bytes) == 0 && listen(listener, 5) == 0, "listen");
  check(getsockname(listener, address, &bytes) == 0, "getsockname");
}

void connect_once() {
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  const auto* address = reinterpret_cast<const sockaddr*>(&listener_address);
  check(connect(client, address, sizeof listener_address) == 0, "connect");
  close(client);
}

// Leaves its mutex locked.
void meet(Condition& met) {
  pthread_mutex_lock(&met.mutex);
  met.is_met = true;
}
void meet_without_lock() {
  meet(condition);
  pthread_mutex_unlock(&condition.mutex);
}
void meet_and_hold() {
  meet(relocked);
  signal_with_lock();
  nap_ms(kHoldMs);
}

void* sleep_and_end(void* end_ns) {
  nap_ms(kHoldMs);
  *static_cast<int64_t*>(end_ns) = now_ns();
  return nullptr;
}
void join_a_sleeper() {
  pthread_t sleeper;
  check(pthread_create(&sleeper, nullptr, sleep_and_end, &own_round->sleeper_end_ns) == 0,
        "pthread_create");
  come();
  wait_for_thread(sleeper);
}

void epoll_a_pipe() {
  const int set = epoll_create1(0);
  epoll_event event = {EPOLLIN, {}};
  check(epoll_ctl(set, EPOLL_CTL_ADD, epolled.reader, &event) == 0, "epoll_ctl");
  come();
  wait_in_epoll(set);
  close(set);
}

void wait_for_a_sleeper() {
  own_round->sleeper_end_ns = now_ns() + kHoldMs * int64_t{1000000};
  const pid_t child = fork();
  if (child == 0) {
    nap_ms(kHoldMs);
    _exit(0);
  }
  come();
  wait_for_child(child);
}

void take_file() {
  locked_file = open("/proc/self/exe", O_RDONLY);
  check(flock(locked_file, LOCK_EX) == 0, "flock");
}
void take_file_again() {
  const int file = open("/proc/self/exe", O_RDONLY);
  come();
  wait_for_file(file);
  close(file);
}

const std::vector<Cause> kCauses = {
    {.name = "mutex",
     .profile = "sync",
     .waiter = "wait_for_mutex",
     .wait = wait_for_mutex,
     .releasers = {"release_mutex"},
     .prepare = [] { pthread_mutex_lock(&mutex); },
     .end = release_mutex},
    {.name = "mutex that stays locked",
     .profile = "sync",
     .waiter = "wait_in_vain",
     .wait = wait_in_vain},
    {.name = "rwlock read",
     .profile = "sync",
     .waiter = "wait_to_read",
     .wait = wait_to_read,
     .releasers = {"release_writer"},
     .prepare = [] { pthread_rwlock_wrlock(&read_lock); },
     .end = release_writer},
    {.name = "rwlock write",
     .profile = "sync",
     .waiter = "wait_to_write",
     .wait = wait_to_write,
     .releasers = {"release_reader"},
     .prepare = [] { pthread_rwlock_rdlock(&write_lock); },
     .end = release_reader},
    {.name = "cond",
     .profile = "sync",
     .waiter = "wait_for_condition",
     .wait = wait_for_condition,
     .releasers = {"signal_condition"},
     .prepare = [] { condition.is_met = false; },
     .before_end = meet_without_lock,
     .end = signal_condition},
    {.name = "cond relock",
     .profile = "sync",
     .waiter = "wait_for_condition_and_lock",
     .wait = wait_for_condition_and_lock,
     .releasers = {"signal_with_lock", "unlock_after_signal"},
     .prepare = [] { relocked.is_met = false; },
     .before_end = meet_and_hold,
     .end = unlock_after_signal},
    {.name = "semaphore",
     .profile = "sync",
     .waiter = "wait_for_semaphore",
     .wait = wait_for_semaphore,
     .releasers = {"post_semaphore"},
     .end = post_semaphore},
    {.name = "barrier",
     .profile = "sync",
     .waiter = "wait_at_barrier",
     .wait = wait_at_barrier,
     .releasers = {"arrive_last"},
     .end = arrive_last},
    {.name = "join", .profile = "sync", .waiter = "wait_for_thread", .wait = join_a_sleeper},
    {.name = "sleep", .profile = "", .waiter = "sleep_for_a_while", .wait = sleep_for_a_while},
    {.name = "poll",
     .profile = "net",
     .waiter = "wait_in_poll",
     .wait = wait_in_poll,
     .prepare = [] { make_pipe(polled); },
     .end = [] { send_byte(polled); }},
    {.name = "select",
     .profile = "net",
     .waiter = "wait_in_select",
     .wait = wait_in_select,
     .prepare = [] { make_pipe(selected); },
     .end = [] { send_byte(selected); }},
    {.name = "epoll",
     .profile = "net",
     .waiter = "wait_in_epoll",
     .wait = epoll_a_pipe,
     .prepare = [] { make_pipe(epolled); },
     .end = [] { send_byte(epolled); }},
    {.name = "read",
     .profile = "syscall",
     .waiter = "read_slow_pipe",
     .wait = read_slow_pipe,
     .end = [] { send_byte(slow_pipe); }},
    {.name = "recv",
     .profile = "net",
     .waiter = "receive_from_slow_peer",
     .wait = receive_from_slow_peer,
     .end = [] { send_byte(slow_peer); }},
    {.name = "accept",
     .profile = "net",
     .waiter = "accept_late_client",
     .wait = accept_late_client,
     .end = connect_once},
    {.name = "wait", .profile = "syscall", .waiter = "wait_for_child", .wait = wait_for_a_sleeper},
    {.name = "flock",
     .profile = "syscall",
     .waiter = "wait_for_file",
     .wait = take_file_again,
     .prepare = take_file,
     .end = [] { close(locked_file); }},
};
Times times[32];

// Those who end waits do nothing else.
void play_round(const Cause& cause, Times& sum) {
  Round round = {.cause = &cause};
  pthread_t waiter;
  cause.prepare();
  check(pthread_create(&waiter, nullptr, wait_once, &round) == 0, "pthread_create");
  await(round.has_come, 1);
  nap_ms(kHoldMs);
  cause.before_end();
  int64_t end_ns = now_ns();
  if (cause.end != nullptr) cause.end();
  pthread_join(waiter, nullptr);
  if (cause.end == nullptr) end_ns = round.begin_ns + kHoldMs * int64_t{1000000};
  if (round.sleeper_end_ns != 0) end_ns = round.sleeper_end_ns;
  sum.least_ns += end_ns - round.begin_ns;
  sum.most_ns += round.back_ns - round.begin_ns;
}

void* play(void* argument) {
  const auto at = reinterpret_cast<size_t>(argument);
  for (int i = 0; i < kRounds; i++) play_round(kCauses[at], times[at]);
  return nullptr;
}

void play_all() {
  std::vector<pthread_t> players(kCauses.size());
  for (size_t i = 0; i < players.size(); i++)
    check(pthread_create(&players[i], nullptr, play, reinterpret_cast<void*>(i)) == 0, "play");
  for (const pthread_t player : players) pthread_join(player, nullptr);
}

// A task with a region in each of two threads, and a line in each.

Times task_times;
Times region_times;

}  // namespace

SITE work_for_task(uint64_t task) {
  const int64_t before_ns = now_ns();
  const mprof_region_t region = mprof_region_begin(task, "a part of it");
  const int64_t begin_ns = now_ns();
  nap_ms(kHoldMs);
  mprof_log(task, "progress", "nearly done");
  const int64_t end_ns = now_ns();
  mprof_region_end(region);
  region_times.least_ns += end_ns - begin_ns;
  region_times.most_ns += now_ns() - before_ns;
}

namespace {

void* work_beside(void* task) {
  work_for_task(*static_cast<uint64_t*>(task));
  return nullptr;
}

void play_task() {
  const int64_t before_ns = now_ns();
  uint64_t task = mprof_task_begin("a task", 0);
  const int64_t begin_ns = now_ns();
  pthread_t helper;
  check(pthread_create(&helper, nullptr, work_beside, &task) == 0, "pthread_create");
  pthread_join(helper, nullptr);
  work_for_task(task);
  const int64_t end_ns = now_ns();
  mprof_task_end(task);
  task_times = {end_ns - begin_ns, now_ns() - before_ns};
}

// A thread that may run on one core only, where another one computes and has precedence.

std::atomic<int> is_busy;
Times late;
int sure_starts;
int64_t started_ns;
int slices;  // of processor time, until then

// Field 3 of schedstat. A thread that lost its core between its first instruction and here began
// earlier than it can know.
int slices_of_thread() {
  long long used = 0;
  long long waited = 0;
  int count = 0;
  FILE* file = fopen("/proc/thread-self/schedstat", "r");
  if (file == nullptr || fscanf(file, "%lld %lld %d", &used, &waited, &count) != 3)
    fail("schedstat");
  fclose(file);
  return count;
}

void stay_on_first_core() {
  cpu_set_t allowed;
  cpu_set_t one;
  check(sched_getaffinity(0, sizeof allowed, &allowed) == 0, "sched_getaffinity");
  int first = 0;
  while (!CPU_ISSET(first, &allowed)) first++;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  check(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
}

void* compute(void*) {
  stay_on_first_core();
  is_busy = 1;
  for (const int64_t end = now_ns() + kBusyMs * int64_t{1000000}; now_ns() < end && is_busy == 1;) {
  }
  return nullptr;
}

}  // namespace

extern "C" [[gnu::noinline]] void* start_late(void*) {
  started_ns = now_ns();
  slices = slices_of_thread();
  return nullptr;
}

SITE make_late_starter(const pthread_attr_t* attributes) {
  pthread_t thread;
  const int64_t before_ns = now_ns();
  check(pthread_create(&thread, attributes, start_late, nullptr) == 0, "pthread_create");
  const int64_t after_ns = now_ns();
  pthread_join(thread, nullptr);
  late.most_ns += started_ns - before_ns;
  if (slices > 1 || started_ns - before_ns < kLeastLateNs) return;
  late.least_ns += started_ns - after_ns;
  sure_starts++;
}

namespace {

// `computing`: the thread on whose core it is to start. Who makes it bequeaths its low precedence.
void* make_one_late(void* computing) {
  const sched_param none = {};
  cpu_set_t one;
  pthread_attr_t attributes;
  check(sched_setscheduler(0, SCHED_IDLE, &none) == 0, "sched_setscheduler");
  check(pthread_getaffinity_np(*static_cast<pthread_t*>(computing), sizeof one, &one) == 0, "core");
  check(pthread_attr_init(&attributes) == 0, "pthread_attr_init");
  check(pthread_attr_setaffinity_np(&attributes, sizeof one, &one) == 0, "affinity");
  make_late_starter(&attributes);
  pthread_attr_destroy(&attributes);
  return nullptr;
}

void play_late() {
  pthread_t computing;
  pthread_t maker;
  is_busy = 0;
  check(pthread_create(&computing, nullptr, compute, nullptr) == 0, "pthread_create");
  await(is_busy, 1);
  check(pthread_create(&maker, nullptr, make_one_late, &computing) == 0, "pthread_create");
  pthread_join(maker, nullptr);
  is_busy = 2;
  pthread_join(computing, nullptr);
}

// On a busy machine there may be no sure one: then only the upper bound says something.
void play_late_for_sure() {
  constexpr int kMostTries = 20;
  for (int i = 0; i < kMostTries && sure_starts < kRounds; i++) play_late();
}

void print_cause(const Cause& cause, const Times& sum) {
  printf("  {\"cause\": \"%s\", \"profile\": \"%s\", \"waiter\": \"%s\", \"rounds\": %d, ",
         cause.name, cause.profile, cause.waiter, kRounds);
  printf("\"least_ns\": %" PRId64 ", \"most_ns\": %" PRId64 ", \"releasers\": [", sum.least_ns,
         sum.most_ns);
  const char* comma = "";
  for (const char* releaser : cause.releasers) {
    printf("%s\"%s\"", comma, releaser);
    comma = ", ";
  }
  printf("]},\n");
}

void print_times(const char* name, const Times& times) {
  printf(" \"%s\": {\"least_ns\": %" PRId64 ", \"most_ns\": %" PRId64 "},\n", name, times.least_ns,
         times.most_ns);
}

void print_truth() {
  printf("{\"waits\": [\n");
  for (size_t i = 0; i < kCauses.size(); i++) print_cause(kCauses[i], times[i]);
  printf("  null],\n");
  print_times("task", task_times);
  print_times("region", region_times);
  print_times("late", late);
  printf(" \"yields\": %d, \"threads\": %d, \"grown_bytes\": %zu}\n", kYields, kThreads,
         kGrownBytes);
}

}  // namespace

int main() {
  sem_init(&semaphore, 0, 0);
  pthread_barrier_init(&barrier, nullptr, 2);
  pthread_mutex_lock(&held_mutex);
  make_pipe(slow_pipe);
  make_sockets(slow_peer);
  listen_somewhere();
  give_way();
  make_threads();
  grow_heap();
  play_all();
  play_task();
  play_late_for_sure();
  print_truth();
  return 0;
}

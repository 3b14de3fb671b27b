// SPDX-License-Identifier: Apache-2.0
// Waits of known length on every kind of lock, and who made them wait: lock_truth GROUP
//
// Prints what it measured itself, a line a site; see lock_events.h. Each site is a function that
// calls the lock's function itself, one instance a kind of lock. The scenarios of a group run side
// by side: nearly all of it is sleep. Threads order themselves by polling, never by another lock:
// whatever the profiles hold beyond these sites is wrong.
#include <sys/resource.h>

#include <vector>

#include "tests/targets/lock_events.h"
#include "tests/targets/lock_kinds.h"

using namespace lock_events;

#define SITE [[gnu::noinline]] void

namespace {

// Long enough that what a busy machine adds stays far below a twentieth.
constexpr int kHoldMs = 250;
constexpr int kShorterMs = 120;

}  // namespace

// Not in a namespace of their own: the test knows the sites by these names.

template <class K>
std::atomic<int> holders;
template <class K>
std::atomic<int> waiters;
template <class K>
std::atomic<int> turn;
// When what is waited for was last about to happen.
template <class K>
std::atomic<int64_t> about_to;

// Holds on until all who will wait have come, and for this long after that.
template <class K>
void hold_against(int wanted, int ms) {
  holders<K>.fetch_add(1);
  await(waiters<K>, wanted);
  nap_ms(ms);
}
template <class K>
void come(int wanted_holders = 1) {
  await(holders<K>, wanted_holders);
  waiters<K>.fetch_add(1);
}

// A lock for one at a time.

template <class K>
SITE take_first() {
  if (K::kAcquire(K::object()) != 0) fail(K::kName);
}
template <class K>
SITE hand_over() {
  const int64_t before = about_to<K> = now_ns();
  K::kRelease(K::object());
  released({"hand_over", K::kName}, K::kLock, before);
}
template <class K>
SITE wait_for() {
  const int64_t begin = now_ns();
  if (K::kAcquire(K::object()) != 0) fail(K::kName);
  waited({"wait_for", K::kName}, K::kWait, K::kLock, begin, ended(begin, about_to<K>));
}
// By a thread that waited for it, in front of those who still wait.
template <class K>
SITE pass_on() {
  const int64_t before = about_to<K> = now_ns();
  K::kRelease(K::object());
  released({"pass_on", K::kName}, K::kLock, before);
}

template <class K, int wanted>
void hold() {
  take_first<K>();
  hold_against<K>(wanted, kHoldMs);
  hand_over<K>();
}
template <class K>
void wait() {
  come<K>();
  wait_for<K>();
  pass_on<K>();
}

// Hand-over chain: after the holder the first waiter holds on, and the second waits for both.

template <class K>
SITE hand_over_second() {
  const int64_t before = about_to<K> = now_ns();
  K::kRelease(K::object());
  released({"hand_over_second", K::kName}, K::kLock, before);
}
template <class K>
void wait_and_hold() {
  come<K>();
  wait_for<K>();
  if (turn<K>.fetch_add(1) == 0) {
    nap_ms(kShorterMs);
    hand_over_second<K>();
  } else {
    pass_on<K>();
  }
}

// A recursive lock is let go by the outer unlock: nobody is charged for the inner one.

template <class K>
SITE unlock_inner() {
  K::kRelease(K::object());
}
template <class K>
void hold_nested() {
  take_first<K>();
  take_first<K>();
  hold_against<K>(1, kShorterMs);
  unlock_inner<K>();
  nap_ms(kShorterMs);
  hand_over<K>();
}

// Readers of different patience with a writer behind them, and readers behind a writer.

template <class K>
SITE read_first() {
  if (K::kAcquireRead(K::object()) != 0) fail(K::kName);
}
// Not noted: it lets nobody in.
template <class K>
SITE leave_early() {
  K::kReleaseRead(K::object());
}
template <class K>
SITE leave_last() {
  const int64_t before = about_to<K> = now_ns();
  K::kReleaseRead(K::object());
  released({"leave_last", K::kName}, K::kLock, before);
}
template <class K>
SITE wait_to_read() {
  const int64_t begin = now_ns();
  if (K::kAcquireRead(K::object()) != 0) fail(K::kName);
  waited({"wait_to_read", K::kName}, "rwlock read", K::kLock, begin, ended(begin, about_to<K>));
}

template <class K>
void read_shorter() {
  read_first<K>();
  hold_against<K>(1, kShorterMs);
  leave_early<K>();
}
template <class K, int wanted>
void read_longer() {
  read_first<K>();
  hold_against<K>(wanted, kHoldMs);
  leave_last<K>();
}
template <class K>
void write_behind_two() {
  come<K>(2);
  wait_for<K>();
  pass_on<K>();
}
// All of them are in before the first leaves.
template <class K>
void read_behind() {
  come<K>();
  wait_to_read<K>();
  turn<K>.fetch_add(1);
  await(turn<K>, 3);
  nap_ms(20);
  leave_early<K>();
}

// A reader, a writer behind it, and a reader that the writer goes before.

template <class K>
void write_behind_one() {
  come<K>();
  wait_for<K>();
  nap_ms(kShorterMs);
  pass_on<K>();
}
template <class K>
void read_behind_writer() {
  await(waiters<K>, 1);
  nap_ms(50);
  come<K>();
  wait_to_read<K>();
  leave_early<K>();
}

// A wait that ends at its deadline; nobody lets go, and nobody is charged.

template <class K>
SITE expire() {
  const Site site = {"expire", K::kName};
  const int64_t begin = now_ns();
  if (K::kAcquire(K::object()) != ETIMEDOUT) fail(K::kName);
  const Moment end = ended(begin, begin + kExpireMs * int64_t{1000000});
  waited(site, K::kWait, K::kLock, begin, end);
  // Back from a condition, the mutex is taken again, even if nobody has it.
  if constexpr (requires { K::kMutex; })
    may_have_waited(site, "cond relock", K::kMutex, end.earliest_ns, end);
}

// Waits for a signal; the signaller keeps the mutex for a while.

template <class K>
std::atomic<int64_t> before_signal;
template <class K>
std::atomic<int64_t> after_signal;

template <class K>
void signal() {
  before_signal<K> = now_ns();
  K::signal();
  after_signal<K> = now_ns();
}

template <class K>
SITE wait_for_signal() {
  const int64_t begin = now_ns();
  K::wait();
  const Moment end = ended(begin, about_to<K>);
  const Moment signalled = {before_signal<K>, after_signal<K>};
  const int64_t relocked_in = end.earliest_ns - signalled.latest_ns;
  const Site site = {"wait_for_signal", K::kName};
  waited(site, "cond", K::kCond, begin, signalled);
  waited(site, "cond relock", K::kMutex, signalled.earliest_ns,
         {signalled.earliest_ns + relocked_in, end.latest_ns});
}
template <class K>
SITE unlock_after_wait() {
  const int64_t before = about_to<K> = now_ns();
  K::unlock();
  released({"unlock_after_wait", K::kName}, K::kMutex, before);
}
template <class K>
SITE unlock_late() {
  const int64_t before = about_to<K> = now_ns();
  K::unlock();
  released({"unlock_late", K::kName}, K::kMutex, before);
}
template <class K>
void sleep_until_signalled() {
  // Those that come at the same time do not wait for one another.
  while (!K::try_lock()) nap_ms(1);
  waiters<K>.fetch_add(1);
  wait_for_signal<K>();
  unlock_after_wait<K>();
}
template <class K>
void signal_and_keep() {
  await(waiters<K>, K::kSleepers);
  nap_ms(kHoldMs);
  K::lock();
  signal<K>();
  nap_ms(kShorterMs);
  unlock_late<K>();
}

// A lock given up by a wait for a signal, while another thread wants it.

template <class K>
SITE give_up_in_wait() {
  const Site site = {"give_up_in_wait", K::kName};
  const int64_t begin = about_to<K> = now_ns();
  released(site, K::kMutex, begin);
  K::wait();
  const Moment end = ended(begin, before_signal<K>);
  waited(site, "cond", K::kCond, begin, end);
  may_have_waited(site, "cond relock", K::kMutex, end.earliest_ns, end);
}
template <class K>
SITE wait_for_given() {
  const int64_t begin = now_ns();
  K::lock();
  waited({"wait_for_given", K::kName}, "mutex", K::kMutex, begin, ended(begin, about_to<K>));
}
template <class K>
void hold_and_wait() {
  K::lock();
  hold_against<K>(1, kHoldMs);
  give_up_in_wait<K>();
  K::unlock();
}
template <class K>
void take_given_and_signal() {
  come<K>();
  wait_for_given<K>();
  nap_ms(kShorterMs);
  K::unlock();
  signal<K>();
}

// Meeting points: three wait for the fourth.

template <class K>
SITE arrive() {
  const int64_t begin = now_ns();
  K::arrive();
  waited({"arrive", K::kName}, K::kWait, K::kLock, begin, ended(begin, about_to<K>));
}
template <class K>
SITE arrive_last() {
  about_to<K> = now_ns();
  K::arrive_last();
}
template <class K>
void arrive_at_once() {
  waiters<K>.fetch_add(1);
  arrive<K>();
}
template <class K>
void arrive_late() {
  await(waiters<K>, 3);
  nap_ms(kHoldMs);
  arrive_last<K>();
}

// Threads that are joined.

// As pthread_create() or as thrd_create() wants it.
template <class K, class Result>
Result live_a_while(void*) {
  nap_ms(kHoldMs);
  about_to<K> = now_ns();
  return Result{};
}
template <class K>
SITE wait_for_thread(typename K::Thread& thread) {
  const int64_t begin = now_ns();
  if (K::kJoin(thread) != 0) fail(K::kName);
  waited({"wait_for_thread", K::kName}, "join", "-", begin, ended(begin, about_to<K>));
}
template <class K>
void start_and_join() {
  typename K::Thread thread = K::start(live_a_while<K, typename K::Result>);
  wait_for_thread<K>(thread);
}

namespace {

using Body = void (*)();
struct Scenario {
  const char* group;
  bool (*prepare)();
  std::vector<Body> bodies;
};

template <class K>
Scenario three_behind_one(const char* group) {
  return {group, K::prepare, {hold<K, 3>, wait<K>, wait<K>, wait<K>}};
}
template <class K>
Scenario chain(const char* group) {
  return {group, K::prepare, {hold<K, 2>, wait_and_hold<K>, wait_and_hold<K>}};
}
template <class K>
Scenario readers_behind_writer(const char* group) {
  return {group, K::prepare, {hold<K, 3>, read_behind<K>, read_behind<K>, read_behind<K>}};
}
template <class K>
Scenario writer_behind_readers(const char* group) {
  return {group, K::prepare, {read_shorter<K>, read_longer<K, 1>, write_behind_two<K>}};
}
template <class K>
Scenario signalled(const char* group) {
  Scenario scenario = {group, K::prepare, {signal_and_keep<K>}};
  scenario.bodies.insert(scenario.bodies.end(), K::kSleepers, sleep_until_signalled<K>);
  return scenario;
}
template <class K>
Scenario given_up(const char* group) {
  return {group, K::prepare, {hold_and_wait<K>, take_given_and_signal<K>}};
}
template <class K>
Scenario meeting(const char* group) {
  return {
      group, K::prepare, {arrive_late<K>, arrive_at_once<K>, arrive_at_once<K>, arrive_at_once<K>}};
}
template <class K>
Scenario joined_thread(const char* group) {
  return {group, K::prepare, {start_and_join<K>}};
}
template <class K>
Scenario expiring(const char* group) {
  return {group, K::prepare, {expire<K>}};
}

std::vector<Scenario> all_scenarios() {
  return {
      three_behind_one<NormalMutex>("mutex"),
      {"mutex", RecursiveMutex::prepare, {hold_nested<RecursiveMutex>, wait<RecursiveMutex>}},
      three_behind_one<ErrorcheckMutex>("mutex"),
      three_behind_one<AdaptiveMutex>("mutex"),
      three_behind_one<RobustMutex>("mutex"),
      three_behind_one<InheritingMutex>("mutex"),
      {"mutex",
       CeilingMutex::prepare,
       {as_fifo<hold<CeilingMutex, 1>>, as_fifo<wait<CeilingMutex>>}},
      three_behind_one<ProcessSharedMutex>("mutex"),
      three_behind_one<HeapMutex>("mutex"),
      three_behind_one<MemberMutex>("mutex"),
      three_behind_one<TimedMutex>("mutex"),
      three_behind_one<ClockMutex>("mutex"),
      chain<ChainMutex>("mutex"),
      {"spin", SpinLock::prepare, {hold<SpinLock, 1>, wait<SpinLock>}},
      readers_behind_writer<RwlockOfReaders>("rwlock"),
      three_behind_one<RwlockOfWriters>("rwlock"),
      writer_behind_readers<RwlockWritten>("rwlock"),
      {"rwlock",
       RwlockWriterFirst::prepare,
       {read_longer<RwlockWriterFirst, 2>, write_behind_one<RwlockWriterFirst>,
        read_behind_writer<RwlockWriterFirst>}},
      writer_behind_readers<TimedRwlock>("rwlock"),
      readers_behind_writer<ClockRwlock>("rwlock"),
      signalled<SignalOne>("cond"),
      signalled<BroadcastThree>("cond"),
      signalled<TimedSignal>("cond"),
      signalled<ClockSignal>("cond"),
      given_up<GivenUp>("cond"),
      three_behind_one<Semaphore>("others"),
      three_behind_one<TimedSemaphore>("others"),
      three_behind_one<ClockSemaphore>("others"),
      meeting<PthreadBarrier>("others"),
      joined_thread<Join>("others"),
      joined_thread<TimedJoin>("others"),
      joined_thread<ClockJoin>("others"),
      expiring<ExpiringTimedlock>("deadlines"),
      expiring<ExpiringClocklock>("deadlines"),
      expiring<ExpiringTimedwrlock>("deadlines"),
      expiring<ExpiringClockwrlock>("deadlines"),
      expiring<ExpiringTimedrdlock>("deadlines"),
      expiring<ExpiringClockrdlock>("deadlines"),
      expiring<ExpiringSemTimedwait>("deadlines"),
      expiring<ExpiringSemClockwait>("deadlines"),
      expiring<ExpiringTimedwait>("deadlines"),
      expiring<ExpiringClockwait>("deadlines"),
      expiring<ExpiringTimedjoin>("deadlines"),
      expiring<ExpiringClockjoin>("deadlines"),
      expiring<ExpiringStdMutex>("deadlines"),
      three_behind_one<PlainMtx>("c11"),
      {"c11", RecursiveMtx::prepare, {hold_nested<RecursiveMtx>, wait<RecursiveMtx>}},
      three_behind_one<TimedMtx>("c11"),
      expiring<ExpiringMtx>("c11"),
      expiring<ExpiringCnd>("c11"),
      signalled<CndSignal>("c11"),
      signalled<CndBroadcast>("c11"),
      given_up<CndGivenUp>("c11"),
      joined_thread<ThrdJoin>("c11"),
      three_behind_one<StdMutex>("std"),
      three_behind_one<StdRecursiveMutex>("std"),
      three_behind_one<StdTimedMutex>("std"),
      chain<StdChainMutex>("std"),
      readers_behind_writer<StdSharedMutex>("std"),
      writer_behind_readers<StdWrittenMutex>("std"),
      readers_behind_writer<StdSharedTimedMutex>("std"),
      signalled<StdCondition>("std"),
      signalled<StdTimedCondition>("std"),
      given_up<StdGivenUp>("std"),
      joined_thread<StdThread>("std"),
      joined_thread<StdJthread>("std"),
      three_behind_one<StdSemaphore>("futex"),
      meeting<StdLatch>("futex"),
      meeting<StdFuture>("futex"),
  };
}

std::atomic<int> bodies_ended;

void* run_body(void* body) {
  reinterpret_cast<Body>(body)();
  bodies_ended++;
  return nullptr;
}

// Detached: to join them would be a wait of its own.
int start(const Scenario& scenario) {
  if (!scenario.prepare()) return 0;
  for (const Body body : scenario.bodies) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, run_body, reinterpret_cast<void*>(body)) != 0)
      fail("thread");
    pthread_detach(thread);
  }
  return static_cast<int>(scenario.bodies.size());
}

}  // namespace

int main(int argc, char** argv) {
  // Other work on the machine would lengthen the waits; where it may not be, it does.
  setpriority(PRIO_PROCESS, 0, -15);
  int started = 0;
  for (const Scenario& scenario : all_scenarios()) {
    if (argc != 2 || strcmp(argv[1], scenario.group) != 0) continue;
    started += start(scenario);
    // So that they do not all wake in the same moment.
    nap_ms(4);
  }
  await(bodies_ended, started);
  print_truth();
  return started == 0 ? 2 : 0;
}

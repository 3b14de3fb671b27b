// SPDX-License-Identifier: Apache-2.0
#include "preload/wait_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <deque>
#include <limits>
#include <mutex>
#include <optional>
#include <random>
#include <vector>

#include "format/weights.h"
#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::kWeightOne;
using format::WaitKind;

constexpr uint64_t kMillisecond = 1000000;

// The table is as global as in the library: each test has a time of its own, behind all points
// that an older one drew.
class Table {
 public:
  Table() {
    wait_table_forget();
    begin_ += 1000 * kMillisecond;
  }
  ~Table() { wait_table_forget(); }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  [[nodiscard]] uint64_t begin() const { return begin_; }

 private:
  static uint64_t begin_;
};
uint64_t Table::begin_ = 0;

// What a thread has in its block. Declared behind the table, which forgets it before it goes.
class Waiter {
 public:
  Waiter() { add_waiter(link_); }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  void wait(const void* lock, uint64_t now, uint32_t stack = 0, WaitKind kind = WaitKind::kMutex) {
    publish_wait(link_.wait, lock, kind, stack, now);
  }
  void leave() { withdraw_wait(link_.wait); }
  LockWaitLink* link() { return &link_; }

 private:
  LockWaitLink link_{};
};

const void* lock_number(uint64_t n) { return reinterpret_cast<const void*>(0x10000 + 64 * n); }

// Another lock that is at home where `lock` is.
const void* neighbour_of(const void* lock, uint64_t n = 1000) {
  while (home_of(lock_number(n)) != home_of(lock)) ++n;
  return lock_number(n);
}

uint64_t random_word() {
  static std::mt19937_64 random(11);
  return random();
}

// As a hook does it. A mean of 0 records everything.
std::optional<Charge> release(const void* lock, uint64_t now, uint64_t mean_ticks = 0,
                              uint64_t random = random_word(), LockWaitLink* own = nullptr) {
  WatchedLock* entry = is_watched(lock) ? due_at(lock, now, own) : nullptr;
  Charge charge;
  if (entry == nullptr || !charge_release(*entry, lock, now, mean_ticks, random, &charge))
    return std::nullopt;
  return charge;
}

uint64_t ticks_charged(const void* lock, uint64_t now) {
  const auto charge = release(lock, now);
  return charge ? charge->ticks : 0;
}

uint64_t lost(format::Lost reason) { return header->lost[static_cast<size_t>(reason)].load(); }

// ---- The rule ----------------------------------------------------------------------------------

TEST_CASE("wait table: a release is charged with the time its waiter has waited") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  Waiter waiter;
  waiter.wait(lock, t, 7, WaitKind::kRwlockWrite);
  CHECK(is_watched(lock));
  const auto charge = release(lock, t + 100);
  REQUIRE(charge);
  CHECK(charge->ticks == 100);
  CHECK(charge->weight == kWeightOne);
  CHECK(charge->kind == WaitKind::kRwlockWrite);
  CHECK(charge->victim == 7);
}

TEST_CASE("wait table: a release that nobody waits for is not charged, and ends the watching") {
  const Table table;
  const void* lock = lock_number(1);
  CHECK_FALSE(is_watched(lock));
  Waiter waiter;
  waiter.wait(lock, table.begin());
  waiter.leave();
  CHECK(is_watched(lock));
  CHECK_FALSE(release(lock, table.begin() + 10));
  CHECK_FALSE(is_watched(lock));
  waiter.wait(lock, table.begin() + 20);
  CHECK(ticks_charged(lock, table.begin() + 50) == 30);
}

// One that is kept in the same place of a thread.
const void* rival_of(const void* lock, uint64_t n) {
  while (home_of(lock_number(n)) % kReleasesKept != home_of(lock) % kReleasesKept) ++n;
  return lock_number(n);
}

TEST_CASE("wait table: a stretch begins with the newest release, whichever thread made it") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  const void* rival = rival_of(lock, 2);
  std::array<Waiter, 3> waiters;
  waiters[0].wait(lock, t);
  waiters[1].wait(rival, t);
  Waiter& releaser = waiters[2];
  for (const void* each : {lock, rival}) release(each, t + 10, kMillisecond, 1);
  const uint64_t due = find_watched(lock)->next_point.load();
  REQUIRE(due > t + 100);
  SECTION("one that nobody can look at") { due_at(lock, t + 50, nullptr); }
  SECTION("one that keeps it") { due_at(lock, t + 50, releaser.link()); }
  SECTION("one that keeps it, after others") {
    due_at(lock, t + 30, nullptr);
    due_at(lock, t + 40, waiters[1].link());
    due_at(lock, t + 50, releaser.link());
  }
  SECTION("one that had to make room for another lock") {
    due_at(lock, t + 50, releaser.link());
    due_at(rival, t + 60, releaser.link());
  }
  SECTION("one that released both by turns") {
    for (uint64_t i = 1; i <= 50; ++i)
      for (const void* each : {rival, lock}) due_at(each, t + i, releaser.link());
  }
  const auto charge = release(lock, due + 7, 0);
  REQUIRE(charge);
  CHECK(charge->ticks == due + 7 - (t + 50));
}

TEST_CASE("wait table: a trace learns of each release of a lock that somebody waits for") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  std::array<Waiter, 2> waiters;
  waiters[0].wait(lock, t);
  release(lock, t + 100, kMillisecond, 1);
  CHECK(due_at(lock, t + 200, nullptr) == nullptr);  // far before the next point
  CHECK(due_at(lock, t + 200, nullptr, true) == find_watched(lock));
  CHECK(may_be_waited_for(lock));
  CHECK_FALSE(may_be_waited_for(neighbour_of(lock)));
  waiters[0].leave();
  CHECK_FALSE(may_be_waited_for(lock));
  waiters[1].wait(lock, t + 300);
  CHECK(may_be_waited_for(lock));
}

TEST_CASE("wait table: among many threads a trace takes somebody for a waiter") {
  const Table table;
  std::array<Waiter, 32> few;
  CHECK_FALSE(may_be_waited_for(lock_number(1)));
  const Waiter one_more;
  CHECK(may_be_waited_for(lock_number(1)));
}

TEST_CASE("wait table: three waiters are charged once for each moment, not three times") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  std::array<Waiter, 3> waiters;
  for (uint32_t i = 0; i < 3; ++i) waiters[i].wait(lock, t + 10 * i, i);
  const auto first = release(lock, t + 100);
  REQUIRE(first);
  CHECK(first->ticks == 100);
  CHECK(first->victim == 0);
  waiters[0].leave();
  const auto second = release(lock, t + 130);
  REQUIRE(second);
  CHECK(second->ticks == 30);
  CHECK(second->victim == 1);
  waiters[1].leave();
  CHECK(ticks_charged(lock, t + 200) == 70);
  waiters[2].leave();
  CHECK_FALSE(release(lock, t + 300));
}

TEST_CASE("wait table: while one is overtaken, each release pays for its own time") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  Waiter waiter;
  waiter.wait(lock, t, 3);
  for (uint64_t i = 1; i <= 5; ++i) {
    const auto charge = release(lock, t + 10 * i);
    REQUIRE(charge);
    CHECK(charge->ticks == 10);
    CHECK(charge->victim == 3);
  }
}

TEST_CASE("wait table: in a chain of hand-overs each holder pays for its own time") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  std::array<Waiter, 2> waiters;
  uint64_t charged = 0;
  waiters[0].wait(lock, t);
  for (uint64_t i = 1; i <= 20; ++i) {
    const uint64_t now = t + i * i;
    waiters[i % 2].wait(lock, now - 1);
    const uint64_t ticks = ticks_charged(lock, now);
    CHECK(ticks == 2 * i - 1);
    charged += ticks;
    waiters[(i + 1) % 2].leave();
  }
  CHECK(charged == 400);
}

TEST_CASE("wait table: who gives up is charged to nobody after that") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  std::array<Waiter, 2> waiters;
  waiters[0].wait(lock, t, 0);
  waiters[1].wait(lock, t + 40, 1);
  waiters[0].leave();
  const auto charge = release(lock, t + 100);
  REQUIRE(charge);
  CHECK(charge->ticks == 60);
  CHECK(charge->victim == 1);
}

TEST_CASE("wait table: a wait that was left by cancellation ends with the thread's next one") {
  const Table table;
  const uint64_t t = table.begin();
  Waiter waiter;
  waiter.wait(lock_number(1), t);
  waiter.wait(lock_number(2), t + 10);
  CHECK_FALSE(release(lock_number(1), t + 20));
  CHECK(ticks_charged(lock_number(2), t + 20) == 10);
}

TEST_CASE("wait table: two locks with one home are told apart") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  const void* other = neighbour_of(lock);
  REQUIRE(other != lock);
  std::array<Waiter, 2> waiters;
  waiters[0].wait(lock, t, 0);
  CHECK_FALSE(release(other, t));
  CHECK(is_watched(lock));
  waiters[1].wait(other, t + 20, 1, WaitKind::kSpin);
  const auto charge = release(other, t + 50);
  REQUIRE(charge);
  CHECK(charge->ticks == 30);
  CHECK(charge->kind == WaitKind::kSpin);
  CHECK(charge->victim == 1);
}

TEST_CASE("wait table: a lock with the same home does not shorten a stretch of waiting") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  const void* other = neighbour_of(lock);
  std::array<Waiter, 2> waiters;
  waiters[0].wait(lock, t);
  for (uint64_t i = 1; i < 1000; ++i) release(other, t + i);  // nobody waits for this one
  CHECK(ticks_charged(lock, t + 1000) == 1000);
  waiters[1].wait(other, t + 1000);
  CHECK(ticks_charged(other, t + 1500) == 500);
  CHECK(ticks_charged(lock, t + 2000) == 1000);
  CHECK(ticks_charged(other, t + 2500) == 1000);
}

TEST_CASE("wait table: a release whose time was read before the waiter came is not charged") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  Waiter waiter;
  waiter.wait(lock, t + 100);
  CHECK_FALSE(release(lock, t + 50));
  CHECK(is_watched(lock));
  CHECK(ticks_charged(lock, t + 150) == 50);
}

TEST_CASE("wait table: as many locks as there are threads can be waited for at once") {
  const test::Recording recording;
  const Table table;
  const uint64_t t = table.begin();
  constexpr uint64_t kMany = 300;
  std::vector<Waiter> waiters(kMany);
  for (uint64_t i = 0; i < kMany; ++i) waiters[i].wait(lock_number(i), t + i);
  for (uint64_t i = 0; i < kMany; ++i) CHECK(ticks_charged(lock_number(i), t + 1000) == 1000 - i);
  for (uint64_t i = 0; i < kMany; ++i) {
    waiters[i].leave();
    CHECK_FALSE(release(lock_number(i), t + 2000));
    CHECK(find_watched(lock_number(i)) == nullptr);
    CHECK_FALSE(is_watched(lock_number(i)));
  }
  CHECK(lost(format::Lost::kWaitContended) == 0);
}

TEST_CASE("wait table: a lock for which there is no place is not charged, and counted") {
  const test::Recording recording;
  const Table table;
  const uint64_t t = table.begin();
  std::vector<const void*> locks{lock_number(1)};
  uint64_t n = 1;
  const auto next = [&] {
    while (home_of(lock_number(++n)) != home_of(lock_number(1))) {
    }
    return lock_number(n);
  };
  std::deque<Waiter> waiters;
  waiters.emplace_back().wait(locks[0], t);
  while (lost(format::Lost::kWaitContended) == 0) {
    REQUIRE(waiters.size() < 100);
    locks.push_back(next());
    waiters.emplace_back().wait(locks.back(), t);
  }
  CHECK(waiters.size() > 4);
  CHECK_FALSE(release(locks.back(), t + 10));
  for (size_t i = 0; i + 1 < locks.size(); ++i) CHECK(ticks_charged(locks[i], t + 10) == 10);
  // As soon as there is a place again, the next wait has it.
  waiters.front().leave();
  CHECK_FALSE(release(locks.front(), t + 20));
  waiters.emplace_back().wait(locks.back(), t + 30);
  CHECK(ticks_charged(locks.back(), t + 50) == 50);
}

TEST_CASE("wait table: locks that are gone make room for others") {
  const test::Recording recording;
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  Waiter waiter;
  for (uint64_t n = 1; n < 20; ++n) {  // destroyed after the wait, and never released again
    waiter.wait(neighbour_of(lock, 5000 * n), t + n);
    waiter.leave();
  }
  waiter.wait(lock, t + 100);
  CHECK(lost(format::Lost::kWaitContended) == 0);
  CHECK(ticks_charged(lock, t + 130) == 30);
}

TEST_CASE(
    "wait table: the byte that a lock left behind does not slow down its neighbours for ever") {
  const Table table;
  const uint64_t t = table.begin();
  const void* gone = lock_number(1);
  const void* neighbour = neighbour_of(gone);
  Waiter waiter;
  waiter.wait(gone, t);
  for (uint64_t i = 0; i < 4096; ++i) CHECK_FALSE(release(neighbour, t + i));
  CHECK(is_watched(neighbour));  // somebody waits
  waiter.leave();
  for (uint64_t i = 0; i < 4096; ++i) CHECK_FALSE(release(neighbour, t + i));
  CHECK_FALSE(is_watched(neighbour));
}

// What the table holds, in the simplest words.
class Model {
 public:
  void wait(uint32_t thread, const void* lock, uint64_t now) {
    leave(thread);
    waiting_.push_back({thread, lock, now});
  }
  void leave(uint32_t thread) {
    std::erase_if(waiting_, [&](const Waiting& one) { return one.thread == thread; });
  }
  struct Charged {
    uint64_t ticks;
    uint32_t victim;
  };
  std::optional<Charged> release(const void* lock, uint64_t now) {
    std::optional<Charged> result;
    for (Waiting& one : waiting_) {
      if (one.lock != lock) continue;
      if (!result) result = {now - one.since, one.thread};
      one.since = now;
    }
    return result;
  }

 private:
  struct Waiting {
    uint32_t thread;
    const void* lock;
    uint64_t since;
  };
  std::vector<Waiting> waiting_;
};

TEST_CASE("wait table: random histories of nine threads and four locks agree with the model") {
  const std::array<const void*, 4> locks{lock_number(1), neighbour_of(lock_number(1)),
                                         lock_number(2), lock_number(3)};
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    const Table table;
    std::mt19937 random(seed);
    std::array<Waiter, 9> waiters;
    Model model;
    uint64_t now = table.begin();
    int charges = 0;
    for (int step = 0; step < 3000; ++step) {
      now += 1 + random() % 1000;
      const void* lock = locks[random() % locks.size()];
      const auto thread = static_cast<uint32_t>(random() % waiters.size());
      switch (random() % 4) {
        case 0:
        case 1:  // also by a thread that was cancelled in its last wait
          waiters[thread].wait(lock, now, thread);
          model.wait(thread, lock, now);
          break;
        case 2:
          waiters[thread].leave();
          model.leave(thread);
          break;
        default: {
          const auto charge = release(lock, now);
          const auto truth = model.release(lock, now);
          REQUIRE(charge.has_value() == truth.has_value());
          if (!charge) break;
          ++charges;
          REQUIRE(charge->ticks == truth->ticks);
          REQUIRE(charge->victim == truth->victim);
          REQUIRE(charge->weight == kWeightOne);
        }
      }
    }
    CHECK(charges > 300);
  }
}

TEST_CASE("wait table: all charges of a lock are the wall time during which anyone waited") {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    const Table table;
    std::mt19937 random(seed);
    const void* lock = lock_number(seed);
    std::array<Waiter, 6> waiters;
    std::deque<Waiter*> queue;
    uint64_t now = table.begin();
    uint64_t truth = 0;
    uint64_t charged = 0;
    for (int step = 0; step < 2000 || !queue.empty(); ++step) {
      const uint64_t gone = 1 + random() % 1000;
      now += gone;
      truth += queue.empty() ? 0 : gone;
      Waiter& waiter = waiters[random() % waiters.size()];
      const bool waits = std::find(queue.begin(), queue.end(), &waiter) != queue.end();
      if (step < 2000 && !waits) {
        waiter.wait(lock, now);
        queue.push_back(&waiter);
      } else if (!queue.empty()) {
        charged += ticks_charged(lock, now);
        queue.front()->leave();
        queue.pop_front();
      }
    }
    CHECK(charged == truth);
  }
}

// ---- Threads -----------------------------------------------------------------------------------

TEST_CASE("wait table: in a forked child nobody waits, and new waits work") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  Waiter parents;
  parents.wait(lock, t);
  REQUIRE(begin_leaving(*find_watched(lock), lock));  // by a thread that the child does not have
  wait_table_forget();
  CHECK_FALSE(is_watched(lock));
  CHECK(find_watched(lock) == nullptr);
  Waiter waiter;
  waiter.wait(lock, t + 10, 5);
  const auto charge = release(lock, t + 20);
  REQUIRE(charge);
  CHECK(charge->ticks == 10);
  CHECK(charge->victim == 5);
  CHECK(begin_leaving(*find_watched(lock), lock));
  end_leaving(*find_watched(lock));
}

TEST_CASE("wait table: readers leave one at a time; who is kept too long is counted") {
  const test::Recording recording;
  const Table table;
  Waiter waiter;
  waiter.wait(lock_number(1), table.begin());
  WatchedLock& lock = *find_watched(lock_number(1));
  REQUIRE(begin_leaving(lock, lock_number(1)));
  CHECK_FALSE(begin_leaving(lock, lock_number(1)));
  CHECK(lost(format::Lost::kWaitContended) == 1);
  end_leaving(lock);
  int inside = 0;
  test::in_threads(4, [&](int) {
    for (int i = 0; i < 2000; ++i) {
      while (!begin_leaving(lock, lock_number(1))) {
      }
      ++inside;  // a data race, were two in here
      end_leaving(lock);
    }
  });
  CHECK(inside == 4 * 2000);
}

TEST_CASE("wait table: a thread that ends in a wait is not waited for any more") {
  const test::Recording recording;
  const Table table;
  const void* lock = lock_number(1);
  const ThreadBlock* first = nullptr;
  std::thread([&] {
    ThreadBlock* block = own_block();
    first = block;
    publish_wait(block->lock_wait.wait, lock, WaitKind::kMutex, 0, table.begin());
  }).join();
  CHECK_FALSE(release(lock, table.begin() + 10));
  CHECK_FALSE(is_watched(lock));
  // The next thread that has the block is found, and once.
  std::thread([&] {
    ThreadBlock* block = own_block();
    CHECK(block == first);
    publish_wait(block->lock_wait.wait, lock, WaitKind::kMutex, 9, table.begin() + 20);
    const auto charge = release(lock, table.begin() + 50);
    REQUIRE(charge);
    CHECK(charge->ticks == 30);
    CHECK(charge->victim == 9);
  }).join();
}

TEST_CASE("wait table: who comes while a release stops watching is watched") {
  const Table table;
  const void* lock = lock_number(1);
  Waiter early;
  Waiter late;
  std::atomic<uint64_t> clock{table.begin()};
  std::barrier together(2);
  int unwatched = 0;
  test::in_threads(2, [&](int thread) {
    for (int round = 0; round < 3000; ++round) {
      if (thread == 0) {
        early.wait(lock, clock.fetch_add(1));
        early.leave();
        together.arrive_and_wait();
        release(lock, clock.fetch_add(1), 0, 1);
        together.arrive_and_wait();
        unwatched += is_watched(lock) ? 0 : 1;
        together.arrive_and_wait();
      } else {
        together.arrive_and_wait();
        late.wait(lock, clock.fetch_add(1));
        together.arrive_and_wait();
        together.arrive_and_wait();
        late.leave();
      }
    }
  });
  CHECK(unwatched == 0);
}

TEST_CASE("wait table: eight threads at real mutexes charge no moment twice, nor a foreign wait") {
  const Table table;
  constexpr size_t kLocks = 3;
  std::array<std::mutex, kLocks> mutexes;
  std::array<Waiter, 8> waiters;
  std::array<uint64_t, kLocks> charged{};
  std::atomic<uint64_t> clock{table.begin()};
  std::atomic<int> foreign{0};
  test::in_threads(8, [&](int thread) {
    Waiter& waiter = waiters[static_cast<size_t>(thread)];
    for (size_t i = 0; i < 2000; ++i) {
      const size_t which = (i / 10 + static_cast<size_t>(thread)) % kLocks;
      const void* lock = &mutexes[which];
      if (!mutexes[which].try_lock()) {
        waiter.wait(lock, clock.fetch_add(1), static_cast<uint32_t>(which));
        mutexes[which].lock();
        waiter.leave();
      }
      if (i % 16 == 0) usleep(50);
      if (const auto charge = release(lock, clock.fetch_add(1), 0, 1)) {
        charged[which] += charge->ticks;
        if (charge->victim != which) ++foreign;
      }
      mutexes[which].unlock();
    }
  });
  for (const uint64_t ticks : charged) {
    CHECK(ticks > 0);
    CHECK(ticks <= clock - table.begin());
  }
  CHECK(foreign == 0);
}

// ---- Sampling ----------------------------------------------------------------------------------

// Threads that think, want the lock, hold it. Times are exponential, with these means.
struct Load {
  const char* name;
  size_t threads;
  double think_ns;
  double hold_ns;
  // 0: the lock is handed over. Else it is free until the oldest waiter has woken up, and who comes
  // by meanwhile takes it.
  double wake_ns;
  double first_threads_wake_ns = 0;  // 0: as the others
};

struct Sums {
  double ticks = 0;
  double charges = 0;
};

constexpr double kNever = std::numeric_limits<double>::infinity();

class BusyLock {
 public:
  BusyLock(const Load& load, uint64_t seed, uint64_t mean_ticks, uint64_t begin)
      : load_(load),
        random_(seed),
        lock_(lock_number(seed)),
        mean_ticks_(mean_ticks),
        now_(static_cast<double>(begin)),
        threads_(load.threads) {
    for (Thread& thread : threads_) thread.at = now_ + draw(load.think_ns);
  }
  BusyLock(const BusyLock&) = delete;
  BusyLock& operator=(const BusyLock&) = delete;

  void run(uint64_t milliseconds) {
    const double end = now_ + static_cast<double>(milliseconds * kMillisecond);
    for (;;) {
      size_t first = 0;
      for (size_t i = 1; i < threads_.size(); ++i)
        if (threads_[i].at < threads_[first].at) first = i;
      if (threads_[first].at >= end) break;
      now_ = threads_[first].at;
      step(first);
    }
    now_ = end;
  }

  // The rule with full knowledge, and what is made of the charges that were kept.
  [[nodiscard]] const Sums& truth() const { return truth_; }
  [[nodiscard]] const Sums& estimate() const { return estimate_; }
  [[nodiscard]] uint64_t records() const { return records_; }

 private:
  enum class Does { kThink, kHold, kWait };
  struct Thread {
    Does does = Does::kThink;
    double at = 0;  // of its next step
    uint64_t since = 0;
    Waiter waiter;
  };

  double draw(double mean) {
    const double uniform = static_cast<double>((random_() >> 11) + 1) * 0x1p-53;
    return -std::log(uniform) * mean;
  }

  [[nodiscard]] uint64_t ticks() const { return static_cast<uint64_t>(now_); }

  void take(Thread& thread) {
    is_taken_ = true;
    thread.does = Does::kHold;
    thread.at = now_ + 1 + draw(load_.hold_ns);
  }

  void begin_to_wait(size_t i) {
    Thread& thread = threads_[i];
    thread.does = Does::kWait;
    thread.at = kNever;
    thread.since = ticks();
    queue_.push_back(i);
    thread.waiter.wait(lock_, ticks());
  }

  void end_wait(size_t i) {
    queue_.erase(std::find(queue_.begin(), queue_.end(), i));
    threads_[i].waiter.leave();
    take(threads_[i]);
  }

  void charge(Thread& thread) {
    if (!queue_.empty()) {
      const uint64_t since = std::max(threads_[queue_.front()].since, last_release_);
      truth_.ticks += static_cast<double>(ticks() - since);
      truth_.charges += 1;
    }
    last_release_ = ticks();
    const auto charge = release(lock_, ticks(), mean_ticks_, random_(), thread.waiter.link());
    if (!charge) return;
    ++records_;
    estimate_.ticks += static_cast<double>(format::weighted_value(charge->ticks, charge->weight));
    estimate_.charges += static_cast<double>(charge->weight) / kWeightOne;
  }

  // A thread that sleeps long does not keep the next one from being woken.
  void wake_somebody() {
    for (const size_t i : queue_) {
      const bool is_slow = i == 0 && load_.first_threads_wake_ns != 0;
      double& at = threads_[i].at;
      at = std::min(at, now_ + draw(is_slow ? load_.first_threads_wake_ns : load_.wake_ns));
      if (!is_slow) break;
    }
  }

  void give_back(Thread& thread) {
    charge(thread);
    is_taken_ = false;
    thread.does = Does::kThink;
    thread.at = now_ + draw(load_.think_ns);
    if (queue_.empty()) return;
    if (load_.wake_ns == 0)
      end_wait(queue_.front());
    else
      wake_somebody();
  }

  void step(size_t i) {
    Thread& thread = threads_[i];
    switch (thread.does) {
      case Does::kThink: return is_taken_ ? begin_to_wait(i) : take(thread);
      case Does::kHold: return give_back(thread);
      case Does::kWait:  // awake
        if (!is_taken_) return end_wait(i);
        thread.at = kNever;
    }
  }

  const Load& load_;
  std::mt19937_64 random_;
  const void* lock_;
  uint64_t mean_ticks_;
  double now_;
  std::vector<Thread> threads_;
  std::deque<size_t> queue_;
  bool is_taken_ = false;
  uint64_t last_release_ = 0;
  Sums truth_;
  Sums estimate_;
  uint64_t records_ = 0;
};

// Mean and standard error of relative errors.
class Errors {
 public:
  void add(double error) {
    ++count_;
    sum_ += error;
    squares_ += error * error;
  }
  [[nodiscard]] double mean() const { return sum_ / count_; }
  [[nodiscard]] double spread() const {
    return std::sqrt(std::max(0.0, squares_ / count_ - mean() * mean()) * count_ / (count_ - 1));
  }
  [[nodiscard]] double standard_error() const { return spread() / std::sqrt(count_); }

 private:
  double count_ = 0;
  double sum_ = 0;
  double squares_ = 0;
};

// Sanitizers look for other mistakes than a bias, and take their time.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 8;
#else
constexpr uint64_t kSeeds = 50;
#endif

void check_unbiased(const char* what, const char* load, const Errors& errors, double most) {
  std::printf("  %s, %s: mean error %+.4f, standard error %.4f, spread %.4f over %d seeds\n", load,
              what, errors.mean(), errors.standard_error(), errors.spread(),
              static_cast<int>(kSeeds));
  INFO(load << ": " << what);
  CHECK(std::fabs(errors.mean()) < 4 * errors.standard_error() + 1e-5);
  CHECK(errors.standard_error() < (kSeeds < 50 ? 4 * most : most));
}

// How many charges are recorded in a millisecond.
double check_load(const Load& load, uint64_t mean_ticks, uint64_t milliseconds) {
  Errors ticks;
  Errors charges;
  double records = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Table table;
    BusyLock lock(load, seed, mean_ticks, table.begin());
    lock.run(milliseconds);
    REQUIRE(lock.truth().charges > 0);
    ticks.add(lock.estimate().ticks / lock.truth().ticks - 1);
    charges.add(lock.estimate().charges / lock.truth().charges - 1);
    records += static_cast<double>(lock.records());
  }
  check_unbiased("time", load.name, ticks, 0.015);
  check_unbiased("charges", load.name, charges, 0.1);
  return records / static_cast<double>(kSeeds * milliseconds);
}

constexpr Load kLoads[] = {
    {"4 threads, 70 charges a ms", 4, 20e3, 10e3, 0},
    {"4 threads, 16 a ms, stretches as long as the mean", 4, 100e3, 40e3, 0},
    {"16 threads, 52 a ms, long queue", 16, 100e3, 20e3, 0},
    {"16 threads, 13 a ms, waits of more than one", 16, 100e3, 80e3, 0},
    {"8 threads, 230 a ms, overtaking", 8, 10e3, 2e3, 20e3},
    {"16 threads, 230 a ms, overtaking, waits of some ms", 16, 20e3, 2e3, 1e6},
    {"4 threads, 75 a ms, one of them starves", 4, 20e3, 2e3, 1e3, 5e6},
    {"16 threads, 2060 a ms", 16, 4e3, 500, 0},
};

// The default, fraction 1000, in nanoseconds.
constexpr uint64_t kMean = 1000 * format::kMutexFractionNs;

TEST_CASE("sampling: sums are unbiased by default, with few records") {
  for (const Load& load : kLoads) {
    const double records = check_load(load, kMean, 80);
    CHECK(records > 1);
    CHECK(records < 1.1 * kMillisecond / kMean);
  }
}

TEST_CASE("sampling: sums are unbiased with a fraction of 16") {
  for (const Load& load : kLoads) CHECK(check_load(load, 16 * format::kMutexFractionNs, 40) > 10);
}

TEST_CASE("sampling: with a mean of nothing every charge is recorded as it is") {
  for (const Load& load : kLoads) {
    const Table table;
    BusyLock lock(load, 1, 0, table.begin());
    lock.run(20);
    CHECK(lock.estimate().ticks == lock.truth().ticks);
    CHECK(lock.estimate().charges == lock.truth().charges);
  }
}

TEST_CASE("sampling: sums stay unbiased while the number of threads grows, and looks get rarer") {
  const Load load{"8 threads, among more and more", 8, 10e3, 2e3, 0};
  Errors ticks;
  double few = 0;
  double many = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Table table;
    std::deque<Waiter> idle;
    BusyLock lock(load, seed, kMean, table.begin());
    lock.run(40);
    few += static_cast<double>(lock.records());
    for (int i = 0; i < 60; ++i) {
      for (int n = 0; n < 4; ++n) idle.emplace_back();
      lock.run(1);
    }
    const auto before = static_cast<double>(lock.records());
    lock.run(40);
    many += static_cast<double>(lock.records()) - before;
    ticks.add(lock.estimate().ticks / lock.truth().ticks - 1);
  }
  check_unbiased("time", load.name, ticks, 0.015);
  CHECK(many < 0.25 * few);
}

// Waits of `length` with `pause` between them, one waiter, and nothing else.
TEST_CASE("sampling: a stretch is recorded with the chance that its weight says") {
  for (const uint64_t pause : {kMean / 1000, kMean, 20 * kMean})
    for (const uint64_t length : {kMean / 100, kMean / 10, kMean, 3 * kMean}) {
      const Table table;
      Waiter waiter;
      constexpr int kStretches = 20000;
      int recorded = 0;
      uint64_t now = table.begin();
      for (int i = 0; i < kStretches; ++i) {
        waiter.wait(lock_number(1), now += pause);
        now += length;
        if (const auto charge = release(lock_number(1), now, kMean)) {
          ++recorded;
          REQUIRE(charge->ticks == length);
          REQUIRE(charge->weight == format::stretch_weight(length, kMean));
        }
        waiter.leave();
      }
      const double chance = -std::expm1(-static_cast<double>(length) / kMean);
      const double expected = kStretches * chance;
      INFO("length " << length << ", pause " << pause);
      CHECK(std::fabs(recorded - expected) < 4 * std::sqrt(expected * (1 - chance)));
    }
}

TEST_CASE("sampling: a long stretch is always recorded, and stands for itself") {
  const Table table;
  Waiter waiter;
  uint64_t now = table.begin();
  for (int i = 0; i < 1000; ++i) {
    waiter.wait(lock_number(1), now += kMean / 7);
    const auto charge = release(lock_number(1), now += 30 * kMean, kMean);
    REQUIRE(charge);
    REQUIRE(charge->ticks == 30 * kMean);
    REQUIRE(charge->weight == kWeightOne);
    waiter.leave();
  }
}

TEST_CASE("sampling: a lock that was quiet, or watched for nobody, is sampled as before") {
  const Load busy{"busy and quiet by turns", 8, 10e3, 3e3, 0};
  Errors ticks;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Table table;
    std::mt19937_64 random(seed);
    uint64_t now = table.begin();
    Sums truth;
    Sums estimate;
    for (int phase = 0; phase < 20; ++phase) {
      BusyLock lock(busy, random() % 1000000, kMean, now);
      const uint64_t milliseconds = 1 + random() % 10;
      lock.run(milliseconds);
      wait_table_forget();  // its threads ended
      now += (milliseconds + random() % 10) * kMillisecond;
      truth.ticks += lock.truth().ticks;
      estimate.ticks += lock.estimate().ticks;
    }
    ticks.add(estimate.ticks / truth.ticks - 1);
  }
  check_unbiased("time", busy.name, ticks, 0.015);
}

}  // namespace
}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
#include "preload/wait_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <deque>
#include <limits>
#include <optional>
#include <random>
#include <vector>

#include "preload/clock.h"
#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::WaitKind;

constexpr uint64_t kWindow = 1 << 20;  // about a millisecond, in nanoseconds

// The table is as global as in the library: each test has a time of its own, in which slots that
// an older one made busy are quiet again.
class Table {
 public:
  explicit Table(uint32_t fraction = 1, bool every_wait = true) {
    clock_is_tsc = false;
    if (!wait_table_init(fraction, every_wait)) throw std::runtime_error("no wait table");
    wait_table_forget();
    begin_ += kWindow << 20;
  }
  ~Table() { wait_table_forget(); }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  [[nodiscard]] uint64_t begin() const { return begin_; }

 private:
  static uint64_t begin_;
};
uint64_t Table::begin_ = 0;

const void* lock_number(uint64_t n) { return reinterpret_cast<const void*>(0x10000 + 64 * n); }

// Another lock in the slot of `lock`.
const void* neighbour_of(const void* lock) {
  uint64_t n = 1000;
  while (wait_slot_of(lock_number(n)) != wait_slot_of(lock)) ++n;
  return lock_number(n);
}

int waiting_in_slot_of(const void* lock) { return watched[wait_slot_of(lock)].load(); }

uint32_t random_word() {
  static std::mt19937 random(11);
  return static_cast<uint32_t>(random());
}

std::optional<Charge> release(const void* lock, uint64_t now) {
  Charge charge;
  if (!charge_release(lock, now, random_word(), &charge)) return std::nullopt;
  return charge;
}

uint64_t ticks_charged(const void* lock, uint64_t now) {
  const auto charge = release(lock, now);
  return charge ? charge->ticks : 0;
}

// ---- The rule ----------------------------------------------------------------------------------

TEST_CASE("wait table: a release is charged with the time its waiter has waited") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  WaitNode node{};
  REQUIRE(enlist(node, lock, WaitKind::kRwlockWrite, t));
  CHECK(is_watched(lock));
  const auto charge = release(lock, t + 100);
  REQUIRE(charge);
  CHECK(charge->ticks == 100);
  CHECK(charge->shift == 0);
  CHECK(charge->kind == WaitKind::kRwlockWrite);
  CHECK(charge->victim == &node);
  delist(node);
  CHECK_FALSE(is_watched(lock));
}

TEST_CASE("wait table: a release that nobody waits for is not charged") {
  const Table table;
  const void* lock = lock_number(1);
  CHECK_FALSE(is_watched(lock));
  CHECK_FALSE(release(lock, table.begin()));
  WaitNode node{};
  REQUIRE(enlist(node, lock, WaitKind::kMutex, table.begin()));
  delist(node);
  CHECK_FALSE(release(lock, table.begin() + 10));
}

TEST_CASE("wait table: three waiters are charged once for each moment, not three times") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  std::array<WaitNode, 3> nodes{};
  for (uint64_t i = 0; i < 3; ++i) REQUIRE(enlist(nodes[i], lock, WaitKind::kMutex, t + 10 * i));
  const auto first = release(lock, t + 100);
  REQUIRE(first);
  CHECK(first->ticks == 100);
  CHECK(first->victim == &nodes[0]);
  delist(nodes[0]);
  const auto second = release(lock, t + 130);
  REQUIRE(second);
  CHECK(second->ticks == 30);
  CHECK(second->victim == &nodes[1]);
  delist(nodes[1]);
  CHECK(ticks_charged(lock, t + 200) == 70);
  delist(nodes[2]);
  CHECK_FALSE(release(lock, t + 300));
}

TEST_CASE("wait table: a waiter that others overtake keeps each of their releases charged") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  WaitNode node{};
  REQUIRE(enlist(node, lock, WaitKind::kMutex, t));
  for (uint64_t i = 1; i <= 5; ++i) {
    const auto charge = release(lock, t + 10 * i);
    REQUIRE(charge);
    CHECK(charge->ticks == 10);
    CHECK(charge->victim == &node);
  }
  delist(node);
}

TEST_CASE("wait table: in a chain of hand-overs each holder pays for its own time") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  std::array<WaitNode, 2> nodes{};
  uint64_t charged = 0;
  REQUIRE(enlist(nodes[0], lock, WaitKind::kMutex, t));
  for (uint64_t i = 1; i <= 20; ++i) {
    const uint64_t now = t + i * i;
    REQUIRE(enlist(nodes[i % 2], lock, WaitKind::kMutex, now - 1));
    const uint64_t ticks = ticks_charged(lock, now);
    CHECK(ticks == 2 * i - 1);
    charged += ticks;
    delist(nodes[(i + 1) % 2]);
  }
  CHECK(charged == 400);
  delist(nodes[0]);
}

TEST_CASE("wait table: who gives up is charged to nobody after that") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  std::array<WaitNode, 2> nodes{};
  REQUIRE(enlist(nodes[0], lock, WaitKind::kMutex, t));
  REQUIRE(enlist(nodes[1], lock, WaitKind::kMutex, t + 40));
  delist(nodes[0]);
  const auto charge = release(lock, t + 100);
  REQUIRE(charge);
  CHECK(charge->ticks == 60);
  CHECK(charge->victim == &nodes[1]);
  delist(nodes[1]);
}

TEST_CASE("wait table: two locks in one slot are told apart") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  const void* other = neighbour_of(lock);
  REQUIRE(other != lock);
  std::array<WaitNode, 2> nodes{};
  REQUIRE(enlist(nodes[0], lock, WaitKind::kMutex, t));
  CHECK(is_watched(other));
  CHECK_FALSE(release(other, t + 10));
  REQUIRE(enlist(nodes[1], other, WaitKind::kSpin, t + 20));
  const auto charge = release(other, t + 50);
  REQUIRE(charge);
  CHECK(charge->ticks == 30);
  CHECK(charge->kind == WaitKind::kSpin);
  CHECK(ticks_charged(lock, t + 60) == 60);
  for (WaitNode& node : nodes) delist(node);
}

TEST_CASE("wait table: a release whose time was read before a waiter came leaves that one alone") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  std::array<WaitNode, 2> nodes{};
  REQUIRE(enlist(nodes[0], lock, WaitKind::kMutex, t + 100));
  CHECK_FALSE(release(lock, t + 50));
  CHECK(ticks_charged(lock, t + 150) == 50);
  REQUIRE(enlist(nodes[1], lock, WaitKind::kMutex, t + 300));
  CHECK(ticks_charged(lock, t + 200) == 50);
  delist(nodes[0]);
  CHECK(ticks_charged(lock, t + 310) == 10);
  delist(nodes[1]);
}

// What the table holds, in the simplest words.
class Model {
 public:
  void wait(const WaitNode* node, const void* lock, uint64_t now) {
    leave(node);
    waiters_.push_back({node, lock, now});
  }
  void leave(const WaitNode* node) {
    std::erase_if(waiters_, [&](const Waiter& waiter) { return waiter.node == node; });
  }
  struct Charged {
    uint64_t ticks;
    const WaitNode* victim;
  };
  std::optional<Charged> release(const void* lock, uint64_t now) {
    std::optional<Charged> result;
    for (Waiter& waiter : waiters_) {
      if (waiter.lock != lock) continue;
      if (!result) result = {now - waiter.since, waiter.node};
      waiter.since = now;
    }
    return result;
  }
  [[nodiscard]] int in_slot_of(const void* lock) const {
    return static_cast<int>(std::count_if(
        waiters_.begin(), waiters_.end(),
        [&](const Waiter& waiter) { return wait_slot_of(waiter.lock) == wait_slot_of(lock); }));
  }

 private:
  struct Waiter {
    const WaitNode* node;
    const void* lock;
    uint64_t since;
  };
  std::vector<Waiter> waiters_;
};

TEST_CASE("wait table: random histories of nine threads and four locks agree with the model") {
  const std::array<const void*, 4> locks{lock_number(1), neighbour_of(lock_number(1)),
                                         lock_number(2), lock_number(3)};
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    const Table table;
    std::mt19937 random(seed);
    std::array<WaitNode, 9> nodes{};
    Model model;
    uint64_t now = table.begin();
    int charges = 0;
    for (int step = 0; step < 3000; ++step) {
      now += 1 + random() % 1000;
      const void* lock = locks[random() % locks.size()];
      WaitNode& node = nodes[random() % nodes.size()];
      switch (random() % 4) {
        case 0:
        case 1:  // also by a thread that was cancelled in its last wait
          REQUIRE(enlist(node, lock, WaitKind::kMutex, now));
          model.wait(&node, lock, now);
          break;
        case 2:
          delist(node);
          model.leave(&node);
          break;
        default: {
          const auto charge = release(lock, now);
          const auto truth = model.release(lock, now);
          REQUIRE(charge.has_value() == truth.has_value());
          if (!charge) break;
          ++charges;
          REQUIRE(charge->ticks == truth->ticks);
          REQUIRE(charge->victim == truth->victim);
          REQUIRE(charge->shift == 0);
        }
      }
      for (const void* each : locks) REQUIRE(waiting_in_slot_of(each) == model.in_slot_of(each));
    }
    CHECK(charges > 300);
  }
}

TEST_CASE("wait table: all charges of a lock are the wall time during which anyone waited") {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    const Table table;
    std::mt19937 random(seed);
    const void* lock = lock_number(seed);
    std::array<WaitNode, 6> nodes{};
    std::deque<WaitNode*> queue;
    uint64_t now = table.begin();
    uint64_t truth = 0;
    uint64_t charged = 0;
    for (int step = 0; step < 2000 || !queue.empty(); ++step) {
      const uint64_t gone = 1 + random() % 1000;
      now += gone;
      truth += queue.empty() ? 0 : gone;
      WaitNode& node = nodes[random() % nodes.size()];
      const bool waits = std::find(queue.begin(), queue.end(), &node) != queue.end();
      if (step < 2000 && !waits) {
        REQUIRE(enlist(node, lock, WaitKind::kMutex, now));
        queue.push_back(&node);
      } else if (!queue.empty()) {
        charged += ticks_charged(lock, now);
        delist(*queue.front());
        queue.pop_front();
      }
    }
    CHECK(charged == truth);
    CHECK_FALSE(is_watched(lock));
  }
}

// ---- Nodes -------------------------------------------------------------------------------------

TEST_CASE("wait table: a node that a cancelled wait left behind is taken out by the next wait") {
  const Table table;
  const uint64_t t = table.begin();
  WaitNode node{};
  REQUIRE(enlist(node, lock_number(1), WaitKind::kMutex, t));
  const auto charge = release(lock_number(1), t + 5);
  REQUIRE(charge);
  REQUIRE(enlist(node, lock_number(2), WaitKind::kMutex, t + 10));
  CHECK_FALSE(is_watched(lock_number(1)));
  CHECK_FALSE(release(lock_number(1), t + 20));
  CHECK(ticks_charged(lock_number(2), t + 20) == 10);
  delist(node);
  delist(node);  // nothing to do
  CHECK_FALSE(is_watched(lock_number(2)));
}

TEST_CASE("wait table: the victim's stack is told while it waits, and never another wait's") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  WaitNode node{};
  REQUIRE(enlist(node, lock, WaitKind::kMutex, t));
  const auto early = release(lock, t + 1);
  REQUIRE(early);
  CHECK(stack_of(*early) == kNoRow);
  node.stack.store(7);
  CHECK(stack_of(*early) == 7);
  delist(node);
  CHECK(stack_of(*early) == 7);
  REQUIRE(enlist(node, lock, WaitKind::kMutex, t + 10));
  node.stack.store(8);
  CHECK(stack_of(*early) == kNoRow);
  delist(node);
}

TEST_CASE("wait table: more waiters than a byte can count are all seen") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  std::vector<WaitNode> nodes(300);
  for (uint64_t i = 0; i < nodes.size(); ++i) {
    REQUIRE(enlist(nodes[i], lock, WaitKind::kMutex, t + i));
    CHECK(waiting_in_slot_of(lock) == static_cast<int>(std::min<uint64_t>(i + 1, 255)));
  }
  for (uint64_t i = nodes.size(); i > 0; --i) {
    CHECK(waiting_in_slot_of(lock) == static_cast<int>(std::min<uint64_t>(i, 255)));
    delist(nodes[i - 1]);
  }
  CHECK_FALSE(is_watched(lock));
}

TEST_CASE("wait table: in a forked child nobody waits, and new waits work") {
  const Table table;
  const uint64_t t = table.begin();
  const void* lock = lock_number(1);
  std::array<WaitNode, 3> parents{};
  for (WaitNode& node : parents) REQUIRE(enlist(node, lock, WaitKind::kMutex, t));
  REQUIRE(lock_wait_slot(lock));  // by a thread that the child does not have
  wait_table_forget();
  CHECK_FALSE(is_watched(lock));
  CHECK_FALSE(release(lock, t + 10));
  WaitNode node{};
  REQUIRE(enlist(node, lock, WaitKind::kMutex, t + 10));
  CHECK(waiting_in_slot_of(lock) == 1);
  CHECK(ticks_charged(lock, t + 20) == 10);
  delist(node);
}

uint64_t lost(format::Lost reason) { return header->lost[static_cast<size_t>(reason)].load(); }

TEST_CASE("wait table: a slot that stays busy is given up, and the loss is counted") {
  const test::Recording recording;
  const Table table;
  const void* lock = lock_number(1);
  WaitNode node{};
  REQUIRE(lock_wait_slot(lock));
  CHECK_FALSE(enlist(node, lock, WaitKind::kMutex, table.begin()));
  CHECK_FALSE(release(lock, table.begin() + 1));
  CHECK(lost(format::Lost::kWaitContended) == 2);
  unlock_wait_slot(lock);
  CHECK(enlist(node, lock, WaitKind::kMutex, table.begin() + 2));
  delist(node);
}

TEST_CASE("wait table: between the halves of a shared release no other release is charged") {
  const Table table;
  const void* lock = lock_number(1);
  WaitNode node{};
  REQUIRE(enlist(node, lock, WaitKind::kRwlockWrite, table.begin()));
  REQUIRE(lock_wait_slot(lock));
  Charge charge;
  REQUIRE(charge_release_locked(lock, table.begin() + 30, random_word(), &charge));
  CHECK(charge.ticks == 30);
  unlock_wait_slot(lock);
  CHECK(ticks_charged(lock, table.begin() + 40) == 10);
  delist(node);
}

TEST_CASE("wait table: a thread that ends in a wait takes its node along") {
  const test::Recording recording;
  const Table table;
  const void* lock = lock_number(1);
  const void* condition = lock_number(2);
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  std::thread([&] {
    ThreadBlock* block = own_block();
    enlist_condition(block->condition_wait, block->lock_wait, condition, &mutex, table.begin());
    enlist(block->lock_wait, lock, WaitKind::kMutex, table.begin());
  }).join();
  CHECK_FALSE(is_watched(lock));
  CHECK_FALSE(is_watched(condition));
}

TEST_CASE("wait table: a block whose node cannot be taken out is not given to another thread") {
  const test::Recording recording;
  const Table table;
  const void* lock = lock_number(1);
  const ThreadBlock* first = nullptr;
  std::thread([&] {
    ThreadBlock* block = own_block();
    enlist(block->lock_wait, lock, WaitKind::kMutex, table.begin());
    first = block;
    REQUIRE(lock_wait_slot(lock));
  }).join();
  unlock_wait_slot(lock);
  CHECK(waiting_in_slot_of(lock) == 1);
  CHECK(lost(format::Lost::kWaitContended) > 0);
  const ThreadBlock* second = nullptr;
  std::thread([&] { second = own_block(); }).join();
  CHECK(second != first);
  const auto charge = release(lock, table.begin() + 10);
  REQUIRE(charge);
  CHECK(charge->victim == &first->lock_wait);
}

// ---- Threads -----------------------------------------------------------------------------------

// Waits and releases as the hooks make them, without a lock in between.
TEST_CASE("wait table: eight threads that wait and release leave no node, and no time twice") {
  const Table table;
  const std::array<const void*, 3> locks{lock_number(1), neighbour_of(lock_number(1)),
                                         lock_number(2)};
  std::array<WaitNode, 8> nodes{};
  std::atomic<uint64_t> clock{table.begin()};
  std::array<std::atomic<uint64_t>, 3> charged{};
  std::atomic<int> foreign{0};
  test::in_threads(8, [&](int thread) {
    WaitNode& node = nodes[static_cast<size_t>(thread)];
    for (size_t i = 0; i < 3000; ++i) {
      const size_t which = (i + static_cast<size_t>(thread)) % 3;
      if (enlist(node, locks[which], WaitKind::kMutex, clock.fetch_add(1)))
        node.stack.store(static_cast<uint32_t>(which), std::memory_order_release);
      Charge charge;
      const size_t other = (i * 7 + static_cast<size_t>(thread)) % 3;
      if (is_watched(locks[other]) &&
          charge_release(locks[other], clock.fetch_add(1), 0, &charge)) {
        charged[other] += charge.ticks;
        const uint32_t stack = stack_of(charge);
        if (stack != kNoRow && stack != other) ++foreign;
      }
      if (i % 5 != 0) delist(node);  // else as if cancelled
    }
    delist(node);
  });
  for (size_t i = 0; i < 3; ++i) {
    CHECK_FALSE(is_watched(locks[i]));
    CHECK(charged[i] > 0);
    CHECK(charged[i] <= clock - table.begin());
  }
  CHECK(foreign == 0);
}

// ---- Conditions --------------------------------------------------------------------------------

// A thread that waits for the condition, or for its mutex after that.
struct Sleeper {
  WaitNode wait{};
  WaitNode relock{};
};

class Condition {
 public:
  Condition() { hold(); }
  ~Condition() {
    let_go();
    pthread_mutex_destroy(&mutex_);
  }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

  bool begin(Sleeper& sleeper, uint64_t now) {
    return enlist_condition(sleeper.wait, sleeper.relock, address_, &mutex_, now);
  }
  void signal(uint64_t now) { mark_signalled(address_, false, now); }
  void broadcast(uint64_t now) { mark_signalled(address_, true, now); }
  [[nodiscard]] const void* mutex() const { return &mutex_; }
  [[nodiscard]] bool is_waited_for() const { return is_watched(address_); }

  void hold() {
    if (!held_) pthread_mutex_lock(&mutex_);
    held_ = true;
  }
  void let_go() {
    if (held_) pthread_mutex_unlock(&mutex_);
    held_ = false;
  }

 private:
  const void* address_ = lock_number(77);
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  bool held_ = false;
};

// For waits that end by a wake-up, and by the deadline: since when they waited for the mutex.
uint64_t wake(Sleeper& sleeper) { return leave_condition(sleeper.wait, false); }
uint64_t time_out(Sleeper& sleeper) { return leave_condition(sleeper.wait, true); }

TEST_CASE("conditions: a signal marks the oldest waiter that has none yet") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  std::array<Sleeper, 3> sleepers;
  for (uint64_t i = 0; i < 3; ++i) REQUIRE(condition.begin(sleepers[i], t + i));
  condition.signal(t + 10);
  condition.signal(t + 20);
  CHECK(wake(sleepers[0]) == t + 10);
  CHECK(wake(sleepers[1]) == t + 20);
  CHECK(time_out(sleepers[2]) == 0);
  CHECK_FALSE(condition.is_waited_for());
}

TEST_CASE("conditions: a broadcast marks all that wait, and none that come later") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  std::array<Sleeper, 4> sleepers;
  for (uint64_t i = 0; i < 3; ++i) REQUIRE(condition.begin(sleepers[i], t + i));
  condition.signal(t + 5);
  condition.broadcast(t + 10);
  REQUIRE(condition.begin(sleepers[3], t + 11));
  CHECK(wake(sleepers[2]) == t + 10);
  CHECK(wake(sleepers[0]) == t + 5);
  CHECK(wake(sleepers[1]) == t + 10);
  CHECK(time_out(sleepers[3]) == 0);
}

TEST_CASE("conditions: a signal that nobody waits for is forgotten") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  Sleeper sleeper;
  condition.signal(t);
  REQUIRE(condition.begin(sleeper, t + 1));
  CHECK(wake(sleeper) == 0);  // spurious
}

TEST_CASE("conditions: who comes back unmarked has got another's signal") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  std::array<Sleeper, 2> sleepers;
  for (Sleeper& sleeper : sleepers) REQUIRE(condition.begin(sleeper, t));
  condition.signal(t + 10);
  CHECK(sleepers[0].relock.object.load() == condition.mutex());
  CHECK(wake(sleepers[1]) == t + 10);
  CHECK(sleepers[0].relock.object.load() == nullptr);  // it still waits for the condition
  condition.signal(t + 30);
  CHECK(wake(sleepers[0]) == t + 30);
}

TEST_CASE("conditions: who timed out although it was marked hands the signal on") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  std::array<Sleeper, 3> sleepers;
  for (Sleeper& sleeper : sleepers) REQUIRE(condition.begin(sleeper, t));
  condition.signal(t + 10);
  CHECK(time_out(sleepers[0]) == 0);
  CHECK(sleepers[1].relock.object.load() == condition.mutex());
  CHECK(wake(sleepers[1]) == t + 10);
  condition.signal(t + 20);
  CHECK(time_out(sleepers[2]) == 0);  // nobody is left to take it
  CHECK_FALSE(condition.is_waited_for());
  CHECK_FALSE(is_watched(condition.mutex()));
}

TEST_CASE("conditions: from the signal on the waiter waits for the mutex, at its holder's cost") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  Sleeper sleeper;
  REQUIRE(condition.begin(sleeper, t));
  CHECK_FALSE(release(condition.mutex(), t + 10));
  condition.signal(t + 100);
  const auto charge = release(condition.mutex(), t + 130);
  REQUIRE(charge);
  CHECK(charge->ticks == 30);
  CHECK(charge->kind == WaitKind::kCondRelock);
  CHECK(charge->victim == &sleeper.relock);
  CHECK(wake(sleeper) == t + 100);
  CHECK_FALSE(is_watched(condition.mutex()));
}

TEST_CASE("conditions: a signal while the mutex is free makes nobody wait for it") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  Sleeper sleeper;
  REQUIRE(condition.begin(sleeper, t));
  condition.let_go();
  condition.signal(t + 10);
  CHECK_FALSE(is_watched(condition.mutex()));
  CHECK(wake(sleeper) == 0);
}

TEST_CASE("conditions: a release of the condition's own address is no charge") {
  const Table table;
  Condition condition;
  Sleeper sleeper;
  REQUIRE(condition.begin(sleeper, table.begin()));
  CHECK_FALSE(release(lock_number(77), table.begin() + 10));
  CHECK(time_out(sleeper) == 0);
}

TEST_CASE("conditions: a cancelled wait's nodes are taken out by the next one") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  Sleeper sleeper;
  REQUIRE(condition.begin(sleeper, t));
  condition.signal(t + 10);
  CHECK(is_watched(condition.mutex()));
  REQUIRE(condition.begin(sleeper, t + 20));
  CHECK_FALSE(is_watched(condition.mutex()));
  CHECK(wake(sleeper) == 0);
  REQUIRE(condition.begin(sleeper, t + 30));
  condition.signal(t + 40);
  REQUIRE(enlist(sleeper.relock, lock_number(5), WaitKind::kMutex, t + 50));
  CHECK_FALSE(is_watched(condition.mutex()));
  CHECK(ticks_charged(lock_number(5), t + 60) == 10);
  delist(sleeper.relock);
  delist(sleeper.wait);
  CHECK_FALSE(condition.is_waited_for());
}

TEST_CASE("conditions: with the mutex profile off nobody is enlisted with the mutex") {
  const Table table(0);
  const uint64_t t = table.begin();
  Condition condition;
  Sleeper sleeper;
  REQUIRE(condition.begin(sleeper, t));
  condition.signal(t + 10);
  CHECK_FALSE(is_watched(condition.mutex()));
  CHECK(wake(sleeper) == t + 10);
}

TEST_CASE("conditions: eight threads that wait, signal and broadcast leave no node behind") {
  const Table table;
  Condition condition;
  std::array<Sleeper, 8> sleepers;
  std::atomic<uint64_t> clock{table.begin()};
  std::atomic<int> wrong{0};
  test::in_threads(8, [&](int thread) {
    Sleeper& sleeper = sleepers[static_cast<size_t>(thread)];
    for (int i = 0; i < 2000; ++i) {
      const uint64_t begin = clock.fetch_add(1);
      const bool waits = condition.begin(sleeper, begin);
      if ((i + thread) % 3 == 0)
        condition.broadcast(clock.fetch_add(1));
      else
        condition.signal(clock.fetch_add(1));
      Charge charge;
      charge_release(condition.mutex(), clock.fetch_add(1), 0, &charge);
      if (!waits) continue;
      const uint64_t signalled = leave_condition(sleeper.wait, i % 4 == 0);
      if (signalled != 0 && signalled >= clock) ++wrong;
    }
    delist(sleeper.wait);
    delist(sleeper.relock);
  });
  CHECK(wrong == 0);
  CHECK_FALSE(condition.is_waited_for());
  CHECK_FALSE(is_watched(condition.mutex()));
}

// ---- Thinning ----------------------------------------------------------------------------------

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
  BusyLock(const Load& load, uint64_t seed, const void* lock, uint64_t begin)
      : load_(load), random_(seed), lock_(lock), now_(static_cast<double>(begin)) {
    threads_ = std::vector<Thread>(load.threads);
    for (Thread& thread : threads_) thread.at = now_ + draw(load.think_ns);
  }
  ~BusyLock() {
    for (Thread& thread : threads_) delist(thread.node);
  }
  BusyLock(const BusyLock&) = delete;
  BusyLock& operator=(const BusyLock&) = delete;

  void run(uint64_t windows) {
    const double end = now_ + static_cast<double>(windows * kWindow);
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
  [[nodiscard]] uint32_t highest_shift() const { return highest_shift_; }
  void forget_sums() {
    truth_ = estimate_ = {};
    highest_shift_ = 0;
  }

 private:
  enum class Does { kThink, kHold, kWait };
  struct Thread {
    Does does = Does::kThink;
    double at = 0;  // of its next step
    uint64_t since = 0;
    WaitNode node{};
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
    enlist(thread.node, lock_, WaitKind::kMutex, ticks());
  }

  void end_wait(size_t i) {
    queue_.erase(std::find(queue_.begin(), queue_.end(), i));
    delist(threads_[i].node);
    take(threads_[i]);
  }

  void charge() {
    if (!queue_.empty()) {
      const uint64_t since = std::max(threads_[queue_.front()].since, last_release_);
      if (ticks() > since) {
        truth_.ticks += static_cast<double>(ticks() - since);
        truth_.charges += 1;
      }
    }
    last_release_ = ticks();
    if (!is_watched(lock_)) return;
    Charge charge;
    if (!charge_release(lock_, ticks(), static_cast<uint32_t>(random_() >> 32), &charge)) return;
    estimate_.ticks += static_cast<double>(charge.ticks << charge.shift);
    estimate_.charges += static_cast<double>(uint64_t{1} << charge.shift);
    highest_shift_ = std::max(highest_shift_, charge.shift);
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
    charge();
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
  double now_;
  std::vector<Thread> threads_;
  std::deque<size_t> queue_;
  bool is_taken_ = false;
  uint64_t last_release_ = 0;
  Sums truth_;
  Sums estimate_;
  uint32_t highest_shift_ = 0;
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
constexpr uint64_t kSeeds = 60;
#endif

void check_unbiased(const char* what, const Load& load, const Errors& errors) {
  std::printf("  %s, %s: mean error %+.4f, standard error %.4f, spread %.4f over %d seeds\n",
              load.name, what, errors.mean(), errors.standard_error(), errors.spread(),
              static_cast<int>(kSeeds));
  INFO(load.name << ": " << what);
  CHECK(std::fabs(errors.mean()) < 4 * errors.standard_error() + 1e-9);
  CHECK(errors.standard_error() < (kSeeds < 50 ? 0.25 : 0.06));
}

// The highest shift of all seeds.
uint32_t check_load(const Load& load, uint32_t fraction, uint64_t windows) {
  const Table table(fraction);
  Errors ticks;
  Errors charges;
  uint32_t highest = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    BusyLock lock(load, seed, lock_number(seed), table.begin() + seed * 31 * kWindow + seed * 777);
    lock.run(windows);
    REQUIRE(lock.truth().charges > 0);
    ticks.add(lock.estimate().ticks / lock.truth().ticks - 1);
    charges.add(lock.estimate().charges / lock.truth().charges - 1);
    highest = std::max(highest, lock.highest_shift());
  }
  check_unbiased("time", load, ticks);
  check_unbiased("charges", load, charges);
  return highest;
}

constexpr Load kLoads[] = {
    {"4 threads, 70 charges a window", 4, 20e3, 10e3, 0},
    {"4 threads, 16 a window, the limit", 4, 100e3, 40e3, 0},
    {"16 threads, 52 a window, long queue", 16, 100e3, 20e3, 0},
    {"16 threads, 13 a window, waits of more than one", 16, 100e3, 80e3, 0},
    {"8 threads, 230 a window, overtaking", 8, 10e3, 2e3, 20e3},
    {"16 threads, 230 a window, overtaking, waits of some windows", 16, 20e3, 2e3, 1e6},
    {"4 threads, 75 a window, one of them starves", 4, 20e3, 2e3, 1e3, 5e6},
};

TEST_CASE("thinning: sums stay unbiased with a fraction of 1024") {
  for (const Load& load : kLoads) CHECK(check_load(load, 1024, 400) > 0);
}

TEST_CASE("thinning: sums stay unbiased with a fraction of 16") {
  for (const Load& load : kLoads) {
    const uint32_t highest = check_load(load, 16, 200);
    CHECK(highest > 0);
    CHECK(highest <= 4);
  }
}

TEST_CASE("thinning: sums stay unbiased at two thousand charges a window") {
  const Load load{"16 threads, 2060 a window", 16, 4e3, 500, 0};
  CHECK(check_load(load, 1024, 600) >= 7);
  CHECK(check_load(load, 16, 64) == 4);
}

TEST_CASE("thinning: a lock whose load goes up and down stays unbiased") {
  const Load busy{"busy", 8, 10e3, 3e3, 0};
  const Load quiet{"quiet", 8, 4e6, 50e3, 0};
  const Table table(1024);
  Errors ticks;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    std::mt19937_64 random(seed);
    uint64_t now = table.begin() + seed * 12345;
    Sums truth;
    Sums estimate;
    for (int phase = 0; phase < 20; ++phase) {
      const uint64_t windows = 1 + random() % 40;
      BusyLock lock(phase % 2 == 0 ? busy : quiet, random(), lock_number(seed), now);
      lock.run(windows);
      now += windows * kWindow;
      truth.ticks += lock.truth().ticks;
      estimate.ticks += lock.estimate().ticks;
    }
    ticks.add(estimate.ticks / truth.ticks - 1);
  }
  check_unbiased("time", {"busy and quiet by turns", 0, 0, 0, 0}, ticks);
}

// `pairs` of a wait and a release for it, evenly spread over one window; how many were charged, and
// whether each was charged alone.
struct Seen {
  uint32_t charges = 0;
  uint32_t highest_shift = 0;
};
Seen run_window(const void* lock, uint64_t window, uint32_t pairs) {
  Seen seen;
  WaitNode node{};
  const uint64_t step = kWindow / (pairs + 1);
  for (uint64_t i = 1; i <= pairs; ++i) {
    const uint64_t now = window * kWindow + i * step;
    enlist(node, lock, WaitKind::kMutex, now - step / 2);
    if (const auto charge = release(lock, now)) {
      ++seen.charges;
      seen.highest_shift = std::max(seen.highest_shift, charge->shift);
    }
    delist(node);
  }
  return seen;
}

TEST_CASE("thinning: with at most 16 waits and charges a window everything is charged") {
  const Table table(1024);
  const uint64_t first = table.begin() / kWindow;
  for (uint64_t window = first; window < first + 3000; ++window) {
    const Seen seen = run_window(lock_number(1), window, 8);
    REQUIRE(seen.charges == 8);
    REQUIRE(seen.highest_shift == 0);
  }
}

TEST_CASE("thinning: a lock that becomes quiet is charged exactly again, and soon") {
  const Table table(1024);
  const uint64_t first = table.begin() / kWindow;
  uint64_t window = first;
  uint32_t highest = 0;
  for (; window < first + 600; ++window)
    highest = std::max(highest, run_window(lock_number(1), window, 1000).highest_shift);
  CHECK(highest >= 6);
  window += uint64_t{2} << (highest + 1);  // some of them without any wait
  for (uint64_t end = window + 600; window < end; ++window) {
    const Seen seen = run_window(lock_number(1), window, 5);
    REQUIRE(seen.charges == 5);
    REQUIRE(seen.highest_shift == 0);
  }
}

TEST_CASE("thinning: a lock that stays a little busy finds back to exact charges") {
  const Table table(1024);
  const uint64_t first = table.begin() / kWindow;
  uint64_t window = first;
  for (; window < first + 600; ++window) run_window(lock_number(1), window, 1000);
  uint64_t exact_since = window;
  for (const uint64_t end = window + 4096; window < end; ++window)
    if (run_window(lock_number(1), window, 5).charges != 5) exact_since = window + 1;
  CHECK(exact_since > first + 600);
  CHECK(exact_since < first + 600 + 2048);
}

TEST_CASE("thinning: the shift follows the load, and stays below the fraction's") {
  struct Case {
    uint32_t fraction;
    uint32_t most;
  };
  for (const Case& c : {Case{1, 0}, {2, 1}, {3, 1}, {16, 4}, {1000, 9}, {1024, 10}}) {
    const Table table(c.fraction);
    const uint64_t first = table.begin() / kWindow;
    uint32_t highest = 0;
    for (uint64_t window = first; window < first + 1500; ++window)
      highest = std::max(highest, run_window(lock_number(9), window, 2000).highest_shift);
    INFO("fraction " << c.fraction);
    CHECK(highest == std::min(c.most, 8u));  // 4000 / 2^8 is below 17
  }
}

TEST_CASE("thinning: a fraction of one charges a busy lock exactly") {
  const Table table(1);
  const uint64_t first = table.begin() / kWindow;
  for (uint64_t window = first; window < first + 20; ++window)
    REQUIRE(run_window(lock_number(1), window, 3000).charges == 3000);
}

TEST_CASE("thinning: a thread that comes with an older time does not make a busy lock a quiet one") {
  const Table table(1024);
  const uint64_t first = table.begin() / kWindow;
  const void* lock = lock_number(1);
  WaitNode late{};
  uint32_t charges = 0;
  for (uint64_t window = first; window < first + 400; ++window) {
    charges += run_window(lock, window, 500).charges;
    enlist(late, lock, WaitKind::kMutex, (window - 1) * kWindow);
    delist(late);
  }
  CHECK(charges < 20 * 500);
}

TEST_CASE("thinning: another lock's place is drawn by itself") {
  const Table table(16);
  const uint64_t first = table.begin() / kWindow;
  uint32_t both = 0;
  uint32_t windows = 0;
  for (uint64_t window = first; window < first + 3200; ++window) {
    const bool a = run_window(lock_number(1), window, 300).charges != 0;
    const bool b = run_window(lock_number(2), window, 300).charges != 0;
    both += a && b ? 1 : 0;
    windows += a ? 1 : 0;
  }
  CHECK(windows > 180);
  CHECK(windows < 260);
  CHECK(both < 40);  // 12.5 by chance
}

// Waits of `ticks` each for a condition; what they are estimated to be.
Sums run_condition(uint64_t begin, int windows, int waits_per_window, uint64_t ticks) {
  Condition condition;
  Sums sums;
  Sleeper sleeper;
  const uint64_t step = kWindow / static_cast<uint64_t>(waits_per_window);
  for (int i = 0; i < windows * waits_per_window; ++i) {
    const uint64_t now = begin + static_cast<uint64_t>(i) * step;
    if (!condition.begin(sleeper, now)) continue;
    sums.ticks += static_cast<double>(ticks << sleeper.wait.shift);
    sums.charges += static_cast<double>(uint64_t{1} << sleeper.wait.shift);
    leave_condition(sleeper.wait, true);
  }
  return sums;
}

TEST_CASE("thinning: waits for a busy condition are unbiased") {
  Errors errors;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const Table table(1024, false);
    const Sums sums = run_condition(table.begin() + seed * 7777, 640, 400, 1000);
    errors.add(sums.charges / (640 * 400) - 1);
  }
  check_unbiased("waits", {"a condition, 400 a window", 0, 0, 0, 0}, errors);
  CHECK(errors.spread() > 0);
}

TEST_CASE("thinning: waits for a condition are all there when every wait is wanted") {
  const Table table(1024, true);
  CHECK(run_condition(table.begin(), 100, 1000, 10).charges == 100 * 1000);
}

}  // namespace
}  // namespace mprof::preload

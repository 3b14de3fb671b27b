// SPDX-License-Identifier: Apache-2.0
#include "preload/condition_table.h"

#include <array>
#include <optional>
#include <vector>

#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using format::WaitKind;

// The tables are as global as in the library: each test has a time of its own.
class Table {
 public:
  explicit Table(bool locks_too = true) {
    if (!condition_table_init(locks_too)) throw std::runtime_error("no table");
    forget();
    begin_ += 1000000;
  }
  ~Table() { forget(); }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  [[nodiscard]] uint64_t begin() const { return begin_; }

 private:
  static void forget() {
    wait_table_forget();
    condition_table_forget();
  }
  static uint64_t begin_;
};
uint64_t Table::begin_ = 0;

// What a thread has in its block.
struct Sleeper {
  Sleeper() {
    add_waiter(link);
    node.lock_wait = &link.wait;
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

  [[nodiscard]] const void* waits_for_lock() const { return link.wait.object.load(); }

  LockWaitLink link{};
  ConditionNode node{};
};

const void* address_number(uint64_t n) { return reinterpret_cast<const void*>(0x10000 + 64 * n); }

// With its mutex, which somebody holds at first.
class Condition {
 public:
  explicit Condition(const void* address = address_number(1)) : address_(address) {
    pthread_mutex_lock(&mutex_);
  }
  ~Condition() {
    let_go();
    pthread_mutex_destroy(&mutex_);
  }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

  // As a hook does it.
  bool begin(Sleeper& sleeper, uint32_t stack = 0) {
    abandon_condition(sleeper.node);
    sleeper.node.mutex = &mutex_;
    sleeper.node.stack = stack;
    return enter_condition(sleeper.node, address());
  }
  // True if it reached anybody.
  bool signal(uint64_t now) { return mark_signalled(address(), false, now); }
  bool broadcast(uint64_t now) { return mark_signalled(address(), true, now); }
  [[nodiscard]] const void* mutex() const { return &mutex_; }
  [[nodiscard]] const void* address() const { return address_; }
  [[nodiscard]] bool has_waiters() const { return is_waited_for(address()); }

  void let_go() {
    if (held_) pthread_mutex_unlock(&mutex_);
    held_ = false;
  }

 private:
  const void* address_;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  bool held_ = true;
};

// For waits that end by a wake-up, and by the deadline: since when they waited for the mutex.
uint64_t wake(Sleeper& sleeper) { return leave_condition(sleeper.node, false); }
uint64_t time_out(Sleeper& sleeper) { return leave_condition(sleeper.node, true); }

std::optional<Charge> release(const void* lock, uint64_t now) {
  WatchedLock* entry = is_watched(lock) ? due_at(lock, now, nullptr) : nullptr;
  Charge charge;
  if (entry == nullptr || !charge_release(*entry, lock, now, 0, 1, &charge)) return std::nullopt;
  return charge;
}

TEST_CASE("conditions: a signal marks the oldest waiter that has none yet") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  std::array<Sleeper, 3> sleepers;
  for (size_t i = 0; i < 3; ++i) REQUIRE(condition.begin(sleepers[i]));
  CHECK(condition.signal(t + 10));
  CHECK(condition.signal(t + 20));
  CHECK(wake(sleepers[0]) == t + 10);
  CHECK(wake(sleepers[1]) == t + 20);
  CHECK(time_out(sleepers[2]) == 0);
  CHECK_FALSE(condition.has_waiters());
}

TEST_CASE("conditions: a broadcast marks all that wait, and none that come later") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  std::array<Sleeper, 4> sleepers;
  for (size_t i = 0; i < 3; ++i) REQUIRE(condition.begin(sleepers[i]));
  condition.signal(t + 5);
  CHECK(condition.broadcast(t + 10));
  CHECK_FALSE(condition.broadcast(t + 11));
  REQUIRE(condition.begin(sleepers[3]));
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
  CHECK_FALSE(condition.signal(t));
  REQUIRE(condition.begin(sleeper));
  CHECK(wake(sleeper) == 0);  // spurious
}

TEST_CASE("conditions: two that share a slot do not get each other's signals") {
  const Table table;
  const uint64_t t = table.begin();
  uint64_t n = 2;
  while (condition_slot_of(address_number(n)) != condition_slot_of(address_number(1))) ++n;
  Condition one;
  Condition other(address_number(n));
  std::array<Sleeper, 2> sleepers;
  REQUIRE(one.begin(sleepers[0]));
  REQUIRE(other.begin(sleepers[1]));
  other.broadcast(t + 10);
  CHECK(wake(sleepers[0]) == 0);
  CHECK(one.has_waiters());
  CHECK(wake(sleepers[1]) == t + 10);
  CHECK_FALSE(one.has_waiters());
}

TEST_CASE("conditions: who comes back unmarked has got another's signal") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  std::array<Sleeper, 2> sleepers;
  for (Sleeper& sleeper : sleepers) REQUIRE(condition.begin(sleeper));
  condition.signal(t + 10);
  CHECK(sleepers[0].waits_for_lock() == condition.mutex());
  CHECK(wake(sleepers[1]) == t + 10);
  CHECK(sleepers[0].waits_for_lock() == nullptr);  // it still waits for the condition
  condition.signal(t + 30);
  CHECK(wake(sleepers[0]) == t + 30);
}

TEST_CASE("conditions: who timed out although it was marked hands the signal on") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  std::array<Sleeper, 3> sleepers;
  for (Sleeper& sleeper : sleepers) REQUIRE(condition.begin(sleeper));
  condition.signal(t + 10);
  CHECK(time_out(sleepers[0]) == 0);
  CHECK(sleepers[0].waits_for_lock() == nullptr);
  CHECK(sleepers[1].waits_for_lock() == condition.mutex());
  CHECK(wake(sleepers[1]) == t + 10);
  condition.signal(t + 20);
  CHECK(time_out(sleepers[2]) == 0);  // nobody is left to take it
  CHECK_FALSE(condition.has_waiters());
}

TEST_CASE("conditions: from the signal on the waiter waits for the mutex, at its holder's cost") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  Sleeper sleeper;
  REQUIRE(condition.begin(sleeper, 8));
  CHECK_FALSE(release(condition.mutex(), t + 10));
  condition.signal(t + 100);
  const auto charge = release(condition.mutex(), t + 130);
  REQUIRE(charge);
  CHECK(charge->ticks == 30);
  CHECK(charge->kind == WaitKind::kCondRelock);
  CHECK(charge->victim == 8);
  CHECK(wake(sleeper) == t + 100);
  CHECK_FALSE(release(condition.mutex(), t + 140));
}

TEST_CASE("conditions: a signal while the mutex is free makes nobody wait for it") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  Sleeper sleeper;
  REQUIRE(condition.begin(sleeper));
  condition.let_go();
  condition.signal(t + 10);
  CHECK(sleeper.waits_for_lock() == nullptr);
  CHECK(wake(sleeper) == 0);
}

TEST_CASE("conditions: with the mutex profile off nobody is known to wait for the mutex") {
  const Table table(false);
  const uint64_t t = table.begin();
  Condition condition;
  Sleeper sleeper;
  REQUIRE(condition.begin(sleeper));
  condition.signal(t + 10);
  CHECK(sleeper.waits_for_lock() == nullptr);
  CHECK(wake(sleeper) == t + 10);
}

TEST_CASE("conditions: a cancelled wait is taken out by the thread's next one") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  Sleeper sleeper;
  REQUIRE(condition.begin(sleeper));
  condition.signal(t + 10);
  CHECK(sleeper.waits_for_lock() == condition.mutex());
  REQUIRE(condition.begin(sleeper));
  CHECK(sleeper.waits_for_lock() == nullptr);
  CHECK(wake(sleeper) == 0);
  abandon_condition(sleeper.node);  // nothing to do
  CHECK(leave_condition(sleeper.node, false) == 0);
  CHECK_FALSE(condition.has_waiters());
}

uint64_t lost(format::Lost reason) { return header->lost[static_cast<size_t>(reason)].load(); }

TEST_CASE("conditions: a thread that ends in a wait takes its node along") {
  const test::Recording recording;
  const Table table;
  Condition condition;
  std::thread([&] {
    ThreadBlock* block = own_block();
    block->condition_wait.mutex = static_cast<const pthread_mutex_t*>(condition.mutex());
    enter_condition(block->condition_wait, condition.address());
    condition.signal(table.begin() + 10);
  }).join();
  CHECK_FALSE(condition.has_waiters());
  CHECK_FALSE(release(condition.mutex(), table.begin() + 20));
}

TEST_CASE("conditions: in a forked child nobody waits, and new waits work") {
  const Table table;
  const uint64_t t = table.begin();
  Condition condition;
  std::array<Sleeper, 2> parents;
  for (Sleeper& sleeper : parents) REQUIRE(condition.begin(sleeper));
  condition_table_forget();
  CHECK_FALSE(condition.has_waiters());
  Sleeper sleeper;
  REQUIRE(condition.begin(sleeper));
  condition.broadcast(t + 20);
  CHECK(wake(sleeper) == t + 20);
  CHECK_FALSE(condition.has_waiters());
}

TEST_CASE("conditions: more waiters than a byte can count are all there") {
  const Table table;
  Condition condition;
  std::vector<Sleeper> sleepers(300);
  for (Sleeper& sleeper : sleepers) REQUIRE(condition.begin(sleeper));
  condition.broadcast(table.begin() + 10);
  for (Sleeper& sleeper : sleepers) {
    CHECK(condition.has_waiters());
    CHECK(wake(sleeper) == table.begin() + 10);
  }
  CHECK_FALSE(condition.has_waiters());
}

TEST_CASE("conditions: eight threads that wait, signal and broadcast leave nothing behind") {
  const test::Recording recording;
  const Table table;
  Condition condition;
  std::array<Sleeper, 8> sleepers;
  std::atomic<uint64_t> clock{table.begin()};
  std::atomic<int> wrong{0};
  test::in_threads(8, [&](int thread) {
    Sleeper& sleeper = sleepers[static_cast<size_t>(thread)];
    for (int i = 0; i < 2000; ++i) {
      const bool waits = condition.begin(sleeper);
      if ((i + thread) % 3 == 0)
        condition.broadcast(clock.fetch_add(1));
      else
        condition.signal(clock.fetch_add(1));
      if (!waits || i % 5 == 0) continue;  // as if cancelled
      if (leave_condition(sleeper.node, i % 4 == 0) >= clock) ++wrong;
    }
    abandon_condition(sleeper.node);
  });
  CHECK(wrong == 0);
  if (lost(format::Lost::kWaitContended) == 0) {
    CHECK_FALSE(condition.has_waiters());
    for (const Sleeper& sleeper : sleepers) CHECK(sleeper.waits_for_lock() == nullptr);
  }
}

}  // namespace
}  // namespace mprof::preload

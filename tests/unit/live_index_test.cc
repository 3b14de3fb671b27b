// SPDX-License-Identifier: Apache-2.0
#include "preload/live_index.h"

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <vector>

#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::LiveRow;

const void* block_at(uintptr_t address) { return reinterpret_cast<const void*>(address); }

// What the sampled path does with an allocation. The fields are made of the address, so that a
// mixture of two rows is noticed.
bool add(LiveFreeList& own, uintptr_t address) {
  const uint32_t row = live_index.take_row(own);
  if (row == kNoRow) return false;
  LiveRow* live = tables.live.at(row);
  live->size_bytes = address * 3;
  live->weight = address * 5;
  live->ticks = address * 7;
  live->bucket = static_cast<uint32_t>(address);
  return live_index.insert(row, block_at(address));
}

enum class Taken { kNo, kWhole, kMixed };

// And with a free.
Taken take(LiveFreeList& own, uintptr_t address) {
  LiveRow copy{};
  uint32_t row = kNoRow;
  if (live_index.remove(block_at(address), &copy, &row) != LiveIndex::Removal::kRemoved)
    return Taken::kNo;
  live_index.give_row(own, row);
  const bool whole = copy.size_bytes == address * 3 && copy.weight == address * 5 &&
                     copy.ticks == address * 7 && copy.bucket == static_cast<uint32_t>(address);
  return whole ? Taken::kWhole : Taken::kMixed;
}

uint64_t live_rows() {
  const test::ReaderView view;
  uint64_t count = 0;
  for (uint32_t row = 0; row < view.used(format::TableId::kLive); ++row)
    count += view.row<LiveRow>(format::TableId::kLive, row).address.load() != 0 ? 1 : 0;
  return count;
}

TEST_CASE("live index: a block is found once, with what was stored for it") {
  const test::Recording recording;
  LiveFreeList own{};
  REQUIRE(add(own, 0x1000));
  CHECK(live_rows() == 1);
  CHECK(take(own, 0x2000) == Taken::kNo);
  CHECK(take(own, 0x1000) == Taken::kWhole);
  CHECK(take(own, 0x1000) == Taken::kNo);
  CHECK(live_rows() == 0);
}

TEST_CASE("live index: blocks that share a chain are told apart, in whatever order they go") {
  const test::Recording recording({}, 1);  // one chain for all
  LiveFreeList own{};
  for (uintptr_t a = 1; a <= 50; ++a) REQUIRE(add(own, a * 16));
  for (uintptr_t a = 1; a <= 50; ++a) REQUIRE(take(own, (a * 26 % 51) * 16) == Taken::kWhole);
  CHECK(live_rows() == 0);
}

TEST_CASE("live index: an address that is used again and again needs one row") {
  const test::Recording recording;
  LiveFreeList own{};
  for (int i = 0; i < 10000; ++i) {
    REQUIRE(add(own, 0x7000));
    REQUIRE(take(own, 0x7000) == Taken::kWhole);
  }
  CHECK(tables.live.used() == 1);
}

// Blocks on their way from the threads that allocate to those that free.
class Belt {
 public:
  void put(uintptr_t address) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [this] { return blocks_.size() < 500; });
    blocks_.push_back(address);
    some_.notify_one();
  }
  uintptr_t get() {  // 0: nothing comes any more
    std::unique_lock lock(mutex_);
    some_.wait(lock, [this] { return !blocks_.empty() || closed_; });
    if (blocks_.empty()) return 0;
    const uintptr_t address = blocks_.front();
    blocks_.pop_front();
    room_.notify_one();
    return address;
  }
  void close() {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    some_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable room_;
  std::condition_variable some_;
  std::deque<uintptr_t> blocks_;
  bool closed_ = false;
};

TEST_CASE("live index: rows freed by the consumer come back to the producer") {
  const test::Recording recording;
  constexpr uintptr_t kBlocks = 100000;
  Belt belt;
  std::atomic<int> wrong{0};
  test::in_threads(2, [&](int thread) {
    LiveFreeList own{};
    if (thread == 0) {
      for (uintptr_t i = 1; i <= kBlocks; ++i) {
        if (!add(own, i * 16)) ++wrong;
        belt.put(i * 16);
      }
      belt.close();
    } else {
      while (const uintptr_t address = belt.get())
        if (take(own, address) != Taken::kWhole) ++wrong;
    }
    live_index.give_all(own);
  });
  CHECK(wrong == 0);
  CHECK(live_rows() == 0);
  // 500 blocks on the belt, two lists of up to 128 rows, and batches on their way.
  CHECK(tables.live.used() < 1000);
}

// Addresses come from a pool as an allocator's do: given back by one thread, they are handed out
// to any other at once.
class Addresses {
 public:
  explicit Addresses(uintptr_t count) {
    for (uintptr_t i = 1; i <= count; ++i) free_.push_back(i * 48);
  }
  uintptr_t take() {
    const std::scoped_lock lock(mutex_);
    const uintptr_t address = free_.back();
    free_.pop_back();
    return address;
  }
  void give(uintptr_t address) {
    const std::scoped_lock lock(mutex_);
    free_.push_back(address);
  }

 private:
  std::mutex mutex_;
  std::vector<uintptr_t> free_;
};

TEST_CASE("live index: eight threads pass blocks around and reuse addresses; none is lost") {
  const test::Recording recording({}, 64);  // long chains, much contention
  Addresses addresses(600);
  std::array<std::mutex, 8> locks;
  std::array<std::vector<uintptr_t>, 8> inbox;
  std::atomic<int> wrong{0};
  test::in_threads(8, [&](int thread) {
    LiveFreeList own{};
    for (int i = 0; i < 8000; ++i) {
      const uintptr_t address = addresses.take();
      if (!add(own, address)) ++wrong;
      const int to = (thread * 5 + i) % 8;
      uintptr_t got = address;
      {
        const std::scoped_lock lock(locks[to]);
        inbox[to].push_back(address);
        std::swap(got, inbox[to].front());
        std::swap(inbox[to].front(), inbox[to].back());
        got = inbox[to].back();
        inbox[to].pop_back();
      }
      // Out of the index first, then back to the pool: the order of a real free.
      if (take(own, got) != Taken::kWhole) ++wrong;
      addresses.give(got);
    }
    live_index.give_all(own);
  });
  CHECK(wrong == 0);
  CHECK(live_rows() == 0);
  // Each thread holds at most two batches and a block.
  CHECK(tables.live.used() <= 8 * (2 * 64 + 64 + 1));
}

TEST_CASE("live index: all rows are free again in the end, each once") {
  const test::Recording recording;
  test::in_threads(8, [](int thread) {
    LiveFreeList own{};
    for (int round = 0; round < 20; ++round) {
      for (uintptr_t i = 1; i <= 100; ++i)
        (void)add(own, (static_cast<uintptr_t>(thread) << 20) + i * 16);
      for (uintptr_t i = 1; i <= 100; ++i)
        (void)take(own, (static_cast<uintptr_t>(thread) << 20) + i * 16);
    }
    live_index.give_all(own);
  });
  const uint64_t made = tables.live.used();
  LiveFreeList own{};
  std::set<uint32_t> rows;
  for (uint64_t i = 0; i < made; ++i) rows.insert(live_index.take_row(own));
  CHECK(rows.size() == made);
  CHECK(*rows.rbegin() == made - 1);
  CHECK(tables.live.used() == made);
}

TEST_CASE("live index: with the table full a row comes only from blocks that were freed") {
  const test::Recording recording;
  LiveFreeList own{};
  REQUIRE(add(own, 0x1000));
  freeze_tables();
  CHECK_FALSE(add(own, 0x2000));
  REQUIRE(take(own, 0x1000) == Taken::kWhole);
  CHECK(add(own, 0x2000));
}

TEST_CASE("live index: a row with an address is whole for a reader that looks twice") {
  const test::Recording recording;
  std::atomic<bool> stop{false};
  int looked = 0;
  int mixed = 0;
  std::thread writer([&] {
    LiveFreeList own{};
    for (uintptr_t i = 1; !stop; ++i) {
      (void)add(own, i * 16);
      (void)take(own, i * 16);
    }
  });
  const test::ReaderView view;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (looked < 20000 && std::chrono::steady_clock::now() < deadline) {
    const auto& row = view.row<LiveRow>(format::TableId::kLive, 0);
    const uint64_t address = row.address.load(std::memory_order_acquire);
    const uint64_t size = std::atomic_ref(const_cast<uint64_t&>(row.size_bytes)).load();
    std::atomic_thread_fence(std::memory_order_acquire);
    if (address == 0 || row.address.load(std::memory_order_relaxed) != address) continue;
    ++looked;
    mixed += size != address * 3 ? 1 : 0;
  }
  stop = true;
  writer.join();
  CHECK(mixed == 0);
  CHECK(looked == 20000);
}

}  // namespace
}  // namespace mprof::preload

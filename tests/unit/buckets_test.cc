// SPDX-License-Identifier: Apache-2.0
#include "preload/buckets.h"

#include <sys/ptrace.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "format/weights.h"
#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using format::BucketKind;
using format::BucketRow;
using format::HeapSample;
using format::HeapTotals;
using format::kNoRow;
using format::kWeightOne;
using test::ReaderView;

HeapSample exactly(uint64_t size) { return {size, kWeightOne}; }

bool same(const HeapTotals& a, const HeapTotals& b) { return memcmp(&a, &b, sizeof a) == 0; }

HeapTotals add(HeapTotals totals, bool is_free, uint64_t size) {
  (is_free ? totals.free_objects : totals.alloc_objects) += kWeightOne;
  (is_free ? totals.free_bytes : totals.alloc_bytes) += size;
  (is_free ? totals.free_samples : totals.alloc_samples) += 1;
  return totals;
}

int64_t live_bytes(const HeapTotals& totals) {
  return static_cast<int64_t>(totals.alloc_bytes - totals.free_bytes);
}

// The holder of a bucket's lock may have lost its processor for long; the library then counts the
// sample as lost, a test that compares sums tries again.
void surely_allocate(uint32_t bucket, const HeapSample& sample, uint64_t epoch) {
  while (!add_allocation(bucket, sample, epoch)) sched_yield();
}
void surely_free(uint32_t bucket, const HeapSample& sample, uint64_t epoch) {
  while (!add_free(bucket, sample, epoch)) sched_yield();
}

// ---- The reader of format/bucket.h -------------------------------------------------------------

struct BucketCopy {
  HeapTotals totals;
  HeapTotals at_cut;
  HeapTotals at_peak;
  uint64_t cut_epoch;
  uint64_t peak_epoch;
};

// One attempt to copy a bucket that a thread may be changing; nothing if it did.
std::optional<BucketCopy> try_copy(const BucketRow& row) {
  const uint64_t saved = row.saved_version.load(std::memory_order_acquire);  // (W)
  const uint32_t version = row.version.load(std::memory_order_acquire);      // (V)
  const BucketCopy copy{row.totals[version & 1], row.at_cut, row.at_peak,
                        row.cut_epoch.load(std::memory_order_relaxed),
                        row.peak_epoch.load(std::memory_order_relaxed)};
  std::atomic_thread_fence(std::memory_order_acquire);
  const bool unchanged = saved % 2 == 0 &&
                         row.saved_version.load(std::memory_order_relaxed) == saved &&
                         row.version.load(std::memory_order_relaxed) == version;
  return unchanged ? std::optional(copy) : std::nullopt;
}

BucketCopy copy_of(const BucketRow& row) {
  for (;;)
    if (const auto copy = try_copy(row)) return *copy;
}

HeapTotals totals_of(const ReaderView& view, uint32_t bucket) {
  return copy_of(view.bucket(bucket)).totals;
}

// A moment of the running program.
class Cut {
 public:
  explicit Cut(const ReaderView& view) : view_(view) {
    epoch_ = view.header().control.cut_epoch.fetch_add(1) + 1;
    // Where a sandbox forbids it: store buffers drain by themselves, within microseconds.
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0) usleep(2000);
    for (uint32_t i = 0; i < view.used(format::TableId::kThreads); ++i) wait_for_thread(i);
  }
  [[nodiscard]] uint64_t epoch() const { return epoch_; }
  [[nodiscard]] HeapTotals totals(uint32_t bucket) const {
    const BucketCopy copy = copy_of(view_.bucket(bucket));
    return copy.cut_epoch == epoch_ ? copy.at_cut : copy.totals;
  }

 private:
  void wait_for_thread(uint32_t i) const {
    const auto& inside = view_.row<format::ThreadRow>(format::TableId::kThreads, i).inside;
    const uint64_t seen = inside.load(std::memory_order_acquire);
    while (seen % 2 == 1 && inside.load(std::memory_order_acquire) == seen) sched_yield();
  }
  const ReaderView& view_;
  uint64_t epoch_;
};

// The heap at its peak, for a target that stands still.
HeapTotals at_peak(const ReaderView& view, uint32_t bucket) {
  const BucketRow& row = view.bucket(bucket);
  const uint64_t epoch = view.header().peak_epoch.load();
  const bool is_now = epoch % 2 == 1;
  return is_now || row.peak_epoch.load() != epoch ? row.totals[row.version.load() & 1]
                                                  : row.at_peak;
}

uint32_t bucket_number(uint64_t pc, test::StackIndexMemory& memory) {
  return find_bucket(BucketKind::kHeap, test::stack_with_pc(memory.index, pc), kNoRow, 0);
}

// `count` buckets of different stacks, numbered from 0.
void make_buckets(uint32_t count) {
  test::StackIndexMemory memory;
  for (uint32_t i = 0; i < count; ++i) REQUIRE(bucket_number(0x1000 + i, memory) == i);
}

// ---- One thread --------------------------------------------------------------------------------

TEST_CASE("buckets: one stack has one bucket for each kind and label set") {
  const test::Recording recording;
  test::StackIndexMemory memory;
  const uint32_t stack = test::stack_with_pc(memory.index, 0x1000);
  const uint32_t heap = find_bucket(BucketKind::kHeap, stack, kNoRow, 0);
  CHECK(find_bucket(BucketKind::kHeap, stack, kNoRow, 0) == heap);
  CHECK(find_bucket(BucketKind::kMmap, stack, kNoRow, 0) != heap);
  CHECK(find_bucket(BucketKind::kHeap, stack, 0, 0) != heap);
  CHECK(bucket_number(0x2000, memory) != heap);
  CHECK(tables.buckets.used() == 4);
  const ReaderView view;
  CHECK(view.bucket(heap).stack == stack);
  CHECK(view.bucket(heap).labels == kNoRow);
}

TEST_CASE("buckets: threads use a few buckets of the same stack, each always the same one") {
  const test::Recording recording;
  test::StackIndexMemory memory;
  const uint32_t stack = test::stack_with_pc(memory.index, 0x1000);
  std::set<uint32_t> rows;
  for (uint32_t thread = 0; thread < 100; ++thread) {
    const uint32_t row = find_bucket(BucketKind::kHeap, stack, kNoRow, thread);
    CHECK(find_bucket(BucketKind::kHeap, stack, kNoRow, thread) == row);
    rows.insert(row);
  }
  CHECK(rows.size() == tables.buckets.used());
  CHECK(rows.size() <= 8);
  for (const uint32_t row : rows) CHECK(tables.buckets.at(row)->stack == stack);
}

TEST_CASE("buckets: samples of weight one add up to the exact sums, without variance") {
  const test::Recording recording;
  make_buckets(1);
  for (uint64_t size : {0, 1, 100, 4096}) REQUIRE(add_allocation(0, exactly(size), 0));
  REQUIRE(add_free(0, exactly(100), 0));
  const ReaderView view;
  const HeapTotals totals = totals_of(view, 0);
  CHECK(totals.alloc_objects == 4 * kWeightOne);
  CHECK(totals.alloc_bytes == 4197);
  CHECK(totals.alloc_samples == 4);
  CHECK(totals.free_objects == kWeightOne);
  CHECK(totals.free_bytes == 100);
  CHECK(totals.free_samples == 1);
  CHECK(totals.alloc_bytes_variance == 0);
  CHECK(totals.free_objects_variance == 0);
  CHECK(view.header().live_bytes.load() == 4097);
  CHECK(view.header().peak_bytes.load() == 4197);
}

TEST_CASE("buckets: a weighted sample adds its weight, its bytes and both variances") {
  const test::Recording recording;
  make_buckets(1);
  const HeapSample sample{1000, 5 * kWeightOne / 2};
  REQUIRE(add_allocation(0, sample, 0));
  REQUIRE(add_allocation(0, sample, 0));
  REQUIRE(add_free(0, sample, 0));
  const HeapTotals totals = totals_of(ReaderView(), 0);
  CHECK(totals.alloc_objects == 5 * kWeightOne);
  CHECK(totals.alloc_bytes == 5000);
  CHECK(totals.alloc_objects_variance == 2 * 2.5 * 1.5);
  CHECK(totals.alloc_bytes_variance == 2 * 1e6 * 2.5 * 1.5);
  CHECK(totals.free_bytes == 2500);
  CHECK(totals.free_objects_variance == 2.5 * 1.5);
}

TEST_CASE("buckets: a table that is full gives no bucket; whoever needed it counts the loss") {
  const test::Recording recording;
  make_buckets(1);
  freeze_tables();
  CHECK(find_bucket(BucketKind::kMmap, format::kStackRoots, kNoRow, 0) == kNoRow);
  for (const auto& lost : header->lost) CHECK(lost.load() == 0);
}

TEST_CASE("buckets: a row that stays locked is given up, and its totals stay as they were") {
  const test::Recording recording;
  make_buckets(1);
  REQUIRE(add_allocation(0, exactly(10), 0));
  const int64_t live = header->live_bytes.load();
  tables.buckets.at(0)->lock.store(1);
  CHECK_FALSE(add_allocation(0, exactly(20), 0));
  CHECK_FALSE(add_free(0, exactly(10), 0));
  tables.buckets.at(0)->lock.store(0);
  CHECK(totals_of(ReaderView(), 0).alloc_bytes == 10);
  CHECK(totals_of(ReaderView(), 0).free_bytes == 0);
  CHECK(header->live_bytes.load() == live);
}

// ---- The peak ----------------------------------------------------------------------------------

struct Operation {
  uint32_t bucket;
  bool is_free;
  uint64_t size;
};

// Allocations and frees of blocks that live, with phases of growth and of decline.
std::vector<Operation> random_life(uint32_t seed, int count, uint32_t buckets) {
  std::mt19937 random(seed);
  std::vector<Operation> operations;
  std::vector<Operation> live;
  for (int i = 0; i < count; ++i) {
    const bool shrinking = (i / 40) % 2 == 1;
    if (!live.empty() && random() % 10 < (shrinking ? 6u : 3u)) {
      std::swap(live[random() % live.size()], live.back());
      operations.push_back({live.back().bucket, true, live.back().size});
      live.pop_back();
    } else {
      live.push_back({static_cast<uint32_t>(random() % buckets), false, 1 + random() % 1000});
      operations.push_back(live.back());
    }
  }
  return operations;
}

bool perform(const Operation& op) {
  const uint64_t epoch = operation_epoch();
  return op.is_free ? add_free(op.bucket, exactly(op.size), epoch)
                    : add_allocation(op.bucket, exactly(op.size), epoch);
}

// All buckets after each operation, and at the highest moment until then.
class Oracle {
 public:
  explicit Oracle(uint32_t buckets) : now(buckets), peak(buckets) {}
  void perform(const Operation& op) {
    now[op.bucket] = add(now[op.bucket], op.is_free, op.size);
    live_ += op.is_free ? -static_cast<int64_t>(op.size) : static_cast<int64_t>(op.size);
    if (live_ > highest_) {
      highest_ = live_;
      peak = now;
    }
  }
  [[nodiscard]] int64_t highest() const { return highest_; }
  std::vector<HeapTotals> now;
  std::vector<HeapTotals> peak;

 private:
  int64_t live_ = 0;
  int64_t highest_ = 0;
};

TEST_CASE("buckets: the heap at its peak is what a copy of everything at each new high gives") {
  constexpr uint32_t kBuckets = 7;
  for (uint32_t seed = 1; seed <= 8; ++seed) {
    const test::Recording recording;
    make_buckets(kBuckets);
    const ReaderView view;
    Oracle oracle(kBuckets);
    for (const Operation& op : random_life(seed, 300, kBuckets)) {
      REQUIRE(perform(op));
      oracle.perform(op);
      for (uint32_t i = 0; i < kBuckets; ++i) REQUIRE(same(at_peak(view, i), oracle.peak[i]));
    }
    CHECK(view.header().peak_bytes.load() == oracle.highest());
  }
}

TEST_CASE("buckets: one that is made after the peak had nothing at the peak") {
  const test::Recording recording;
  make_buckets(2);
  REQUIRE(add_allocation(0, exactly(1000), 0));
  REQUIRE(add_free(0, exactly(1000), 0));
  REQUIRE(add_allocation(1, exactly(10), 0));
  const ReaderView view;
  CHECK(live_bytes(at_peak(view, 0)) == 1000);
  CHECK(live_bytes(at_peak(view, 1)) == 0);
}

// ---- Threads -----------------------------------------------------------------------------------

TEST_CASE("buckets: the sums of eight threads are exact") {
  constexpr uint32_t kBuckets = 5;
  constexpr uint64_t kRounds = 20000;
  const test::Recording recording;
  make_buckets(kBuckets);
  test::in_threads(8, [&](int thread) {
    for (uint64_t i = 0; i < kRounds; ++i) {
      const auto bucket = static_cast<uint32_t>(i % kBuckets);
      const uint64_t size = i + static_cast<uint64_t>(thread);
      surely_allocate(bucket, exactly(size), 0);
      if (i % 2 == 0) surely_free(bucket, exactly(size), 0);
    }
  });
  std::vector<HeapTotals> truth(kBuckets);
  for (uint64_t thread = 0; thread < 8; ++thread)
    for (uint64_t i = 0; i < kRounds; ++i) {
      HeapTotals& totals = truth[i % kBuckets];
      totals = add(totals, false, i + thread);
      if (i % 2 == 0) totals = add(totals, true, i + thread);
    }
  const ReaderView view;
  int64_t live = 0;
  for (uint32_t i = 0; i < kBuckets; ++i) {
    CHECK(same(totals_of(view, i), truth[i]));
    live += live_bytes(truth[i]);
  }
  CHECK(view.header().live_bytes.load() == live);
  CHECK(view.header().peak_bytes.load() >= live);
}

TEST_CASE("buckets: eight threads that want the bucket of the same stack find one of its rows") {
  const test::Recording recording;
  test::StackIndexMemory memory;
  std::atomic<int> failed{0};
  test::in_threads(8, [&](int thread) {
    for (uint64_t i = 0; i < 200; ++i) {
      const uint32_t stack = test::stack_with_pc(memory.index, 0x1000 + i);
      const uint32_t bucket =
          find_bucket(BucketKind::kHeap, stack, kNoRow, static_cast<uint32_t>(thread));
      if (bucket == kNoRow)
        ++failed;
      else
        surely_allocate(bucket, exactly(i), 0);
    }
  });
  REQUIRE(failed == 0);
  // Shards and twins split the sums; a reader adds them up by stack.
  const ReaderView view;
  std::map<uint32_t, uint64_t> objects_of_stack;
  for (uint32_t i = 0; i < view.used(format::TableId::kBuckets); ++i)
    objects_of_stack[view.bucket(i).stack] += totals_of(view, i).alloc_objects;
  CHECK(objects_of_stack.size() == 200);
  for (const auto& [stack, objects] : objects_of_stack) CHECK(objects == 8 * kWeightOne);
}

TEST_CASE("buckets: a reader of running threads never sees half a sample") {
  const test::Recording recording;
  make_buckets(1);
  std::atomic<bool> stop{false};
  int torn = 0;
  std::array<std::thread, 3> writers;
  for (std::thread& writer : writers)
    writer = std::thread([&] {
      while (!stop) {
        surely_allocate(0, exactly(3), operation_epoch());
        surely_free(0, exactly(3), operation_epoch());
      }
    });
  const ReaderView view;
  // Every allocation has 3 bytes: bytes, objects and samples of any whole state agree.
  const auto is_whole = [](const HeapTotals& t) {
    return t.alloc_bytes == 3 * t.alloc_samples && t.free_bytes == 3 * t.free_samples &&
           t.alloc_objects == kWeightOne * t.alloc_samples &&
           t.free_objects == kWeightOne * t.free_samples && t.free_samples <= t.alloc_samples;
  };
  while (totals_of(view, 0).alloc_samples < 1000) sched_yield();
  for (int copied = 0; copied < 100000;) {
    if (copied % 16 == 0) view.header().control.cut_epoch.fetch_add(1);
    const auto copy = try_copy(view.bucket(0));
    if (!copy) continue;
    ++copied;
    if (!is_whole(copy->totals) || !is_whole(copy->at_cut) || !is_whole(copy->at_peak)) ++torn;
  }
  stop = true;
  for (std::thread& writer : writers) writer.join();
  CHECK(torn == 0);
}

// ---- The cut -----------------------------------------------------------------------------------

struct Logged {
  uint64_t epoch;
  Operation operation;
};

// A thread at work on a sample, in the order of the sampled path.
void perform_inside(const Operation& op, std::vector<Logged>& log) {
  const ScopedInside inside(own_block());
  const uint64_t epoch = operation_epoch();
  if (op.is_free)
    surely_free(op.bucket, exactly(op.size), epoch);
  else
    surely_allocate(op.bucket, exactly(op.size), epoch);
  log.push_back({epoch, op});
}

// Blocks that one thread allocates and another frees.
class Heap {
 public:
  void put(const Operation& block) {
    const std::scoped_lock lock(mutex_);
    blocks_.push_back(block);
  }
  std::optional<Operation> take(size_t at_least) {
    const std::scoped_lock lock(mutex_);
    if (blocks_.size() <= at_least) return std::nullopt;
    Operation block = blocks_[blocks_.size() / 2];
    blocks_[blocks_.size() / 2] = blocks_.back();
    blocks_.pop_back();
    block.is_free = true;
    return block;
  }

 private:
  std::mutex mutex_;
  std::vector<Operation> blocks_;
};

TEST_CASE("buckets: a cut holds exactly the operations that began before it") {
  constexpr uint32_t kBuckets = 6;
  constexpr int kCuts = 15;
  const test::Recording recording;
  make_buckets(kBuckets);
  const ReaderView view;
  Heap heap;
  std::atomic<bool> stop{false};
  std::array<std::vector<Logged>, 8> logs;
  std::vector<std::thread> threads;
  for (uint32_t thread = 0; thread < 8; ++thread)
    threads.emplace_back([&, thread] {
      for (uint32_t i = 0; !stop; ++i) {
        const Operation block{(i + thread) % kBuckets, false, 1 + i % 100};
        perform_inside(block, logs[thread]);  // the block goes out only after it was counted
        heap.put(block);
        if (const auto old = heap.take(50)) perform_inside(*old, logs[thread]);
        if (i % 32 == 0) usleep(20);  // leaves the reader a processor
      }
    });
  std::map<uint64_t, std::vector<HeapTotals>> cuts;
  for (int i = 0; i < kCuts; ++i) {
    const Cut cut(view);
    for (uint32_t b = 0; b < kBuckets; ++b) cuts[cut.epoch()].push_back(cut.totals(b));
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  std::vector<Logged> log;
  for (const auto& own : logs) log.insert(log.end(), own.begin(), own.end());
  std::sort(log.begin(), log.end(),
            [](const Logged& a, const Logged& b) { return a.epoch < b.epoch; });
  std::vector<HeapTotals> truth(kBuckets);
  auto next = log.begin();
  for (const auto& [epoch, totals] : cuts) {
    for (; next != log.end() && next->epoch < epoch; ++next) {
      const Operation& op = next->operation;
      truth[op.bucket] = add(truth[op.bucket], op.is_free, op.size);
    }
    for (uint32_t b = 0; b < kBuckets; ++b) {
      INFO("cut " << epoch << ", bucket " << b);
      CHECK(same(totals[b], truth[b]));
      CHECK(totals[b].free_samples <= totals[b].alloc_samples);
      CHECK(live_bytes(totals[b]) >= 0);
    }
  }
  CHECK(next != log.begin());
}

// ---- Death at any instruction ------------------------------------------------------------------

// Runs `work` in a child, one instruction at a time, and looks at the dump after each: what a
// reader would find had the child been killed there.
template <class Work, class Look>
void at_every_instruction(Work&& work, Look&& look) {
  const pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    work();
    raise(SIGSTOP);
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  long steps = 0;
  while (ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) == 0 &&
         waitpid(child, &status, 0) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP) {
    ++steps;
    look();
  }
  const bool finished = WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP;
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  CHECK(finished);
  CHECK(steps > 500);
}

// A short life with three peaks, in which cuts are asked for now and then.
std::vector<Operation> short_life() {
  return {{0, false, 100}, {1, false, 50}, {0, true, 100},  {1, false, 200}, {0, false, 300},
          {1, true, 50},   {0, true, 300}, {1, false, 700}, {1, true, 200}};
}

void live_shortly() {
  int done = 0;
  for (const Operation& op : short_life()) {
    if (++done % 3 == 0) header->control.cut_epoch.fetch_add(1);
    perform(op);
  }
}

// The states that may be found, from the first to the last.
struct History {
  std::vector<std::vector<HeapTotals>> now;
  std::vector<std::vector<HeapTotals>> peak;

  History() {
    Oracle oracle(2);
    now.push_back(oracle.now);
    peak.push_back(oracle.peak);
    for (const Operation& op : short_life()) {
      oracle.perform(op);
      now.push_back(oracle.now);
      peak.push_back(oracle.peak);
    }
  }
};

// Which state of `states`, not older than `from`, the two buckets are in; -1 for none.
int state_in(const std::vector<std::vector<HeapTotals>>& states, int from, const HeapTotals& a,
             const HeapTotals& b) {
  for (size_t i = static_cast<size_t>(from); i < states.size(); ++i)
    if (same(states[i][0], a) && same(states[i][1], b)) return static_cast<int>(i);
  return -1;
}

TEST_CASE("buckets: killed at any instruction, the totals are those before or after a sample") {
  const test::Recording recording;
  make_buckets(2);
  const ReaderView view;
  const History history;
  int state = 0;
  int torn = 0;
  at_every_instruction(live_shortly, [&] {
    const auto totals = [&](uint32_t b) {
      const BucketRow& row = view.bucket(b);
      return row.totals[row.version.load() & 1];
    };
    const int found = state_in(history.now, state, totals(0), totals(1));
    if (found < 0 || found > state + 1)
      ++torn;
    else
      state = found;
  });
  CHECK(torn == 0);
  CHECK(state + 1 == static_cast<int>(history.now.size()));
}

TEST_CASE("buckets: killed at any instruction, the peak is one that there was, no mixture") {
  const test::Recording recording;
  make_buckets(2);
  const ReaderView view;
  const History history;
  int mixed = 0;
  std::set<int> found;
  at_every_instruction(live_shortly, [&] {
    const int state = state_in(history.peak, 0, at_peak(view, 0), at_peak(view, 1));
    found.insert(state);
    mixed += state < 0 ? 1 : 0;
  });
  CHECK(mixed == 0);
  CHECK(found.size() > 4);
}

TEST_CASE("buckets: killed with eight threads at work, no row holds half a sample") {
  constexpr uint32_t kBuckets = 4;
  for (int round = 0; round < 20; ++round) {
    const test::Recording recording;
    make_buckets(kBuckets);
    const ReaderView view;
    const pid_t child = fork();
    if (child == 0) {
      test::in_threads(8, [](int thread) {
        for (uint32_t i = 0;; ++i) {
          const uint32_t bucket = (i + static_cast<uint32_t>(thread)) % kBuckets;
          surely_allocate(bucket, exactly(3), operation_epoch());
          surely_free(bucket, exactly(3), operation_epoch());
        }
      });
    }
    while (totals_of(view, kBuckets - 1).alloc_samples < 100) usleep(100);
    usleep(static_cast<useconds_t>(round * 137 % 1000));
    kill(child, SIGKILL);
    REQUIRE(waitpid(child, nullptr, 0) == child);
    uint64_t open = 0;
    for (uint32_t b = 0; b < kBuckets; ++b) {
      const BucketRow& row = view.bucket(b);
      const HeapTotals totals = row.totals[row.version.load() & 1];
      CHECK(totals.alloc_bytes == 3 * totals.alloc_samples);
      CHECK(totals.free_bytes == 3 * totals.free_samples);
      REQUIRE(totals.free_samples <= totals.alloc_samples);
      open += totals.alloc_samples - totals.free_samples;
    }
    CHECK(open <= 8);
  }
}

}  // namespace
}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
// Both writers of snapshots, the one in the target and the one beside it, on a recording of this
// process.
#include "dumper/snapshot.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "dumper/cut.h"
#include "dumper/write_profiles.h"
#include "format/snapshot.h"
#include "preload/clock.h"
#include "preload/snapshot.h"
#include "preload/trace.h"
#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::dumper {
namespace {

using format::BucketKind;
using format::kNoRow;
using format::kWeightOne;
using test::Recording;

Dump open_live() { return Dump::open(preload::dump_path(), Access::kWrite); }

// The two writers; each gives the snapshot of that name.
using Writer = std::function<Dump(const std::string&)>;
Dump by_the_target(const std::string& name) {
  const int error = preload::write_snapshot(name.c_str());
  if (error != 0) throw DumpError(strerror(error));
  return Dump::open(snapshot_path(open_live(), name), Access::kRead);
}
Dump by_mprof(const std::string& name) {
  return Dump::open(take_snapshot(open_live(), name), Access::kRead);
}
const std::vector<std::pair<const char*, Writer>> kWriters = {{"target", by_the_target},
                                                              {"mprof", by_mprof}};

uint32_t bucket_of(test::StackIndexMemory& stacks, uint64_t pc) {
  return preload::find_bucket(BucketKind::kHeap, test::stack_with_pc(stacks.index, pc), kNoRow, 0);
}

// As the sampled path does it: seen by cuts, and of the epoch of its begin.
template <class Operation>
void operate(preload::ThreadBlock* thread, Operation&& operation) {
  const preload::ScopedInside inside(thread);
  const uint64_t epoch = preload::operation_epoch();
  while (!operation(epoch)) sched_yield();
}
void allocate(preload::ThreadBlock* thread, uint32_t bucket, uint64_t size) {
  operate(thread, [&](uint64_t epoch) {
    return preload::add_allocation(bucket, {size, kWeightOne}, epoch);
  });
}

TEST_CASE("snapshot: has the rows, the settings and the totals of the dump") {
  for (const auto& [who, write] : kWriters) {
    INFO(who);
    const Recording recording;
    test::StackIndexMemory stacks;
    preload::ThreadBlock* thread = preload::own_block();
    const uint32_t bucket = bucket_of(stacks, 0x1000);
    for (int i = 1; i <= 100; ++i) allocate(thread, bucket, 10);
    operate(thread, [&](uint64_t epoch) {
      return preload::add_free(bucket, {10, kWeightOne}, epoch);
    });
    const uint32_t count = preload::find_count(format::CountKind::kBlock, 3, kNoRow, 0);
    preload::add_count_only(count, {77, kWeightOne});
    preload::trace_write(thread, format::TraceKind::kYield, preload::ticks(), kNoRow);
    REQUIRE(preload::tables.trace_rings.used() == 1);
    Dump copy = write("first");
    // What comes after it is not in it.
    allocate(thread, bucket, 1000);
    allocate(thread, bucket_of(stacks, 0x2000), 1);
    CHECK(copy.life() == Life::kSnapshot);
    CHECK(copy.damage().empty());
    CHECK(copy.header().pid == static_cast<uint32_t>(getpid()));
    CHECK(copy.header().generation == preload::header->generation);
    CHECK(copy.header().snapshot_epoch == preload::header->control.cut_epoch);
    CHECK(copy.header().heap_rate_bytes == preload::header->heap_rate_bytes);
    CHECK(copy.rows(format::TableId::kProfbufs) == 0);
    CHECK(copy.rows(format::TableId::kTraceRings) == 0);
    CHECK(copy.rows(format::TableId::kTraceData) == 0);
    const Reading reading = read_whole(copy);
    CHECK(reading.heap.cut.mode == CutMode::kSnapshot);
    REQUIRE(reading.heap.buckets.size() == 1);
    CHECK(reading.heap.buckets[0].totals.alloc_bytes == 1000);
    CHECK(reading.heap.buckets[0].totals.free_bytes == 10);
    CHECK(reading.heap.buckets[0].peak.alloc_bytes - reading.heap.buckets[0].peak.free_bytes ==
          1000);
    const auto row = copy.count(count);
    REQUIRE(row);
    CHECK(row->totals.value == 77);
    CHECK(copy.stack(reading.heap.buckets[0].stack).frames.at(0).pc == 0x1000);
    struct stat status {};
    REQUIRE(stat(copy.path().c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
  }
}

TEST_CASE("snapshot: is one moment while threads go on, also when the dump grows") {
  for (const auto& [who, write] : kWriters) {
    INFO(who);
    const Recording recording;
    test::StackIndexMemory stacks;
    std::vector<uint32_t> pairs;
    for (uint64_t pc = 1; pc <= 20; ++pc) pairs.push_back(bucket_of(stacks, pc << 12));
    std::atomic<bool> done = false;
    // Each thread raises the first bucket of its pair, then the second one.
    std::vector<std::thread> threads;
    for (size_t i = 0; i < 3; ++i)
      threads.emplace_back([&, i] {
        preload::ThreadBlock* thread = preload::own_block();
        for (uint64_t n = 0; !done; ++n) {
          allocate(thread, pairs[2 * i], 1);
          allocate(thread, pairs[2 * i + 1], 1);
          if (n % 64 == 0 && n < 64 * 2000) bucket_of(stacks, (1000 + 3 * n + i) << 12);
        }
      });
    uint64_t last = 0;
    for (int n = 0; n < 10; ++n) {
      Dump copy = write("moment" + std::to_string(n));
      CHECK(copy.damage().empty());
      const Reading reading = read_whole(copy);
      uint64_t all = 0;
      for (size_t i = 0; i < 3; ++i) {
        const uint64_t first = reading.heap.buckets.at(2 * i).totals.alloc_bytes;
        const uint64_t second = reading.heap.buckets.at(2 * i + 1).totals.alloc_bytes;
        CHECK(first - second <= 1);
        all += first + second;
      }
      CHECK(all >= last);
      last = all;
    }
    done = true;
    for (std::thread& thread : threads) thread.join();
    CHECK(last > 0);
  }
}

TEST_CASE("snapshot: a name is checked, and nothing is overwritten or left behind") {
  const Recording recording;
  namespace fs = std::filesystem;
  const auto files = [&] {
    const fs::path folder = fs::path(recording.path()).parent_path();
    return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
  };
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "a b", "baseline"})
    CHECK(preload::write_snapshot(name) == EINVAL);
  CHECK(preload::write_snapshot(std::string(65, 'x').c_str()) == EINVAL);
  CHECK(preload::write_snapshot(nullptr) == EINVAL);
  CHECK(files() == 1);
  CHECK(preload::write_snapshot("Ab-1_.x") == 0);
  CHECK(fs::exists(recording.path() + ".Ab-1_.x.mprof"));
  CHECK(preload::write_snapshot("Ab-1_.x") == EEXIST);
  CHECK_THROWS_WITH(take_snapshot(open_live(), "Ab-1_.x"),
                    Catch::Contains("nothing is overwritten"));
  CHECK(files() == 2);
}

TEST_CASE("snapshot: without the dump's file the target says so") {
  const Recording recording;
  std::filesystem::remove(recording.path());
  CHECK(preload::write_snapshot("x") == ENOENT);
}

TEST_CASE("snapshot: of a dump that has ended is how it ended") {
  const Recording recording;
  test::StackIndexMemory stacks;
  preload::ThreadBlock* thread = preload::own_block();
  allocate(thread, bucket_of(stacks, 0x1000), 10);
  preload::header->end_realtime_ns = preload::header->realtime_start_ns + 5;
  preload::header->end_state.store(format::EndState::kClean);
  Dump copy = by_mprof("end");
  CHECK(copy.life() == Life::kEndedCleanly);
  CHECK(copy.end_realtime_ns() == preload::header->end_realtime_ns);
  CHECK(read_whole(copy).heap.buckets.at(0).totals.alloc_bytes == 10);
}

TEST_CASE("snapshot: a baseline replaces the one before, and profiles are less what it has") {
  const Recording recording;
  test::StackIndexMemory stacks;
  preload::ThreadBlock* thread = preload::own_block();
  const uint32_t bucket = bucket_of(stacks, 0x1000);
  Dump dump = open_live();
  CHECK_THROWS_WITH(open_baseline(dump), Catch::Contains("--reset"));
  (void)take_baseline(dump);
  allocate(thread, bucket, 500);
  (void)take_baseline(dump);
  allocate(thread, bucket, 30);
  allocate(thread, bucket_of(stacks, 0x2000), 4);
  Dump snapshot = open_baseline(dump);
  const Baseline baseline = read_baseline(snapshot);
  Symbolizer symbolizer{{}};
  const Profile profile = named_profile(dump, read_whole(dump), baseline, HeapView::kAllocs,
                                        symbolizer, SymbolDetail::kNone);
  int64_t bytes = 0;
  for (const Sample& sample : profile.samples) bytes += sample.values[1];
  CHECK(profile.samples.size() == 2);
  CHECK(bytes == 34);
}

TEST_CASE("snapshot: a baseline of another process is refused") {
  std::string kept;
  {
    const Recording recording;
    const Dump dump = open_live();
    kept = test::TempFolder().path() + ".other";
    std::filesystem::copy(take_baseline(dump), kept);
  }
  const Recording recording;
  const Dump dump = open_live();
  std::filesystem::rename(kept, snapshot_path(dump, format::kBaselineName));
  CHECK_THROWS_WITH(open_baseline(dump), Catch::Contains("another process"));
}

TEST_CASE("snapshot: a damaged directory is refused, not followed") {
  const Recording recording;
  auto& directory = preload::header->tables[static_cast<size_t>(format::TableId::kStackNodes)];
  const uint64_t offset = directory.chunk_offset[0].load();
  for (const uint64_t wrong : {uint64_t{1}, offset + 8, uint64_t{1} << 60}) {
    directory.chunk_offset[0].store(wrong);
    CHECK(preload::write_snapshot("x") == EINVAL);
    CHECK_THROWS_WITH(take_snapshot(open_live(), "x"), Catch::Contains("damaged"));
  }
  directory.chunk_offset[0].store(offset);
  CHECK(preload::write_snapshot("x") == 0);
}

}  // namespace
}  // namespace mprof::dumper

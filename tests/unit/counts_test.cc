// SPDX-License-Identifier: Apache-2.0
#include "preload/counts.h"

#include <sys/ptrace.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "format/profbuf_reader.h"
#include "format/record.h"
#include "format/weights.h"
#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using format::CountKind;
using format::CountRow;
using format::CountSample;
using format::CountTotals;
using format::kNoRow;
using format::kWeightOne;
using format::TableId;
using test::ReaderView;

CountSample exactly(uint64_t value) { return {value, kWeightOne}; }

bool same(const CountTotals& a, const CountTotals& b) { return memcmp(&a, &b, sizeof a) == 0; }

uint64_t lost(format::Lost reason) { return header->lost[static_cast<size_t>(reason)].load(); }

const CountRow& row_of(const ReaderView& view, uint32_t number) {
  return view.row<CountRow>(TableId::kCounts, number);
}

// One attempt to copy a row that a thread may be changing; nothing if it did.
std::optional<CountTotals> try_copy(const CountRow& row) {
  const uint32_t version = row.version.load(std::memory_order_acquire);  // (V)
  const CountTotals copy = row.totals[version & 1];
  std::atomic_thread_fence(std::memory_order_acquire);
  if (row.version.load(std::memory_order_relaxed) != version) return std::nullopt;
  return copy;
}

CountTotals totals_of(const ReaderView& view, uint32_t number) {
  for (;;)
    if (const auto copy = try_copy(row_of(view, number))) return *copy;
}

uint32_t block_row(uint32_t stack, uint32_t thread = 0) {
  return find_count(CountKind::kBlock, stack, kNoRow, thread);
}

// The holder of a row's lock may have lost its processor for long; the library then counts the
// event as lost, a test that compares sums tries again.
void surely_add(uint32_t row, const CountSample& sample) {
  while (!add_count_only(row, sample)) sched_yield();
}

// ---- One thread --------------------------------------------------------------------------------

TEST_CASE("counts: one kind, stack and label set has one row") {
  const test::Recording recording;
  const uint32_t row = find_count(CountKind::kBlock, 10, 3, 0);
  CHECK(find_count(CountKind::kBlock, 10, 3, 0) == row);
  CHECK(find_count(CountKind::kMutex, 10, 3, 0) != row);
  CHECK(find_count(CountKind::kBlock, 11, 3, 0) != row);
  CHECK(find_count(CountKind::kBlock, 10, kNoRow, 0) != row);
  CHECK(tables.counts.used() == 4);
  const ReaderView view;
  CHECK(row_of(view, row).kind.load() == static_cast<uint32_t>(CountKind::kBlock));
  CHECK(row_of(view, row).stack == 10);
  CHECK(row_of(view, row).labels == 3);
}

TEST_CASE("counts: what happened before the library was there has neither stack nor labels") {
  const test::Recording recording;
  const uint32_t row = find_count(CountKind::kThreadCreate, kNoRow, kNoRow, 0);
  REQUIRE(row != kNoRow);
  CHECK(find_count(CountKind::kThreadCreate, kNoRow, kNoRow, 0) == row);
  REQUIRE(add_count_only(row, exactly(0)));
  const CountTotals totals = totals_of(ReaderView(), row);
  CHECK(totals.count == kWeightOne);
  CHECK(totals.value == 0);
}

TEST_CASE("counts: many rows are all found again") {
  const test::Recording recording;
  std::map<std::array<uint32_t, 3>, uint32_t> rows;
  for (uint32_t stack = 0; stack < 400; ++stack)
    for (uint32_t labels = 0; labels < 20; ++labels)
      for (const auto kind : {CountKind::kBlock, CountKind::kMutex})
        rows[{static_cast<uint32_t>(kind), stack, labels}] = find_count(kind, stack, labels, 1);
  std::set<uint32_t> distinct;
  for (const auto& [key, row] : rows) {
    REQUIRE(find_count(static_cast<CountKind>(key[0]), key[1], key[2], 1) == row);
    distinct.insert(row);
  }
  CHECK(distinct.size() == 400 * 20 * 2);
  CHECK(tables.counts.used() == distinct.size());
}

TEST_CASE("counts: threads use a few rows of the same key, each always the same one") {
  const test::Recording recording;
  std::set<uint32_t> rows;
  for (uint32_t thread = 0; thread < 100; ++thread) {
    const uint32_t row = block_row(10, thread);
    CHECK(block_row(10, thread) == row);
    rows.insert(row);
  }
  CHECK(rows.size() == tables.counts.used());
  CHECK(rows.size() > 1);
  CHECK(rows.size() <= 8);
}

TEST_CASE("counts: events of weight one add up to the exact sums, without variance") {
  const test::Recording recording;
  const uint32_t row = block_row(10);
  for (uint64_t value : {7, 100, 0, 43}) REQUIRE(add_count_only(row, exactly(value)));
  const CountTotals totals = totals_of(ReaderView(), row);
  CHECK(totals.count == 4 * kWeightOne);
  CHECK(totals.value == 150);
  CHECK(totals.samples == 4);
  CHECK(totals.longest == 100);
  CHECK(totals.count_variance == 0);
  CHECK(totals.value_variance == 0);
}

TEST_CASE("counts: a weighted event adds its weight, its value and both variances") {
  const test::Recording recording;
  const uint32_t row = block_row(10);
  const CountSample sample{1000, 5 * kWeightOne / 2};
  REQUIRE(add_count_only(row, sample));
  REQUIRE(add_count_only(row, sample));
  const CountTotals totals = totals_of(ReaderView(), row);
  CHECK(totals.count == 5 * kWeightOne);
  CHECK(totals.value == 5000);
  CHECK(totals.samples == 2);
  CHECK(totals.longest == 1000);  // of a single event, not of what it stands for
  CHECK(totals.count_variance == 2 * 2.5 * 1.5);
  CHECK(totals.value_variance == 2 * 1e6 * 2.5 * 1.5);
}

TEST_CASE("counts: a table that is full gives no row, and keeps those that it has") {
  const test::Recording recording;
  const uint32_t known = block_row(10);
  freeze_tables();
  CHECK(block_row(11) == kNoRow);
  CHECK(block_row(10) == known);
  CHECK(add_count_only(known, exactly(1)));
}

// ---- The journal -------------------------------------------------------------------------------

// The words of this thread's ring.
std::vector<uint64_t> written_words(const ThreadBlock* thread) {
  const uint32_t number = thread->row->profbuf.load() - 1;
  const ReaderView view;
  const auto* words = reinterpret_cast<const std::atomic<uint64_t>*>(
      &view.row<char>(TableId::kProfbufData, number * header->profbuf_words * 8));
  const format::ProfbufReader reader(&view.row<format::ProfbufHead>(TableId::kProfbufs, number),
                                     words, header->profbuf_words);
  std::vector<uint64_t> out(reader.written());
  CHECK_FALSE(reader.copy(0, out).damaged);
  return out;
}

// What the kCounted records of a ring add up to, row by row.
std::map<uint32_t, CountTotals> journalled(const ThreadBlock* thread) {
  const std::vector<uint64_t> words = written_words(thread);
  std::map<uint32_t, CountTotals> sums;
  for (size_t at = 0; at < words.size();) {
    const format::RecordWord head = format::unpack_record_word(words[at]);
    REQUIRE(head.words == format::expected_words(head.kind, head.flags));
    REQUIRE(at + head.words <= words.size());
    if (head.kind == format::RecordKind::kCounted) {
      const bool weighted = (head.flags & format::kWeighted) != 0;
      add_to(sums[head.argument], {words[at + 2], weighted ? words[at + 3] : kWeightOne});
    }
    at += head.words;
  }
  return sums;
}

TEST_CASE("counts: the records in the journal add up to the totals, and carry the time") {
  const test::Recording recording;
  ThreadBlock* thread = own_block();
  REQUIRE(thread != nullptr);
  for (uint64_t i = 0; i < 300; ++i) {
    const uint32_t row = find_count(i % 2 == 0 ? CountKind::kBlock : CountKind::kMutex,
                                    static_cast<uint32_t>(i % 7), kNoRow, thread->row_number);
    add_count(thread, row, {i * i, i % 3 == 0 ? kWeightOne : kWeightOne + 1000 * i}, 5000 + i);
  }
  const auto sums = journalled(thread);
  CHECK(sums.size() == 14);
  const ReaderView view;
  for (const auto& [row, totals] : sums) CHECK(same(totals, totals_of(view, row)));
  // The ring begins with the thread's own record.
  const std::vector<uint64_t> words = written_words(thread);
  CHECK(format::unpack_record_word(words[2]).kind == format::RecordKind::kCounted);
  CHECK(words[3] == 5000);
}

TEST_CASE("counts: an event of a thread without a ring is in the totals, and counted as lost") {
  const test::Recording recording;
  ThreadBlock* thread = own_block();
  REQUIRE(thread != nullptr);
  thread->profbuf_head->owner.store(0);
  thread->profbuf_head = nullptr;
  thread->profbuf = {};
  const uint32_t row = block_row(10);
  for (int i = 0; i < 3; ++i) add_count(thread, row, exactly(5), 1);
  CHECK(totals_of(ReaderView(), row).value == 15);
  CHECK(lost(format::Lost::kNoProfbuf) == 3);
}

TEST_CASE("counts: what a full ring drops is in the totals, and counted by the ring") {
  const test::Recording recording;
  ThreadBlock* thread = own_block();
  REQUIRE(thread != nullptr);
  const uint32_t row = block_row(10);
  constexpr uint64_t kEvents = 3000;
  for (uint64_t i = 0; i < kEvents; ++i) add_count(thread, row, exactly(2), i);
  const uint64_t dropped = thread->profbuf_head->dropped.load();
  CHECK(dropped > 0);
  CHECK(journalled(thread)[row].samples + dropped == kEvents);
  CHECK(totals_of(ReaderView(), row).samples == kEvents);
  CHECK(lost(format::Lost::kNoProfbuf) == 0);
}

TEST_CASE("counts: a row that stays locked is given up: no total, no record, one loss") {
  const test::Recording recording;
  ThreadBlock* thread = own_block();
  REQUIRE(thread != nullptr);
  const uint32_t row = block_row(10);
  add_count(thread, row, exactly(10), 1);
  tables.counts.at(row)->lock.store(1);
  add_count(thread, row, exactly(20), 2);
  tables.counts.at(row)->lock.store(0);
  CHECK(totals_of(ReaderView(), row).value == 10);
  CHECK(journalled(thread)[row].value == 10);
  CHECK(lost(format::Lost::kNotCounted) == 1);
}

// ---- Threads -----------------------------------------------------------------------------------

TEST_CASE("counts: the sums of eight threads are exact") {
  constexpr uint32_t kRows = 3;
  constexpr uint64_t kRounds = 20000;
  const test::Recording recording;
  for (uint32_t i = 0; i < kRows; ++i) REQUIRE(block_row(i) == i);
  const auto sample = [](int thread, uint64_t i) -> CountSample {
    return {i + static_cast<uint64_t>(thread), i % 4 == 0 ? 2 * kWeightOne : kWeightOne};
  };
  test::in_threads(8, [&](int thread) {
    for (uint64_t i = 0; i < kRounds; ++i)
      surely_add(static_cast<uint32_t>(i % kRows), sample(thread, i));
  });
  std::array<CountTotals, kRows> truth{};
  for (int thread = 0; thread < 8; ++thread)
    for (uint64_t i = 0; i < kRounds; ++i) add_to(truth[i % kRows], sample(thread, i));
  const ReaderView view;
  for (uint32_t i = 0; i < kRows; ++i) CHECK(same(totals_of(view, i), truth[i]));
}

TEST_CASE("counts: eight threads that want the row of the same key find one of its rows") {
  const test::Recording recording;
  std::atomic<int> failed{0};
  test::in_threads(8, [&](int thread) {
    for (uint32_t stack = 0; stack < 600; ++stack) {
      const uint32_t row = block_row(stack, static_cast<uint32_t>(thread));
      if (row == kNoRow)
        ++failed;
      else
        surely_add(row, exactly(stack));
    }
  });
  REQUIRE(failed == 0);
  // Shards and twins split the sums; a reader adds them up by stack.
  const ReaderView view;
  std::map<uint32_t, CountTotals> of_stack;
  for (uint32_t i = 0; i < view.used(TableId::kCounts); ++i) {
    REQUIRE(row_of(view, i).kind.load() == static_cast<uint32_t>(CountKind::kBlock));
    const CountTotals totals = totals_of(view, i);
    of_stack[row_of(view, i).stack].samples += totals.samples;
    of_stack[row_of(view, i).stack].value += totals.value;
  }
  CHECK(of_stack.size() == 600);
  for (const auto& [stack, totals] : of_stack) {
    CHECK(totals.samples == 8);
    CHECK(totals.value == 8 * stack);
  }
}

bool is_whole(const CountTotals& totals) {
  return totals.value == 3 * totals.samples && totals.count == kWeightOne * totals.samples;
}

TEST_CASE("counts: a reader of running threads never sees half an event") {
  const test::Recording recording;
  const uint32_t row = block_row(10);
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (int i = 0; i < 3; ++i)
    writers.emplace_back([&] {
      while (!stop) surely_add(row, exactly(3));
    });
  const ReaderView view;
  while (totals_of(view, row).samples < 1000) sched_yield();
  int torn = 0;
  uint64_t before = 0;
  for (int copied = 0; copied < 50000;) {
    const auto copy = try_copy(row_of(view, row));
    if (!copy) continue;
    ++copied;
    if (!is_whole(*copy) || copy->samples < before) ++torn;
    before = copy->samples;
  }
  stop = true;
  for (std::thread& writer : writers) writer.join();
  CHECK(torn == 0);
}

// ---- Death at any instruction ------------------------------------------------------------------

void add_a_few() {
  for (uint64_t i = 1; i <= 8; ++i)
    add_count_only(0, {i, i % 2 == 0 ? kWeightOne : 3 * kWeightOne});
}

TEST_CASE("counts: killed at any instruction, the totals are those before or after an event") {
  const test::Recording recording;
  REQUIRE(block_row(10) == 0);
  const ReaderView view;
  std::vector<CountTotals> states(1);
  for (uint64_t i = 1; i <= 8; ++i) {
    states.push_back(states.back());
    add_to(states.back(), {i, i % 2 == 0 ? kWeightOne : 3 * kWeightOne});
  }
  const pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    add_a_few();
    raise(SIGSTOP);
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  size_t state = 0;
  int torn = 0;
  while (ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) == 0 &&
         waitpid(child, &status, 0) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP) {
    const CountRow& row = row_of(view, 0);
    const CountTotals& now = row.totals[row.version.load() & 1];
    if (state + 1 < states.size() && same(now, states[state + 1])) ++state;
    torn += same(now, states[state]) ? 0 : 1;
  }
  const bool finished = WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP;
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  CHECK(finished);
  CHECK(torn == 0);
  CHECK(state + 1 == states.size());
}

TEST_CASE("counts: killed with eight threads at work, no row holds half an event") {
  for (int round = 0; round < 10; ++round) {
    const test::Recording recording;
    for (uint32_t i = 0; i < 4; ++i) REQUIRE(block_row(i) == i);
    const ReaderView view;
    const pid_t child = fork();
    if (child == 0) {
      test::in_threads(8, [](int thread) {
        for (uint32_t i = 0;; ++i) surely_add((i + static_cast<uint32_t>(thread)) % 4, exactly(3));
      });
    }
    while (totals_of(view, 3).samples < 100) usleep(100);
    usleep(static_cast<useconds_t>(round * 137));
    kill(child, SIGKILL);
    REQUIRE(waitpid(child, nullptr, 0) == child);
    for (uint32_t i = 0; i < 4; ++i) {
      const CountRow& row = row_of(view, i);
      CHECK(is_whole(row.totals[row.version.load() & 1]));
    }
  }
}

}  // namespace
}  // namespace mprof::preload

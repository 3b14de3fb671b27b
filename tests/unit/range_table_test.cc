// SPDX-License-Identifier: Apache-2.0
#include "preload/range_table.h"

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "tests/unit/catch.h"

using namespace mprof::preload;

namespace {

using Outcome = RangeTable::Outcome;

constexpr uintptr_t kPage = 4096;

Range pages(uintptr_t first, uintptr_t count) { return {first * kPage, (first + count) * kPage}; }

std::unique_ptr<RangeTable> make_table() {
  auto table = std::make_unique<RangeTable>();
  REQUIRE(table->init());
  return table;
}

std::vector<RangeTable::Piece> release_all(RangeTable& table, RangeTable::Taken taken) {
  std::vector<RangeTable::Piece> pieces;
  RangeTable::Piece piece;
  bool there_is_one = true;
  while (there_is_one) {
    REQUIRE(table.release(taken, &piece, &there_is_one) == Outcome::kDone);
    if (there_is_one) pieces.push_back(piece);
  }
  return pieces;
}

RangeTable::Taken take(RangeTable& table, Range range) {
  RangeTable::Taken taken;
  REQUIRE(table.take(range, &taken) == Outcome::kDone);
  return taken;
}

std::vector<RangeTable::Piece> unmap(RangeTable& table, Range range) {
  return release_all(table, take(table, range));
}

}  // namespace

TEST_CASE("range table: a whole mapping ends as one last piece") {
  const auto table = make_table();
  REQUIRE(table->add(pages(10, 4), 7, 99) == Outcome::kDone);
  CHECK(table->covers(10 * kPage));
  CHECK(table->covers(14 * kPage - 1));
  CHECK_FALSE(table->covers(14 * kPage));
  CHECK_FALSE(table->covers(10 * kPage - 1));
  const auto pieces = unmap(*table, pages(10, 4));
  REQUIRE(pieces.size() == 1);
  CHECK(pieces[0].bytes == 4 * kPage);
  CHECK(pieces[0].bucket == 7);
  CHECK(pieces[0].ticks == 99);
  CHECK(pieces[0].is_last);
  CHECK_FALSE(table->covers(10 * kPage));
}

TEST_CASE("range table: what was never followed is nothing") {
  const auto table = make_table();
  CHECK(unmap(*table, pages(0, 1000)).empty());
  REQUIRE(table->add(pages(10, 4), 1, 1) == Outcome::kDone);
  CHECK(unmap(*table, pages(0, 10)).empty());
  CHECK(unmap(*table, pages(14, 10)).empty());
}

TEST_CASE("range table: only the piece with the last byte ends the mapping") {
  const auto table = make_table();
  REQUIRE(table->add(pages(0, 10), 1, 1) == Outcome::kDone);
  const auto middle = unmap(*table, pages(4, 2));
  REQUIRE(middle.size() == 1);
  CHECK(middle[0].bytes == 2 * kPage);
  CHECK_FALSE(middle[0].is_last);
  const auto head = unmap(*table, pages(0, 1));
  REQUIRE(head.size() == 1);
  CHECK_FALSE(head[0].is_last);
  CHECK(table->covers(1 * kPage));
  CHECK_FALSE(table->covers(4 * kPage));
  CHECK(table->covers(6 * kPage));
  const auto rest = unmap(*table, pages(0, 10));
  REQUIRE(rest.size() == 2);
  CHECK(rest[0].bytes + rest[1].bytes == 7 * kPage);
  CHECK_FALSE(rest[0].is_last);
  CHECK(rest[1].is_last);
}

TEST_CASE("range table: one unmapping takes parts of several mappings") {
  const auto table = make_table();
  for (uint32_t i = 0; i < 4; ++i) REQUIRE(table->add(pages(i * 10, 8), i, 1) == Outcome::kDone);
  auto pieces = unmap(*table, pages(4, 30));
  REQUIRE(pieces.size() == 4);
  std::sort(pieces.begin(), pieces.end(), [](auto& a, auto& b) { return a.bucket < b.bucket; });
  const uint64_t expected_pages[] = {4, 8, 8, 4};
  for (uint32_t i = 0; i < 4; ++i) {
    CHECK(pieces[i].bucket == i);
    CHECK(pieces[i].bytes == expected_pages[i] * kPage);
    CHECK(pieces[i].is_last == (i == 1 || i == 2));
  }
}

TEST_CASE("range table: what is put back is as it was") {
  const auto table = make_table();
  REQUIRE(table->add(pages(0, 10), 1, 1) == Outcome::kDone);
  REQUIRE(table->add(pages(10, 10), 2, 1) == Outcome::kDone);
  const auto taken = take(*table, pages(5, 10));
  CHECK_FALSE(table->covers(5 * kPage));
  CHECK_FALSE(taken.empty());
  REQUIRE(table->put_back(taken) == Outcome::kDone);
  for (uintptr_t page = 0; page < 20; ++page) CHECK(table->covers(page * kPage));
  uint64_t bytes = 0;
  int ended = 0;
  for (const auto& piece : unmap(*table, pages(0, 20))) {
    bytes += piece.bytes;
    ended += piece.is_last ? 1 : 0;
  }
  CHECK(bytes == 20 * kPage);
  CHECK(ended == 2);
}

TEST_CASE("range table: a mapping made while an older one leaves is another one") {
  const auto table = make_table();
  REQUIRE(table->add(pages(0, 4), 1, 1) == Outcome::kDone);
  const auto old = take(*table, pages(0, 4));
  REQUIRE(table->add(pages(0, 4), 2, 2) == Outcome::kDone);
  const auto pieces = release_all(*table, old);
  REQUIRE(pieces.size() == 1);
  CHECK(pieces[0].bucket == 1);
  CHECK(table->covers(0));
}

TEST_CASE("range table: what was taken out before it was forgotten is void") {
  const auto table = make_table();
  REQUIRE(table->add(pages(0, 4), 1, 1) == Outcome::kDone);
  const auto taken = take(*table, pages(0, 2));
  table->forget();
  CHECK_FALSE(table->covers(3 * kPage));
  CHECK(release_all(*table, taken).empty());
  REQUIRE(table->put_back(taken) == Outcome::kDone);
  CHECK_FALSE(table->covers(0));
}

TEST_CASE("range table: without memory it declines") {
  RangeTable table;
  RangeTable::Taken taken;
  CHECK(table.add(pages(0, 1), 1, 1) != Outcome::kDone);
  CHECK(table.take(pages(0, 1), &taken) != Outcome::kDone);
  CHECK(taken.empty());
  CHECK_FALSE(table.covers(0));
}

TEST_CASE("range table: full, it declines, keeps what it has, and has room again after a release") {
  const auto table = make_table();
  for (uint32_t i = 0; i < RangeTable::kMaxRanges; ++i)
    REQUIRE(table->add(pages(i * 4, 3), i, 1) == Outcome::kDone);
  CHECK(table->add(pages(RangeTable::kMaxRanges * 4, 3), 1, 1) == Outcome::kFull);
  RangeTable::Taken taken;
  CHECK(table->take(pages(5, 1), &taken) == Outcome::kFull);  // needs two more ranges
  CHECK(taken.empty());
  CHECK(table->covers(5 * kPage));
  CHECK(unmap(*table, pages(0, 4 * 4)).size() == 4);
  CHECK(unmap(*table, pages(21, 1)).size() == 1);
  CHECK(table->add(pages(0, 3), 1, 1) == Outcome::kDone);
  CHECK(unmap(*table, pages(0, RangeTable::kMaxRanges * 4)).size() ==
        RangeTable::kMaxRanges - 4 + 2);
}

TEST_CASE("range table: agrees with a page map over random mappings and unmappings") {
  constexpr uint32_t kPages = 400;
  const auto table = make_table();
  std::mt19937 random(7);
  std::vector<uint32_t> owner(kPages, 0);  // mapping of each page, 0 = none
  std::map<uint32_t, uint32_t> live;       // mapping -> pages
  for (uint32_t mapping = 1; mapping <= 20000; ++mapping) {
    const uint32_t first = random() % kPages;
    const uint32_t count = 1 + random() % std::min<uint32_t>(kPages - first, 40);
    std::map<uint32_t, uint64_t> expected;
    for (uint32_t page = first; page < first + count; ++page)
      if (owner[page] != 0) expected[owner[page]] += kPage;
    const auto taken = take(*table, pages(first, count));
    if (random() % 8 == 0) {  // the call failed
      REQUIRE(table->put_back(taken) == Outcome::kDone);
      continue;
    }
    std::map<uint32_t, uint64_t> found;
    std::map<uint32_t, uint32_t> ends;
    for (const auto& piece : release_all(*table, taken)) {
      found[piece.bucket] += piece.bytes;
      ends[piece.bucket] += piece.is_last ? 1 : 0;
    }
    REQUIRE(found == expected);
    for (const auto& [bucket, bytes] : expected) {
      live[bucket] -= static_cast<uint32_t>(bytes / kPage);
      REQUIRE(ends[bucket] == (live[bucket] == 0 ? 1u : 0u));
    }
    std::fill_n(owner.begin() + first, count, 0);
    if (random() % 3 == 0) continue;
    REQUIRE(table->add(pages(first, count), mapping, 1) == Outcome::kDone);
    std::fill_n(owner.begin() + first, count, mapping);
    live[mapping] = count;
  }
  for (uint32_t page = 0; page < kPages; ++page)
    CHECK(table->covers(page * kPage) == (owner[page] != 0));
}

TEST_CASE("range table: threads that cut their own mappings do not disturb each other") {
  const auto table = make_table();
  constexpr int kThreads = 4;
  constexpr int kRounds = 3000;
  std::vector<uint64_t> bytes(kThreads, 0);
  std::vector<int> ended(kThreads, 0);
  const auto work = [&](int thread) {
    const auto base = static_cast<uintptr_t>(1000 * (thread + 1));
    const auto drop = [&](Range range) {
      RangeTable::Taken taken;
      RangeTable::Piece piece;
      bool there_is_one = true;
      while (table->take(range, &taken) != Outcome::kDone) {
      }
      while (there_is_one) {
        if (table->release(taken, &piece, &there_is_one) != Outcome::kDone || !there_is_one)
          continue;
        bytes[static_cast<size_t>(thread)] += piece.bytes;
        ended[static_cast<size_t>(thread)] += piece.is_last ? 1 : 0;
      }
    };
    for (int round = 0; round < kRounds; ++round) {
      while (table->add(pages(base, 10), static_cast<uint32_t>(thread), 1) != Outcome::kDone) {
      }
      drop(pages(base + 3, 2));
      drop(pages(base, 10));
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
  for (auto& thread : threads) thread.join();
  for (size_t i = 0; i < kThreads; ++i) {
    CHECK(bytes[i] == uint64_t{kRounds} * 10 * kPage);
    CHECK(ended[i] == kRounds);
  }
}

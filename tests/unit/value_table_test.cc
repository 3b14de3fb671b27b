// SPDX-License-Identifier: Apache-2.0
#include "preload/value_table.h"

#include <map>
#include <random>
#include <utility>

#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using Outcome = ValueTable::Outcome;

const void* value(uint64_t n) { return reinterpret_cast<const void*>(n * 8); }

// One for each test: most of its memory is that of the values.
class Table {
 public:
  Table() { REQUIRE(table.init()); }
  ~Table() { table.forget(); }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;
  ValueTable table;
};

TEST_CASE("values: a value is in a profile once, with the row it was added with") {
  const test::Recording recording;
  Table t;
  uint32_t row = 0;
  CHECK(t.table.add(1, value(1), 10) == Outcome::kDone);
  CHECK(t.table.add(1, value(1), 11) == Outcome::kThere);
  CHECK(t.table.add(2, value(1), 12) == Outcome::kDone);
  CHECK(t.table.remove(1, value(1), &row) == Outcome::kDone);
  CHECK(row == 10);
  CHECK(t.table.remove(1, value(1), &row) == Outcome::kNotThere);
  CHECK(t.table.remove(2, value(1), &row) == Outcome::kDone);
  CHECK(row == 12);
  CHECK(t.table.add(1, nullptr, 13) == Outcome::kDone);
  CHECK(t.table.remove(1, nullptr, &row) == Outcome::kDone);
}

TEST_CASE("values: the table agrees with a map whatever is added and removed") {
  const test::Recording recording;
  Table t;
  std::map<std::pair<uint32_t, uint64_t>, uint32_t> model;
  std::mt19937 random(1);
  for (uint32_t i = 0; i < 200000; ++i) {
    const uint32_t profile = random() % 3;
    const uint64_t n = random() % 20000;
    const auto found = model.find({profile, n});
    if (random() % 2 == 0) {
      const bool added = t.table.add(profile, value(n), i) == Outcome::kDone;
      REQUIRE(added == (found == model.end()));
      model.try_emplace({profile, n}, i);
    } else {
      uint32_t row = 0;
      const bool removed = t.table.remove(profile, value(n), &row) == Outcome::kDone;
      REQUIRE(removed == (found != model.end()));
      if (removed) REQUIRE(row == found->second);
      if (removed) model.erase(found);
    }
  }
}

TEST_CASE("values: a million fit, one more does not until one is gone") {
  const test::Recording recording;
  Table t;
  for (uint32_t n = 0; n < ValueTable::kMostValues; ++n)
    REQUIRE(t.table.add(0, value(n), n) == Outcome::kDone);
  CHECK(t.table.add(0, value(ValueTable::kMostValues), 1) == Outcome::kFull);
  uint32_t row = 0;
  REQUIRE(t.table.remove(0, value(12345), &row) == Outcome::kDone);
  CHECK(row == 12345);
  CHECK(t.table.add(0, value(ValueTable::kMostValues), 1) == Outcome::kDone);
  CHECK(t.table.add(0, value(12345), 1) == Outcome::kFull);
}

TEST_CASE("values: memory is taken as values come, and freed nodes are used again") {
  const test::Recording recording;
  Table t;
  const uint64_t with_heads = header->anonymous_bytes;
  for (uint32_t n = 0; n < 100000; ++n) {
    uint32_t row = 0;
    REQUIRE(t.table.add(0, value(n), n) == Outcome::kDone);
    REQUIRE(t.table.remove(0, value(n), &row) == Outcome::kDone);
  }
  const uint64_t one_chunk = header->anonymous_bytes - with_heads;
  CHECK(one_chunk == 4096 * 24);
  for (uint32_t n = 0; n < 4097; ++n) REQUIRE(t.table.add(0, value(n), n) == Outcome::kDone);
  CHECK(header->anonymous_bytes - with_heads == 2 * one_chunk);
}

// A thread whose chain is kept by one that does not run for long is told so; here it comes again.
template <class Change>
Outcome done(Change&& change) {
  Outcome outcome = change();
  while (outcome == Outcome::kContended) outcome = change();
  return outcome;
}

TEST_CASE("values: eight threads add and remove; each value is added by one of them") {
  const test::Recording recording;
  Table t;
  constexpr uint32_t kValues = 20000;
  std::atomic<uint32_t> added{0}, removed{0}, wrong{0};  // Catch itself is for one thread
  test::in_threads(8, [&](int) {
    for (uint32_t n = 0; n < kValues; ++n)
      added += done([&] { return t.table.add(0, value(n), n); }) == Outcome::kDone;
  });
  CHECK(added == kValues);
  test::in_threads(8, [&](int thread) {
    for (uint32_t n = 0; n < kValues; ++n) {
      uint32_t row = n;
      removed += done([&] { return t.table.remove(0, value(n), &row); }) == Outcome::kDone;
      wrong += row != n;
      // Nodes go from thread to thread through the free list.
      const uint64_t own = uint64_t{kValues} * static_cast<uint32_t>(thread + 1) + n;
      wrong += done([&] { return t.table.add(1, value(own), n); }) != Outcome::kDone;
      wrong += done([&] { return t.table.remove(1, value(own), &row); }) != Outcome::kDone;
      wrong += row != n;
    }
  });
  CHECK(removed == kValues);
  CHECK(wrong == 0);
}

TEST_CASE("values: after a fork there are none") {
  const test::Recording recording;
  Table t;
  uint32_t row = 0;
  REQUIRE(t.table.add(0, value(1), 1) == Outcome::kDone);
  t.table.forget();
  REQUIRE(t.table.init());
  CHECK(t.table.remove(0, value(1), &row) == Outcome::kNotThere);
  CHECK(t.table.add(0, value(1), 2) == Outcome::kDone);
}

}  // namespace
}  // namespace mprof::preload

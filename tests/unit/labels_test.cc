// SPDX-License-Identifier: Apache-2.0
#include "preload/labels.h"

#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::LabelRow;
using format::LabelType;
using format::TableId;
using format::WaitKind;
using test::ReaderView;

uint64_t lost(format::Lost reason) { return header->lost[static_cast<size_t>(reason)].load(); }

std::string text(const ReaderView& view, uint64_t at, uint32_t bytes) {
  return {&view.row<char>(TableId::kStrings, static_cast<uint32_t>(at)), bytes};
}

// A label set as a reader takes it: parents are lower, the newest value of a key counts.
struct Label {
  LabelType type;
  std::string text;
  uint64_t value;
  uint32_t extra;
  bool operator==(const Label&) const = default;
};
using Labels = std::map<std::string, Label>;

Labels read(const ReaderView& view, uint32_t set) {
  Labels labels;
  while (set != kNoRow) {
    const auto& row = view.row<LabelRow>(TableId::kLabels, set);
    const uint32_t key_bytes = row.key_bytes.load(std::memory_order_acquire);  // (P)
    REQUIRE(key_bytes != 0);
    REQUIRE((row.parent == kNoRow || row.parent < set));
    Label label{row.type, {}, row.value, row.extra};
    if (row.type == LabelType::kText) label = {row.type, text(view, row.value, row.extra), 0, 0};
    labels.emplace(text(view, row.key, key_bytes), label);
    set = row.parent;
  }
  return labels;
}

const void* on_heap(uint64_t n) { return reinterpret_cast<const void*>(0x10000 + 64 * n); }

int a_global;

TEST_CASE("labels: every kind of wait has its name") {
  const test::Recording recording;
  const ReaderView view;
  std::set<std::string> names;
  for (size_t i = 0; i < static_cast<size_t>(WaitKind::kCount); ++i) {
    const Labels labels = read(view, with_wait(kNoRow, static_cast<WaitKind>(i)));
    REQUIRE(labels.size() == 1);
    CHECK(labels.at("wait").type == LabelType::kText);
    CHECK(labels.at("wait").text == format::kWaitNames[i]);
    names.insert(labels.at("wait").text);
  }
  CHECK(names.size() == static_cast<size_t>(WaitKind::kCount));
  CHECK(names.count("cond relock") == 1);
}

TEST_CASE("labels: the same labels in the same order are the same set, and take no row") {
  const test::Recording recording;
  const auto make = [] {
    uint32_t set = with_wait(kNoRow, WaitKind::kMutex);
    set = with_address(set, LabelName::kLock, on_heap(1));
    set = with_stack(set, LabelName::kLockSite, 17);
    return with_stack(set, LabelName::kVictim, 18);
  };
  const uint32_t set = make();
  const uint64_t used = tables.labels.used();
  CHECK(used == 4);
  CHECK(make() == set);
  CHECK(tables.labels.used() == used);
  const Labels labels = read(ReaderView(), set);
  CHECK(labels.size() == 4);
  CHECK(labels.at("lock") == Label{LabelType::kAddress, "", 0x10040, kNoRow});
  CHECK(labels.at("lock_site") == Label{LabelType::kStack, "", 17, 0});
  CHECK(labels.at("victim") == Label{LabelType::kStack, "", 18, 0});
}

TEST_CASE("labels: sets that begin alike share their beginning") {
  const test::Recording recording;
  const uint32_t wait = with_wait(kNoRow, WaitKind::kSpin);
  const uint32_t lock = with_address(wait, LabelName::kLock, on_heap(1));
  const uint32_t a = with_stack(lock, LabelName::kVictim, 5);
  const uint32_t b = with_stack(lock, LabelName::kVictim, 6);
  CHECK(a != b);
  CHECK(tables.labels.used() == 4);
  const ReaderView view;
  CHECK(view.row<LabelRow>(TableId::kLabels, a).parent == lock);
  CHECK(view.row<LabelRow>(TableId::kLabels, b).parent == lock);
}

TEST_CASE("labels: sets that differ in one thing only are different sets") {
  const test::Recording recording;
  const uint32_t wait = with_wait(kNoRow, WaitKind::kMutex);
  const std::set<uint32_t> sets{
      wait,
      with_wait(kNoRow, WaitKind::kSpin),
      with_address(wait, LabelName::kLock, on_heap(1)),
      with_address(wait, LabelName::kLock, on_heap(2)),
      with_address(wait, LabelName::kStart, on_heap(1)),
      with_address(kNoRow, LabelName::kLock, on_heap(1)),
      with_stack(wait, LabelName::kVictim, 0x10040),
      with_stack(wait, LabelName::kLockSite, 0x10040),
  };
  CHECK(sets.size() == 8);
}

TEST_CASE("labels: a key that occurs twice counts with its newest value") {
  const test::Recording recording;
  const uint32_t set = with_wait(with_wait(kNoRow, WaitKind::kMutex), WaitKind::kBarrier);
  const Labels labels = read(ReaderView(), set);
  CHECK(labels.size() == 1);
  CHECK(labels.at("wait").text == "barrier");
}

TEST_CASE("labels: a wait on a stack that is not known has no label for it") {
  const test::Recording recording;
  const uint32_t wait = with_wait(kNoRow, WaitKind::kMutex);
  CHECK(with_stack(wait, LabelName::kVictim, kNoRow) == wait);
  CHECK(with_stack(kNoRow, LabelName::kVictim, kNoRow) == kNoRow);
}

TEST_CASE("labels: an address tells the object it lies in, if it lies in one") {
  const test::Recording recording;
  bool in_module = false;
  const uint32_t global = with_address(kNoRow, LabelName::kLock, &a_global, &in_module);
  CHECK(in_module);
  const uint32_t other = with_address(kNoRow, LabelName::kLock, on_heap(1), &in_module);
  CHECK_FALSE(in_module);
  const ReaderView view;
  const Label label = read(view, global).at("lock");
  REQUIRE(label.extra != kNoRow);
  const auto& module = view.row<format::ModuleRow>(TableId::kModules, label.extra);
  const std::string own = std::filesystem::read_symlink("/proc/self/exe");
  CHECK(text(view, module.path, module.path_bytes) == own);
  CHECK(read(view, other).at("lock").extra == kNoRow);
}

// A set for each n, of up to four labels.
uint32_t make_set(uint32_t n) {
  uint32_t set = with_wait(kNoRow, static_cast<WaitKind>(n % 5));
  set = with_address(set, LabelName::kLock, on_heap(n % 50));
  if (n % 2 == 0) set = with_stack(set, LabelName::kLockSite, n % 20);
  return with_stack(set, LabelName::kVictim, n);
}

TEST_CASE("labels: eight threads that add the same sets get the same rows") {
  constexpr uint32_t kSets = 1000;
  const test::Recording recording;
  std::array<std::vector<uint32_t>, 8> sets;
  test::in_threads(8, [&](int thread) {
    auto& own = sets[static_cast<size_t>(thread)];
    own.resize(kSets);
    for (uint32_t round = 0; round < 2; ++round)
      for (uint32_t i = 0; i < kSets; ++i) {
        const uint32_t n = (i * 7 + static_cast<uint32_t>(thread) * 13 * (round + 1)) % kSets;
        own[n] = make_set(n);
      }
  });
  for (const auto& own : sets) CHECK((own == sets[0]));
  const ReaderView view;
  std::set<uint32_t> distinct;
  for (uint32_t n = 0; n < kSets; ++n) {
    const Labels labels = read(view, sets[0][n]);
    REQUIRE(labels.size() == (n % 2 == 0 ? 4 : 3));
    REQUIRE(labels.at("wait").text == format::kWaitNames[n % 5]);
    REQUIRE(labels.at("lock").value == reinterpret_cast<uintptr_t>(on_heap(n % 50)));
    REQUIRE(labels.at("victim").value == n);
    if (n % 2 == 0) REQUIRE(labels.at("lock_site").value == n % 20);
    distinct.insert(sets[0][n]);
  }
  CHECK(distinct.size() == kSets);
  // Rows that lost a race to a twin have no key; all others are there once.
  std::set<std::pair<uint32_t, std::pair<uint32_t, uint64_t>>> seen;
  size_t whole = 0;
  for (uint32_t i = 0; i < view.used(TableId::kLabels); ++i) {
    const auto& row = view.row<LabelRow>(TableId::kLabels, i);
    if (row.key_bytes.load() == 0) continue;
    ++whole;
    seen.insert({row.parent, {row.key, row.value}});
  }
  CHECK(seen.size() == whole);
}

TEST_CASE("labels: beyond a million a label is left out, and counted; known ones are found") {
  const test::Recording recording;
  const uint32_t wait = with_wait(kNoRow, WaitKind::kMutex);
  const uint32_t known = with_address(wait, LabelName::kLock, on_heap(1));
  constexpr uint64_t kMost = 1 << 20;
  while (tables.labels.used() + 128 <= kMost)
    REQUIRE(claim_row(tables.labels, TableId::kLabels, 128) != kNoRow);
  for (uint64_t n = 2; tables.labels.used() < kMost; ++n)
    REQUIRE(with_address(wait, LabelName::kLock, on_heap(n)) != wait);
  CHECK(lost(format::Lost::kNotCounted) == 0);
  for (uint64_t n = 0; n < 5; ++n)
    CHECK(with_address(wait, LabelName::kLock, on_heap(100000 + n)) == wait);
  CHECK(with_stack(known, LabelName::kVictim, 3) == known);
  CHECK(lost(format::Lost::kNotCounted) == 6);
  CHECK(tables.labels.used() == kMost);
  CHECK(with_address(wait, LabelName::kLock, on_heap(1)) == known);
}

TEST_CASE("labels: after the end what was there is found, and new labels are left out") {
  const test::Recording recording;
  const uint32_t wait = with_wait(kNoRow, WaitKind::kMutex);
  freeze_tables();
  CHECK(with_wait(kNoRow, WaitKind::kMutex) == wait);
  CHECK(with_address(wait, LabelName::kLock, on_heap(1)) == wait);
  CHECK(lost(format::Lost::kNotCounted) == 1);
}

}  // namespace
}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
#include "preload/custom_profiles.h"

#include <string>
#include <vector>

#include "format/weights.h"
#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using format::CountKind;
using format::CountRow;
using format::CustomRow;
using format::kNoRow;
using format::kWeightOne;
using format::Lost;
using format::TableId;
using test::ReaderView;

uint64_t values_lost() { return header->lost[static_cast<size_t>(Lost::kValueNotAdded)].load(); }

const void* value(uint64_t n) { return reinterpret_cast<const void*>(n * 16); }

[[gnu::noinline]] bool add_here(CustomProfile* profile, const void* thing) {
  return add_value(own_block(), profile, thing, MPROF_CALL_SITE());
}
struct Sums {
  uint64_t added;
  uint64_t removed;
  bool operator==(const Sums&) const = default;
};

// What a reader finds of the profile in row `n` of the custom table.
Sums sums_of(uint32_t n) {
  const ReaderView view;
  Sums sums{};
  for (uint32_t i = 0; i < view.used(TableId::kCounts); ++i) {
    const auto& row = view.row<CountRow>(TableId::kCounts, i);
    if (row.kind.load() != static_cast<uint32_t>(CountKind::kFirstCustom) + n) continue;
    REQUIRE(row.labels == kNoRow);
    const auto& totals = row.totals[row.version.load() & 1];
    sums = {sums.added + totals.count / kWeightOne, sums.removed + totals.value};
  }
  return sums;
}

// Profiles are never unmade, so each test has names of its own.
std::string fresh_name() {
  static int count = 0;
  return "profile " + std::to_string(++count);
}
CustomProfile* fresh() { return make_profile(fresh_name().c_str()); }

uint32_t number_of(const std::string& name) {
  const ReaderView view;
  for (uint32_t i = 0; i < view.used(TableId::kCustoms); ++i) {
    const auto& row = view.row<CustomRow>(TableId::kCustoms, i);
    if (name == std::string(&view.row<char>(TableId::kStrings, row.name), row.name_bytes.load()))
      return i;
  }
  return kNoRow;
}

TEST_CASE("custom profiles: one name is one profile, and in the dump from the start") {
  const test::Recording recording;
  const std::string name = fresh_name();
  CHECK(find_profile(name.c_str()) == nullptr);
  CHECK(number_of(name) == kNoRow);
  CustomProfile* profile = make_profile(name.c_str());
  REQUIRE(profile != nullptr);
  CHECK(make_profile(name.c_str()) == profile);
  CHECK(find_profile(name.c_str()) == profile);
  CHECK(fresh() != profile);
  CHECK(number_of(name) == 0);
  CHECK(tables.customs.used() == 2);
}

TEST_CASE("custom profiles: names that are none, too long or mprof's own make no profile") {
  const test::Recording recording;
  CHECK(make_profile("") == nullptr);
  CHECK(make_profile(std::string(65, 'x').c_str()) == nullptr);
  CHECK(make_profile(std::string(64, 'x').c_str()) != nullptr);
  for (const char* taken : {"heap", "allocs", "block", "mutex", "threadcreate", "cpu", "goroutine"})
    CHECK(make_profile(taken) == nullptr);
}

TEST_CASE("custom profiles: what is added is counted, and what is removed stays counted") {
  const test::Recording recording;
  CustomProfile* profile = fresh();
  for (uint64_t n = 0; n < 3; ++n) REQUIRE(add_here(profile, value(n)));
  REQUIRE(add_here(profile, value(10)));
  CHECK(values_in(profile) == 4);
  CHECK(sums_of(0) == Sums{4, 0});
  CHECK(remove_value(profile, value(1)));
  CHECK_FALSE(remove_value(profile, value(1)));
  CHECK_FALSE(remove_value(profile, value(99)));
  CHECK(values_in(profile) == 3);
  CHECK(sums_of(0) == Sums{4, 1});
  REQUIRE(add_here(profile, value(1)));
  CHECK(sums_of(0) == Sums{5, 1});
  CHECK(values_lost() == 0);
}

TEST_CASE("custom profiles: a value that is added twice stays where it was, and is counted") {
  const test::Recording recording;
  CustomProfile* profile = fresh();
  REQUIRE(add_here(profile, value(1)));
  CHECK_FALSE(add_here(profile, value(1)));
  CHECK(values_lost() == 1);
  CHECK(values_in(profile) == 1);
  CHECK(sums_of(0).added == 1);
  CHECK(add_here(fresh(), value(1)));  // another profile
}

TEST_CASE("custom profiles: no events are journaled") {
  const test::Recording recording;
  CustomProfile* profile = fresh();
  ThreadBlock* block = own_block();
  REQUIRE(block->profbuf_head != nullptr);
  const uint64_t before = block->profbuf_head->written.load();
  REQUIRE(add_here(profile, value(1)));
  REQUIRE(remove_value(profile, value(1)));
  CHECK(block->profbuf_head->written.load() == before);
}

TEST_CASE("custom profiles: eight threads add and remove; the sums are theirs") {
  const test::Recording recording;
  CustomProfile* profile = fresh();
  constexpr uint64_t kValues = 2000;
  test::in_threads(8, [&](int thread) {
    const uint64_t first = kValues * static_cast<uint64_t>(thread);
    for (uint64_t n = first; n < first + kValues; ++n) add_here(profile, value(n));
    for (uint64_t n = first; n < first + kValues / 2; ++n) remove_value(profile, value(n));
  });
  const Sums sums = sums_of(0);
  CHECK(sums.added + values_lost() == 8 * kValues);
  CHECK(values_in(profile) == sums.added - sums.removed);
  CHECK(values_lost() < 10);  // by a thread that lost its processor inside
}

TEST_CASE("custom profiles: threads that make profiles at once agree on them") {
  const test::Recording recording;
  std::vector<std::string> names;
  for (int i = 0; i < 20; ++i) names.push_back(fresh_name());
  std::vector<std::vector<CustomProfile*>> made(8);
  test::in_threads(8, [&](int thread) {
    for (const std::string& name : names)
      made[static_cast<size_t>(thread)].push_back(make_profile(name.c_str()));
  });
  for (const auto& own : made) CHECK((own == made[0]));
  CHECK(tables.customs.used() == names.size());
}

TEST_CASE("custom profiles: a new dump has a known profile again when something is added") {
  const std::string name = fresh_name();
  CustomProfile* profile;
  {
    const test::Recording recording;
    profile = make_profile(name.c_str());
    REQUIRE(add_here(profile, value(1)));
  }
  const test::Recording recording;
  CHECK(find_profile(name.c_str()) == profile);
  CHECK(values_in(profile) == 0);
  CHECK_FALSE(remove_value(profile, value(1)));
  CHECK(number_of(name) == kNoRow);
  REQUIRE(add_here(profile, value(1)));
  CHECK(number_of(name) == 0);
  CHECK(sums_of(0) == Sums{1, 0});
}

// Takes what is left of the places: the last test of this file.
TEST_CASE("custom profiles: there are so many and no more") {
  const test::Recording recording;
  uint32_t made = 0;
  while (make_profile(("many " + std::to_string(made)).c_str()) != nullptr) ++made;
  CHECK(made > 400);
  CHECK(made < kMostCustomProfiles);
  CHECK(find_profile("many 0") != nullptr);
  CHECK(make_profile("many 0") == find_profile("many 0"));
}

}  // namespace
}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
#include "dumper/combine_profiles.h"

#include <array>
#include <limits>
#include <map>
#include <random>
#include <stdexcept>

#include "dumper/decode_pprof.h"
#include "dumper/encode_pprof.h"
#include "tests/unit/catch.h"
#include "tests/unit/pprof_tool.h"
#include "tests/unit/profile_parts.h"

namespace mprof::dumper {
namespace {

using test::count_of;
using test::counts;
using test::error_of;
using test::names;

using Names = std::vector<std::string>;

std::vector<int64_t> totals(const Profile& profile) {
  std::vector<int64_t> sums(profile.types.size());
  for (const Sample& sample : profile.samples)
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += sample.values[i];
  return sums;
}

// A run of one program, loaded somewhere: stacks of its ten functions, with and without names, some
// with labels.
Profile run_of_program(uint64_t seed) {
  std::mt19937_64 random(seed);
  Profile profile = test::empty_heap();
  profile.time_nanos += static_cast<int64_t>(seed);
  ProfileBuilder b(profile);
  const uint64_t base = 0x550000000000 + (random() % 1000) * 0x1000;
  const int32_t app = b.mapping({base, base + 0x9000, 0x1000, "/opt/app", "ab12", true});
  std::vector<uint32_t> locations;
  for (uint64_t i = 0; i < 10; ++i) {
    std::vector<Line> lines;
    if (i % 3 != 0) lines = {{b.function("f" + std::to_string(i), "/src/app.cc"), 10, 0}};
    locations.push_back(b.location(app, base + 0x100 * i, lines));
  }
  for (int i = 0; i < 200; ++i) {
    Sample sample{{}, {}, {}, {}};
    for (uint64_t depth = 1 + random() % 4; depth-- > 0;)
      sample.locations.push_back(locations[random() % locations.size()]);
    for (int value = 0; value < 4; ++value)
      sample.values.push_back(static_cast<int64_t>(1 + random() % 1000));
    if (random() % 4 == 0)
      sample.labels.push_back({"phase", std::to_string(random() % 3), 0, "", false});
    if (random() % 4 == 0) sample.labels.push_back({"size", "", 64, "bytes", true});
    b.sample(sample);
  }
  return profile;
}

// What a profile says, whatever the order of its rows.
using Contents = std::map<std::string, std::vector<int64_t>>;
Contents contents(const Profile& profile) {
  Contents result;
  for (const Sample& sample : profile.samples) {
    std::string key;
    for (const uint32_t index : sample.locations) {
      const Location& l = profile.locations[index];
      const Mapping& m = profile.mappings[static_cast<size_t>(l.mapping)];
      key += fmt::format("{}+{:x}", m.path, l.address - m.start);
      for (const Line& line : l.lines)
        key += fmt::format(":{}:{}", profile.functions[line.function].name, line.line);
      key += ' ';
    }
    std::vector<std::string> labels;
    for (const Label& l : sample.labels)
      labels.push_back(fmt::format("{}={}{}{}", l.key, l.str, l.num, l.unit));
    std::sort(labels.begin(), labels.end());
    for (const std::string& label : labels) key += label + ' ';
    std::vector<int64_t>& values = result[key];
    values.resize(sample.values.size());
    for (size_t i = 0; i < values.size(); ++i) values[i] += sample.values[i];
  }
  return result;
}

TEST_CASE("combine_profiles: merge adds samples, sums durations and takes the earliest time") {
  Profile early = test::example_heap(), late = test::example_heap();
  late.time_nanos += 1000;
  late.comments.push_back("second run");
  const Profile sum = merge(std::array{late, early});
  REQUIRE(sum.samples.size() == early.samples.size());
  for (size_t i = 0; i < sum.samples.size(); ++i)
    for (size_t v = 0; v < 4; ++v)
      CHECK(sum.samples[i].values[v] == 2 * early.samples[i].values[v]);
  CHECK(sum.time_nanos == early.time_nanos);
  CHECK(sum.duration_nanos == 2 * early.duration_nanos);
  CHECK(sum.comments == late.comments);
  CHECK(sum.mappings == early.mappings);
}

TEST_CASE("combine_profiles: merge brings one file at two load addresses together") {
  std::array<Profile, 2> runs{counts(), counts()};
  const uint64_t bases[] = {0x10000, 0x5550000};
  for (size_t i = 0; i < 2; ++i) {
    ProfileBuilder builder(runs[i]);
    const int32_t app = builder.mapping({bases[i], bases[i] + 0x8000, 0x1000, "app", "beef"});
    const uint32_t location = builder.location(app, bases[i] + 0x123);
    runs[i].locations[location].function_start = bases[i] + 0x100;
    builder.sample(count_of({location}, 1));
  }
  const Profile sum = merge(runs);
  REQUIRE(sum.samples.size() == 1);
  CHECK(sum.samples[0].values[0] == 2);
  REQUIRE(sum.locations.size() == 1);
  CHECK(sum.locations[0].address == 0x10123);
  CHECK(sum.locations[0].function_start == 0x10100);
}

TEST_CASE("combine_profiles: merge of one profile removes rows that no sample names") {
  Profile profile = test::example_heap();
  filter(profile, [](const Sample& sample) { return sample.labels.empty(); });
  const Profile compact = merge(std::span(&profile, 1));
  CHECK(compact.samples.size() == 2);
  CHECK(compact.mappings.size() == 1);
  for (const Function& function : compact.functions) CHECK(function.name != "first_plugin");
}

TEST_CASE("combine_profiles: merge refuses profiles of different values") {
  const std::string error = error_of([] { (void)merge(std::array{counts(), test::empty_heap()}); });
  CHECK(test::contains(error, "\"events/count\" and \"alloc_objects/count alloc_space/bytes"));
  CHECK(error_of([] { (void)merge(std::vector<Profile>{}); }) == "merge: no profiles given");
}

TEST_CASE("combine_profiles: subtract leaves what is new, and the time beyond the base") {
  Profile base = counts(), now = counts();
  base.duration_nanos = 100;
  now.duration_nanos = 250;
  now.time_nanos = 77;
  ProfileBuilder in_base(base), in_now(now);
  in_base.sample({{in_base.synthetic_location("gone")}, {3}, {}, {1.0}});
  in_base.sample(count_of({in_base.synthetic_location("same")}, 5));
  in_now.sample(count_of({in_now.synthetic_location("same")}, 5));
  in_now.sample(count_of({in_now.synthetic_location("new")}, 2));
  const Profile difference = subtract(now, base);
  REQUIRE(difference.samples.size() == 2);
  CHECK(names(difference, difference.samples[0]) == Names{"new"});
  CHECK(difference.samples[1].values[0] == -3);
  CHECK(difference.samples[1].variances == std::vector<double>{1.0});
  CHECK(difference.duration_nanos == 150);
  CHECK(difference.time_nanos == 77);
  CHECK(subtract(now, base, SubtractMode::kMarkBase).samples.size() == 4);
}

TEST_CASE("combine_profiles: functions that differ in anything stay apart") {
  Profile profile = counts();
  profile.functions = {{"f", "_f", "a.c", 1},
                       {"f", "_f", "b.c", 1},
                       {"f", "_g", "a.c", 1},
                       {"f", "_f", "a.c", 2},
                       {"f", "_f", "a.c", 1}};
  for (uint32_t i = 0; i < 5; ++i) {
    profile.locations.push_back({0, -1, {{i, 7, 0}}, 0});
    profile.samples.push_back(count_of({i}, 1 << i));
  }
  const Profile sum = merge(std::span(&profile, 1));
  CHECK(sum.functions.size() == 4);
  REQUIRE(sum.samples.size() == 4);
  CHECK(sum.samples[0].values[0] == 17);
}

TEST_CASE("combine_profiles: columns and folded locations stay apart") {
  Profile profile = counts();
  profile.functions = {{"f", "f", "a.c", 1}};
  profile.locations = {{0, -1, {{0, 7, 1}}, 0}, {0, -1, {{0, 7, 2}}, 0}, {0, -1, {{0, 7, 1}}, 0}};
  profile.locations.push_back({0, -1, {{0, 7, 1}}, 0, true});
  for (uint32_t i = 0; i < 4; ++i) profile.samples.push_back(count_of({i}, 1));
  const Profile sum = merge(std::span(&profile, 1));
  CHECK(sum.samples.size() == 3);
  CHECK(decode_pprof(encode_pprof(sum)).locations == sum.locations);
}

TEST_CASE("combine_profiles: labels count as a set, the values of one key as a list") {
  const Label x{"x", "1", 0, "", false}, y{"y", "", 2, "ns", true}, x2{"x", "2", 0, "", false};
  Profile profile = counts();
  profile.functions = {{"f", "f", "", 0}};
  profile.locations = {{0, -1, {{0, 0, 0}}, 0}};
  for (const std::vector<Label>& labels :
       {std::vector<Label>{x, y}, {y, x}, {x, x2}, {x2, x}, {x}, {y}, {}})
    profile.samples.push_back({{0}, {1}, labels, {}});
  const Profile sum = merge(std::span(&profile, 1));
  REQUIRE(sum.samples.size() == 6);
  CHECK(sum.samples[0].values[0] == 2);
}

TEST_CASE("combine_profiles: generated code is only the same at the same place") {
  std::array<Profile, 3> runs{counts(), counts(), counts()};
  const uint64_t starts[] = {0x10000, 0x20000, 0x10000};
  for (size_t i = 0; i < runs.size(); ++i) {
    ProfileBuilder b(runs[i]);
    const int32_t anonymous = b.mapping({starts[i], starts[i] + 0x1000, 0, "[anon]", ""});
    b.sample(count_of({b.location(anonymous, starts[i] + 8)}, 1));
  }
  const Profile sum = merge(runs);
  REQUIRE(sum.samples.size() == 2);
  CHECK(sum.samples[0].values[0] == 2);
  CHECK(sum.locations[1].address == 0x20008);
}

TEST_CASE("combine_profiles: builds of one path are not one file") {
  std::array<Profile, 2> runs{counts(), counts()};
  for (size_t i = 0; i < runs.size(); ++i) {
    ProfileBuilder b(runs[i]);
    const int32_t app = b.mapping({0x1000, 0x2000, 0, "app", i == 0 ? "aa" : "bb"});
    b.sample(count_of({b.location(app, 0x1010)}, 1));
  }
  CHECK(merge(runs).samples.size() == 2);
}

TEST_CASE("combine_profiles: the default type and the period are those of the first that has one") {
  std::array<Profile, 3> runs{test::empty_heap(), test::empty_heap(), test::empty_heap()};
  runs[1].default_type = 2;
  runs[2].default_type = 3;
  runs[1].period = 1 << 20;
  const Profile sum = merge(runs);
  CHECK(sum.default_type == 2);
  CHECK(sum.period == 1 << 20);
}

TEST_CASE("combine_profiles: values stop at the ends of the range") {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  Profile huge = counts();
  ProfileBuilder b(huge);
  b.sample(count_of({b.synthetic_location("f")}, kMax));
  CHECK(merge(std::array{huge, huge}).samples[0].values[0] == kMax);
  huge.samples[0].values[0] = std::numeric_limits<int64_t>::min();
  CHECK(subtract(counts(), huge).samples[0].values[0] == kMax);
}

TEST_CASE("combine_profiles: the totals of a merge are the sums of the totals") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Profile a = run_of_program(seed), b = run_of_program(seed + 1000);
    const Profile sum = merge(std::array{a, b});
    std::vector<int64_t> expected = totals(a);
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += totals(b)[i];
    CHECK(totals(sum) == expected);
    CHECK(sum.mappings.size() == 1);
    CHECK(sum.locations.size() == 10);
  }
}

TEST_CASE("combine_profiles: a profile minus itself is empty") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Profile a = run_of_program(seed);
    const Profile nothing = subtract(a, a);
    CHECK(nothing.samples.empty());
    CHECK(nothing.locations.empty());
    CHECK(totals(subtract(a, a, SubtractMode::kMarkBase)) == std::vector<int64_t>(4));
  }
}

TEST_CASE("combine_profiles: what was added and taken off again leaves the rest") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Profile a = run_of_program(seed), b = run_of_program(seed + 1000);
    CHECK(contents(subtract(merge(std::array{a, b}), b)) == contents(a));
  }
}

TEST_CASE("combine_profiles: one after the other is the same as all at once") {
  std::vector<Profile> runs;
  for (uint64_t seed = 0; seed < 20; ++seed) runs.push_back(run_of_program(seed));
  ProfileSum sum;
  for (const Profile& run : runs) sum.add(run);
  const Profile whole = sum.take();
  CHECK(whole == merge(runs));
  Profile folded = runs[0];
  for (size_t i = 1; i < runs.size(); ++i) folded = merge(std::array{folded, runs[i]});
  CHECK(folded == whole);
}

TEST_CASE("combine_profiles: a sum keeps distinct rows only, however many files are added") {
  ProfileSum sum;
  for (int i = 0; i < 5000; ++i) sum.add(test::example_heap());
  const Profile whole = sum.take();
  CHECK(whole.samples.size() == test::example_heap().samples.size());
  CHECK(whole.locations.size() == test::example_heap().locations.size());
  CHECK(whole.comments == test::example_heap().comments);
  CHECK(whole.samples[0].values[0] == 50'000);
}

TEST_CASE("combine_profiles: a refused profile leaves the sum as it was") {
  ProfileSum sum;
  sum.add(test::example_heap());
  CHECK_THROWS_AS(sum.add(counts()), std::invalid_argument);
  CHECK(sum.take() == merge(std::array{test::example_heap()}));
}

TEST_CASE("combine_profiles: base samples carry the mark once, also when they had it before") {
  const Profile a = test::example_heap();
  const Profile twice =
      subtract(a, subtract(a, a, SubtractMode::kMarkBase), SubtractMode::kMarkBase);
  for (const Sample& sample : twice.samples) {
    size_t marks = 0;
    for (const Label& label : sample.labels) marks += label.key == "pprof::base";
    CHECK(marks <= 1);
  }
}

TEST_CASE("combine_profiles: scaled to a total, a profile has it but for rounding") {
  Profile a = run_of_program(1);
  const Profile b = run_of_program(2);
  a.samples[0].variances = {1, 1, 1, 4};
  const std::vector<double> ratios = scale_to_total(a, b);
  for (size_t i = 0; i < 4; ++i)
    CHECK(std::abs(totals(a)[i] - totals(b)[i]) <= static_cast<int64_t>(a.samples.size()));
  CHECK(a.samples[0].variances[3] == Approx(4 * ratios[3] * ratios[3]));
  Profile nothing = test::empty_heap();
  CHECK(scale_to_total(nothing, b) == std::vector<double>(4, 0.0));
}

// ---- go tool pprof as the judge

// pprof orders equally large tags as a hash table has them.
Names sorted_lines(const std::string& text) {
  Names lines = test::lines_of(text);
  std::sort(lines.begin(), lines.end());
  return lines;
}

// The reports that show all of a profile but the order of its rows.
void compare_with_pprof(const std::string& options, const std::vector<std::string>& files,
                        const Profile& ours) {
  for (const ValueType& type : ours.types)
    for (const char* report : {"-top", "-top -cum", "-tags", "-peek=."}) {
      const std::string how = fmt::format("{} -nodefraction=0 -edgefraction=0 -sample_index={} ",
                                          report, ours.types.size() == 1 ? "0" : type.type);
      const test::ToolOutput judge = test::pprof_of(how + options, files);
      const test::ToolOutput got = test::pprof(how, encode_pprof(ours));
      INFO(how << options);
      CHECK(judge.exit_code == 0);
      CHECK(got.err == judge.err);
      CHECK(sorted_lines(got.out) == sorted_lines(judge.out));
    }
}

const std::array<std::pair<const char*, const char*>, 5> kGoPairs = {{{"heap", "allocs"},
                                                                      {"block", "mutex"},
                                                                      {"cpu", "cpu"},
                                                                      {"goroutine", "goroutine"},
                                                                      {"custom", "custom"}}};

TEST_CASE("combine_profiles: sums of Go's own profiles are pprof's") {
  for (const auto& [a, b] : kGoPairs) {
    const std::vector<std::string> files = {test::golden(a), test::golden(b)};
    compare_with_pprof("@0 @1", files,
                       merge(std::array{decode_pprof(files[0]), decode_pprof(files[1])}));
  }
}

TEST_CASE("combine_profiles: differences of Go's own profiles are pprof's") {
  const auto take_half = [](Profile profile) {
    for (size_t i = 0; i < profile.samples.size(); ++i)
      for (int64_t& value : profile.samples[i].values) value = i % 3 == 0 ? 0 : value / 2 + 3;
    return profile;
  };
  for (const auto& [a, b] : kGoPairs) {
    const Profile base = take_half(decode_pprof(test::golden(a)));
    const Profile now = decode_pprof(test::golden(b));
    const std::vector<std::string> files = {encode_pprof(base), encode_pprof(now)};
    compare_with_pprof("-diff_base=@0 @1", files, subtract(now, base, SubtractMode::kMarkBase));
    Profile scaled = now;
    scale_to_total(scaled, base);
    compare_with_pprof("-normalize -diff_base=@0 @1", files,
                       subtract(scaled, base, SubtractMode::kMarkBase));
  }
}

TEST_CASE("combine_profiles: sums of runs at other addresses are pprof's, labels and all") {
  const Profile a = run_of_program(1), b = run_of_program(2);
  const std::vector<std::string> files = {encode_pprof(a), encode_pprof(b)};
  compare_with_pprof("@0 @1", files, merge(std::array{a, b}));
  compare_with_pprof("-diff_base=@0 @1", files, subtract(b, a, SubtractMode::kMarkBase));
}

}  // namespace
}  // namespace mprof::dumper

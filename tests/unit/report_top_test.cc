// SPDX-License-Identifier: Apache-2.0
#include "dumper/report_top.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "dumper/combine_profiles.h"
#include "dumper/decode_pprof.h"
#include "dumper/encode_pprof.h"
#include "tests/unit/catch.h"
#include "tests/unit/pprof_tool.h"

namespace mprof::dumper {
namespace {

struct Line5 {
  std::vector<std::string> numbers;  // flat flat% sum% cum cum%
  std::string rest;
  bool operator==(const Line5&) const = default;
};

// The rows below the line of column heads.
std::vector<Line5> table(const std::string& text) {
  std::vector<Line5> rows;
  bool is_table = false;
  for (const std::string& line : test::lines_of(text)) {
    if (is_table) {
      std::stringstream in(line);
      Line5 row{std::vector<std::string>(5), ""};
      for (std::string& number : row.numbers) in >> number;
      std::getline(in >> std::ws, row.rest);
      rows.push_back(row);
    }
    is_table |= test::contains(line, "flat%");
  }
  return rows;
}

std::string top(const Profile& profile, const TopOptions& options) {
  return format_top(profile, compute_top(profile, options), options);
}

// Same rows, same order, same formatted numbers as `go tool pprof -top`, and no warning from it.
void compare_with_pprof(const Profile& profile, TopOptions options) {
  options.rows = 0;
  const std::string sort = options.sort == TopSort::kFlat ? "-flat" : "-cum";
  const std::string index =
      options.value_type.empty() ? "" : " -sample_index=" + options.value_type;
  const test::ToolOutput judge =
      test::pprof("-top -nodefraction=0 -edgefraction=0 " + sort + index, encode_pprof(profile));
  const std::string ours = top(profile, options);
  INFO(judge.out << judge.err << "\n" << ours);
  CHECK(judge.exit_code == 0);
  CHECK(judge.err == "");
  const std::vector<Line5> expected = table(judge.out), got = table(ours);
  REQUIRE_FALSE(expected.empty());
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CHECK(got[i].numbers == expected[i].numbers);
    const std::string& name = expected[i].rest;
    CHECK((got[i].rest == name || got[i].rest.starts_with(name + "  ")));
  }
}

const TopRow& row(const TopReport& report, const std::string& name) {
  const auto found = std::find_if(report.rows.begin(), report.rows.end(),
                                  [&name](const TopRow& r) { return r.name == name; });
  if (found == report.rows.end()) throw std::runtime_error("no row " + name);
  return *found;
}

Profile with_variances() {
  Profile profile = test::empty_heap();
  ProfileBuilder b(profile);
  const uint32_t leaf = b.location(-1, 1, {{b.function("leaf", "/src/a.c"), 3}});
  const uint32_t main = b.location(-1, 2, {{b.function("main", "/src/a.c"), 9}});
  b.sample({{leaf, leaf, main}, {1, 1000, 1, 1000}, {}, {0, 9, 0, 900}});
  b.sample({{main}, {1, 3000, 1, 3000}, {}, {0, 16, 0, 1600}});
  return profile;
}

TEST_CASE("report_top: recursion counts once, inlined functions are functions, drop_frames cuts") {
  const TopReport report = compute_top(test::example_heap(), {});
  CHECK(report.type.type == "alloc_space");
  CHECK(report.total == 5256);
  CHECK(report.note.empty());
  CHECK(row(report, "walk(Node*)").flat == 5096);
  CHECK(row(report, "walk(Node*)").cum == 5096);
  CHECK(row(report, "main").flat == 0);
  CHECK(row(report, "main").cum == 1160);
  CHECK(row(report, "App::add(int)").cum == 1160);
  CHECK(row(report, "App::add(int)").inline_note == "(inline)");
  CHECK(row(report, "[truncated]").cum == 4096);
  CHECK_THROWS(row(report, "operator new(unsigned long)"));
  TopOptions all;
  all.drop_frames = false;
  CHECK(row(compute_top(test::example_heap(), all), "operator new(unsigned long)").flat == 1000);
}

TEST_CASE("report_top: rows, order and numbers are those of pprof -top") {
  for (const char* type : {"alloc_objects", "alloc_space", "inuse_objects", "inuse_space"})
    for (TopSort sort : {TopSort::kFlat, TopSort::kCum}) {
      TopOptions options;
      options.value_type = type;
      options.sort = sort;
      compare_with_pprof(test::example_heap(), options);
    }
}

TEST_CASE("report_top: the same holds for every value of Go's own profiles") {
  for (const std::string& name : test::golden_names()) {
    const Profile profile = decode_pprof(test::golden(name));
    for (const ValueType& type : profile.types) {
      TopOptions options;
      // A slash in a custom profile's name is fine for pprof, its default type is the same one.
      options.value_type = profile.types.size() == 1 ? "" : type.type;
      compare_with_pprof(profile, options);
    }
  }
}

TEST_CASE("report_top: the same holds for differences, with and without a marked base") {
  Profile now = test::example_heap(), base = test::example_heap();
  for (Sample& sample : base.samples)
    for (int64_t& value : sample.values) value = value / 2 + 7;
  for (SubtractMode mode : {SubtractMode::kDifference, SubtractMode::kMarkBase})
    for (TopSort sort : {TopSort::kFlat, TopSort::kCum}) {
      TopOptions options;
      options.sort = sort;
      compare_with_pprof(subtract(base, now, mode), options);
    }
}

TEST_CASE(
    "report_top: the same holds for frames that drop_frames and keep_frames cut in all ways") {
  Profile profile = test::empty_heap();
  ProfileBuilder b(profile);
  const std::vector<std::string> names = {"malloc",          "f(int)", "rt::panic()",    "g",
                                          "std::allocate()", "main",   "operator()(int)"};
  std::vector<uint32_t> locations;
  for (size_t i = 0; i < names.size(); ++i)
    for (size_t k = 0; k < names.size(); ++k)
      locations.push_back(b.location(-1, 0x1000 + locations.size(),
                                     {{b.function(names[i], "", "_" + names[i]), 1},
                                      {b.function(names[k], "", "_" + names[k]), 2}}));
  uint64_t state = 42;
  for (int64_t i = 1; i <= 300; ++i) {
    Sample sample{{}, {i, i * 10, i, i * 7}, {}, {}};
    for (uint64_t depth = 0; depth < static_cast<uint64_t>(i) % 6; ++depth) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      sample.locations.push_back(locations[(state >> 33) % locations.size()]);
    }
    b.sample(sample);
  }
  profile.drop_frames = "malloc|rt::.*|std::alloc.*|operator\\(\\)";
  profile.keep_frames = "rt::panic";
  compare_with_pprof(profile, {});
}

TEST_CASE("report_top: errors of independent samples add as squares, recursion counted once") {
  const TopReport report = compute_top(with_variances(), {});
  CHECK(report.is_estimate);
  CHECK(report.total == 4000);
  CHECK(std::sqrt(report.total_variance) == 50);
  CHECK(row(report, "leaf").flat_variance == 900);
  CHECK(row(report, "leaf").cum_variance == 900);
  CHECK(row(report, "main").flat_variance == 1600);
  CHECK(row(report, "main").cum_variance == 2500);
}

TEST_CASE("report_top: the table of an estimate, to the byte") {
  Profile profile = with_variances();
  profile.mappings.push_back({0, 0, 0, "/opt/app", ""});
  TopOptions options;
  options.unit = "B";
  CHECK(top(profile, options) ==
        "Type: inuse_space, of app, at 2023-11-14 22:13:20 UTC, over 2.50s\n"
        "Total: 4000B ± 50B; 2 of 2 functions shown, accounting for 4000B, 100%\n"
        "      flat         ±  flat%   sum%        cum         ±   cum%  function\n"
        "     3000B       40B 75.00% 75.00%      4000B       50B   100%  main  /src/a.c:9\n"
        "     1000B       30B 25.00%   100%      1000B       30B 25.00%  leaf  /src/a.c:3\n");
}

TEST_CASE("report_top: exact values have no error columns; rows are limited") {
  TopOptions options;
  options.rows = 1;
  options.value_type = "inuse_objects";
  CHECK(top(test::example_heap(), options) ==
        "Type: inuse_objects, of app, at 2023-11-14 22:13:20 UTC, over 2.50s\n"
        "Total: 7; 1 of 5 functions shown, accounting for 5, 71.43%\n"
        "command: ./app --fast\n"
        "lost: 3 events\n"
        "      flat  flat%   sum%        cum   cum%  function\n"
        "         5 71.43% 71.43%          5 71.43%  walk(Node*)  /src/app.cc:33\n");
}

TEST_CASE("report_top: values have pprof's units") {
  CHECK(format_value(0, "bytes", "auto") == "0");
  CHECK(format_value(1023, "bytes", "auto") == "1023B");
  CHECK(format_value(1536, "bytes", "auto") == "1.50kB");
  CHECK(format_value(-3 * 1024 * 1024, "bytes", "auto") == "-3MB");
  CHECK(format_value(1536, "bytes", "B") == "1536B");
  CHECK(format_value(1500, "nanoseconds", "auto") == "1.50us");
  CHECK(format_value(2e9, "nanoseconds", "ms") == "2000ms");
  CHECK(format_value(90, "seconds", "auto") == "90s");
  CHECK(format_value(12345, "count", "auto") == "12345");
  CHECK(format_value(7, "widgets", "widgets") == "7widgets");
}

TEST_CASE("report_top: a narrow terminal shortens directory, then name, then place") {
  Profile profile = with_variances();
  profile.functions[0] = {"a_function_with_quite_a_long_name(int, char)", "",
                          "/a/rather/deep/folder/source.cc", 1};
  TopOptions options;
  const auto line = [&](size_t width) {
    options.width_columns = width;
    const std::vector<std::string> lines = test::lines_of(top(profile, options));
    return lines.back();
  };
  const std::string numbers = "     1000B       30B 25.00%   100%      1000B       30B 25.00%  ";
  CHECK(line(0) == numbers +
                       "a_function_with_quite_a_long_name(int, char)  "
                       "/a/rather/deep/folder/source.cc:3");
  CHECK(line(150) == line(0));
  CHECK(line(130) == numbers + "a_function_with_quite_a_long_name(int, char)  source.cc:3");
  CHECK(line(110) == numbers + "a_function_with_quite_a_long_nam…  source.cc:3");
  CHECK(line(85) == numbers + "a_function_with_quit…");
}

TEST_CASE("report_top: names cannot send control sequences to the terminal") {
  Profile profile = with_variances();
  profile.functions[0].name = "red\x1b[31m\xc2\x9b\n";
  profile.comments = {"\x1b]0;title\x07"};
  const std::string text = top(profile, {});
  CHECK(test::contains(text, "red?[31m??"));
  CHECK(test::contains(text, "?]0;title?"));
  CHECK(std::count(text.begin(), text.end(), '\x1b') == 0);
}

TEST_CASE("report_top: an expression that is not understood is named, and nothing is dropped") {
  Profile profile = test::example_heap();
  profile.drop_frames = "(?i)malloc";
  const std::string text = top(profile, {});
  CHECK(test::contains(text, "note: drop_frames \"(?i)malloc\" is not understood"));
  CHECK(test::contains(text, "operator new(unsigned long)"));
}

TEST_CASE("report_top: an empty profile, and a value type it does not have") {
  CHECK(test::contains(top(test::empty_heap(), {}), "Total: 0; 0 of 0 functions shown"));
  TopOptions options;
  options.value_type = "cpu";
  CHECK_THROWS_AS(compute_top(test::empty_heap(), options), std::invalid_argument);
}

TEST_CASE("report_top: a file descriptor that is no terminal has no width") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK(terminal_width_columns(ends[1]) == 0);
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/report_diff.h"

#include <map>
#include <stdexcept>

#include "dumper/combine_profiles.h"
#include "dumper/decode_pprof.h"
#include "dumper/encode_pprof.h"
#include "tests/unit/catch.h"
#include "tests/unit/pprof_tool.h"

namespace mprof::dumper {
namespace {

using Values = std::map<std::string, int64_t>;  // by function

// A heap in which each function, called by main, has so many bytes.
Profile heap_of(const Values& bytes) {
  Profile profile = test::empty_heap();
  ProfileBuilder b(profile);
  const int32_t app = b.mapping({0x1000, 0x9000, 0, "/opt/app", "ab", true});
  const uint32_t main = b.location(app, 0x1001, {{b.function("main", "/src/a.c"), 9, 0}});
  for (const auto& [name, value] : bytes) {
    const uint32_t address = b.function(name, "/src/" + name + ".c");
    const uint32_t leaf = b.location(app, 0x2000 + address, {{address, 3, 0}});
    b.sample({{leaf, main}, {1, value, 1, value}, {}, {}});
  }
  return profile;
}

Values differences(const DiffReport& report) {
  Values result;
  for (const DiffRow& row : report.rows) result[row.function.name] = row.value.difference;
  return result;
}

std::vector<std::string> order(const DiffReport& report) {
  std::vector<std::string> names;
  for (const DiffRow& row : report.rows) names.push_back(row.function.name);
  return names;
}

std::string table(const Profile& a, const Profile& b, const DiffOptions& options) {
  return format_diff({"a.pb.gz", a}, {"b.pb.gz", b}, compute_diff(a, b, options), options);
}

std::string without(const std::string& text, const std::string& end) {
  return text.ends_with(end) ? text.substr(0, text.size() - end.size()) : text;
}

// Function -> flat or cum as `go tool pprof -top -diff_base` prints it, those of zero left out.
std::map<std::string, std::string> judged(const Profile& a, const Profile& b,
                                          const std::string& type, TopSort by) {
  const test::ToolOutput judge = test::pprof_of(
      fmt::format("-top -nodefraction=0 -unit=B -sample_index={} -diff_base=@0 @1", type),
      {encode_pprof(a), encode_pprof(b)});
  REQUIRE(judge.exit_code == 0);
  std::map<std::string, std::string> result;
  bool is_table = false;
  for (const std::string& line : test::lines_of(judge.out)) {
    if (is_table) {
      std::stringstream in(line);
      std::string flat, percent, sum, cum, cum_percent, name;
      in >> flat >> percent >> sum >> cum >> cum_percent;
      std::getline(in >> std::ws, name);
      const std::string value = by == TopSort::kFlat ? flat : cum;
      name = without(without(name, " (inline)"), " (partial-inline)");
      if (value != "0" && value != "0B") result[name] = value;
    }
    is_table |= test::contains(line, "flat%");
  }
  return result;
}

TEST_CASE("report_diff: rows are sorted by how much they differ, in either direction") {
  const Profile a = heap_of({{"gone", 300}, {"grown", 100}, {"same", 70}, {"shrunk", 500}});
  const Profile b = heap_of({{"grown", 1100}, {"new", 200}, {"same", 70}, {"shrunk", 100}});
  const DiffReport report = compute_diff(a, b, {});
  CHECK(order(report) == std::vector<std::string>{"grown", "shrunk", "gone", "new"});
  CHECK(differences(report) ==
        Values{{"gone", -300}, {"grown", 1000}, {"new", 200}, {"shrunk", -400}});
  CHECK(report.equal_functions == 2);  // same, and main without its callees
  CHECK(report.total.a == 970);
  CHECK(report.total.b == 1470);
  CHECK(report.total.difference == 500);
}

TEST_CASE("report_diff: with callees the caller differs too") {
  DiffOptions options;
  options.by = TopSort::kCum;
  const DiffReport report = compute_diff(heap_of({{"f", 10}}), heap_of({{"f", 30}}), options);
  CHECK(differences(report) == Values{{"f", 20}, {"main", 20}});
}

TEST_CASE("report_diff: the table, to the byte") {
  const Profile a = heap_of({{"gone", 300}, {"grown", 100}, {"same", 70}});
  Profile b = heap_of({{"grown", 1100}, {"new", 200}, {"same", 70}});
  b.comments = {"lost: 3 events", "# for programs"};
  DiffOptions in_bytes;
  in_bytes.unit = "B";
  CHECK(table(a, b, in_bytes) ==
        "Type: inuse_space, without callees (flat)\n"
        "A: a.pb.gz, of app, at 2023-11-14 22:13:20 UTC, over 2.50s\n"
        "B: b.pb.gz, of app, at 2023-11-14 22:13:20 UTC, over 2.50s\n"
        "Total: 470B in A, 1370B in B: +900B, +191.49%; 3 of 3 functions that differ shown, 2 are "
        "equal\n"
        "B: lost: 3 events\n"
        "         A          B         B-A      B-A%  function\n"
        "      100B      1100B      +1000B +1000.00%  grown  /src/grown.c:3\n"
        "      300B          0       -300B      gone  gone  /src/gone.c:3\n"
        "         0       200B       +200B       new  new  /src/new.c:3\n");
}

TEST_CASE("report_diff: what both sides say is said once, rows and width are limited") {
  Profile a = heap_of({{"gone", 300}, {"grown", 100}});
  Profile b = heap_of({{"grown", 1100}});
  a.comments = {"command line: ./app", "from a"};
  b.comments = {"command line: ./app"};
  DiffOptions options;
  options.rows = 1;
  options.width_columns = 65;
  const std::string text = table(a, b, options);
  CHECK(test::contains(text, "equal\ncommand line: ./app\nA: from a\n         A "));
  CHECK(test::contains(text, "1 of 2 functions that differ shown"));
  CHECK(test::contains(text, "grown  grown.c:3\n"));
  CHECK_FALSE(test::contains(text, "gone"));
}

TEST_CASE("report_diff: errors of two estimates add as squares") {
  Profile a = heap_of({{"f", 1000}}), b = heap_of({{"f", 4000}});
  a.samples[0].variances = {0, 0, 0, 900};
  b.samples[0].variances = {0, 0, 0, 1600};
  const DiffReport report = compute_diff(a, b, {});
  CHECK(report.is_estimate);
  CHECK(report.rows[0].value.variance == 2500);
  CHECK(report.total.variance == 2500);
  DiffOptions in_bytes;
  in_bytes.unit = "B";
  CHECK(test::contains(table(a, b, in_bytes),
                       "     1000B      4000B      +3000B       50B  +300.00%  f"));
}

TEST_CASE("report_diff: there is no error to show when one side does not know its own") {
  Profile a = heap_of({{"f", 1000}}), b = heap_of({{"f", 4000}});
  b.samples[0].variances = {0, 0, 0, 1600};
  CHECK_FALSE(test::contains(table(a, b, {}), "±"));
}

TEST_CASE("report_diff: a profile does not differ from itself") {
  for (const std::string& name : test::golden_names()) {
    const Profile profile = decode_pprof(test::golden(name));
    const DiffReport report = compute_diff(profile, profile, {});
    CHECK(report.rows.empty());
    CHECK(report.equal_functions > 0);
    CHECK(report.total.difference == 0);
  }
}

TEST_CASE("report_diff: frames that B leaves out are left out of A") {
  Profile a = test::example_heap(), b = test::example_heap();
  a.drop_frames.clear();
  CHECK(compute_diff(a, b, {}).rows.empty());
  b.drop_frames = "(?i)malloc";
  CHECK(test::contains(table(a, b, {}), "note: drop_frames \"(?i)malloc\" is not understood"));
}

TEST_CASE("report_diff: functions and numbers are those of pprof -diff_base") {
  const auto changed = [](Profile profile) {
    for (size_t i = 0; i < profile.samples.size(); ++i)
      for (int64_t& value : profile.samples[i].values) value = i % 3 == 0 ? 0 : value * 2 - 7;
    return profile;
  };
  std::vector<Profile> profiles = {test::example_heap()};
  for (const char* name : {"heap", "mutex", "cpu"})
    profiles.push_back(decode_pprof(test::golden(name)));
  for (const Profile& b : profiles)
    for (const ValueType& type : b.types)
      for (const TopSort by : {TopSort::kFlat, TopSort::kCum}) {
        const Profile a = changed(b);
        DiffOptions options;
        options.value_type = type.type;
        options.by = by;
        std::map<std::string, std::string> ours;
        for (const auto& [name, value] : differences(compute_diff(a, b, options)))
          ours[name] = format_value(static_cast<double>(value), type.unit, "B");
        INFO(type.type);
        CHECK(ours == judged(a, b, type.type, by));
      }
}

TEST_CASE("report_diff: profiles of different values are refused") {
  Profile other = test::empty_heap();
  other.types.pop_back();
  CHECK_THROWS_AS(compute_diff(test::empty_heap(), other, {}), std::invalid_argument);
  DiffOptions options;
  options.value_type = "cpu";
  CHECK_THROWS_AS(compute_diff(test::empty_heap(), test::empty_heap(), options),
                  std::invalid_argument);
}

}  // namespace
}  // namespace mprof::dumper

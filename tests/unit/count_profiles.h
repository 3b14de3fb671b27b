// SPDX-License-Identifier: Apache-2.0
// For the tests of count profiles: what a dump in memory is written as, and what pprof says of it.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "dumper/count_profile.h"
#include "dumper/write_profiles.h"
#include "tests/unit/catch.h"
#include "tests/unit/dump_image.h"
#include "tests/unit/pprof_tool.h"

namespace mprof::test {

inline constexpr uint64_t kMs = 1'000'000;

// Without files: names are places, the same on every machine.
struct Names {
  explicit Names(const dumper::Dump& dump)
      : symbolizer(dumper::SymbolOptions{dumper::SymbolDetail::kNone, false, {}, {}}),
        labels(dump, symbolizer, dumper::SymbolDetail::kNone) {}
  dumper::Symbolizer symbolizer;
  dumper::LabelNames labels;
};

inline dumper::Dump open(const testing::DumpImage& image) {
  return dumper::Dump::from_fd(image.duplicate(), "image", false);
}

inline dumper::Profile profile_of(const dumper::Dump& dump, format::CountKind kind) {
  Names names(dump);
  return make_profile(dump, read_counts(dump), kind, names.labels).profile;
}

inline dumper::Profile profile_of(const testing::DumpImage& image, format::CountKind kind) {
  return profile_of(open(image), kind);
}

inline int64_t total(const dumper::Profile& profile, size_t value) {
  int64_t all = 0;
  for (const dumper::Sample& sample : profile.samples) all += sample.values[value];
  return all;
}

inline std::optional<std::string> label_of(const dumper::Sample& sample, const std::string& key) {
  for (const dumper::Label& label : sample.labels)
    if (label.key == key) return label.str;
  return std::nullopt;
}

// Empty for code, which has no names here.
inline std::string leaf_name(const dumper::Profile& profile, const dumper::Sample& sample) {
  const dumper::Location& leaf = profile.locations[sample.locations.front()];
  return leaf.lines.empty() ? "" : profile.functions[leaf.lines.front().function].name;
}

inline bool some_comment(const dumper::Profile& profile, const std::string& part) {
  return std::any_of(profile.comments.begin(), profile.comments.end(),
                     [&](const std::string& c) { return contains(c, part); });
}

inline bool near(double value, double expected) {
  return std::abs(value - expected) <= 1e-6 * std::abs(expected);
}

// The names of the files, without the folder.
struct Written {
  std::vector<std::string> names;
  std::vector<std::string> bytes;
};

inline Written write_views(const testing::DumpImage& image, const std::vector<dumper::View>& views,
                           bool text) {
  const ScratchFolder folder;
  dumper::Dump dump = open(image);
  dumper::Symbolizer symbolizer(dumper::SymbolOptions{dumper::SymbolDetail::kNone, false, {}, {}});
  const dumper::OutputOptions options{views, folder.file("."), text, dumper::SymbolDetail::kNone};
  Written written;
  for (const auto& path : write_profiles(dump, read_whole(dump), {}, options, symbolizer)) {
    written.names.push_back(std::filesystem::path(path).filename());
    written.bytes.push_back(read_file(path));
  }
  return written;
}

inline std::string write_one(const testing::DumpImage& image, const dumper::View& view, bool text) {
  const Written written = write_views(image, {view}, text);
  REQUIRE(written.bytes.size() == 1);
  return written.bytes.front();
}

// What pprof says about a file, which it must accept without a word on stderr. The program of these
// tests is on no disk.
inline std::string pprof_output(const std::string& options, const std::string& bytes) {
  const ToolOutput result = pprof("-symbolize=none " + options, bytes);
  INFO(result.out << result.err);
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
  return result.out;
}

// Sums over pprof's own list of samples, "  3  300000000: 1 2   ".
inline std::vector<int64_t> totals_by_pprof(const std::string& bytes, size_t values) {
  std::vector<int64_t> sums(values);
  const auto lines = lines_of(pprof_output("-raw", bytes));
  auto line = std::find(lines.begin(), lines.end(), "Samples:");
  for (; line != lines.end() && *line != "Locations"; ++line) {
    std::stringstream in(*line);
    std::vector<int64_t> row(values);
    for (int64_t& value : row) in >> value;
    if (in.get() != ':') continue;
    for (size_t i = 0; i < values; ++i) sums[i] += row[i];
  }
  return sums;
}

}  // namespace mprof::test

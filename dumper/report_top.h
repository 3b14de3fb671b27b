// SPDX-License-Identifier: Apache-2.0
// `mprof top`: the functions a profile's value is spent in. Numbers, order and units are those of
// `pprof -top`, so that the two can be compared line by line; what is added is the standard error
// of an estimate and the place in the source.
//
// Threads   any.
// Fails     std::invalid_argument: an inconsistent profile, or a value type it does not have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dumper/profile.h"

namespace mprof::dumper {

enum class TopSort { kFlat, kCum };

struct TopOptions {
  TopSort sort = TopSort::kFlat;
  size_t rows = 20;           // 0: all
  std::string value_type;     // by name; "": the profile's default
  std::string unit = "auto";  // "auto": one that suits all rows; else "MB", "ms", ...
  bool drop_frames = true;    // apply the profile's drop_frames
  size_t width_columns = 0;   // of the terminal; 0: do not shorten anything
};

struct TopRow {
  std::string name;
  std::string inline_note;  // "(inline)", "(partial-inline)" or nothing
  std::string file;         // where most of the value was seen; "" if unknown
  int64_t line = 0;
  int64_t flat = 0;  // of samples whose leaf it is
  int64_t cum = 0;   // of samples it is anywhere in, each counted once
  double flat_variance = 0;
  double cum_variance = 0;
};

struct TopReport {
  ValueType type;
  std::vector<TopRow> rows;  // all of them, sorted
  int64_t total = 0;
  double total_variance = 0;
  bool is_estimate = false;  // some sample has variances
  std::string note;          // why drop_frames was not applied
};

[[nodiscard]] TopReport compute_top(const Profile& profile, const TopOptions& options);
[[nodiscard]] std::string format_top(const Profile& profile, const TopReport& report,
                                     const TopOptions& options);

// "1.50MB", scaled to `to_unit` ("auto": the largest that keeps it >= 1). pprof's rules.
[[nodiscard]] std::string format_value(double value, std::string_view from_unit,
                                       std::string_view to_unit);

// One unit for all values of a table, so that a column can be compared at a glance: the smallest
// one's, or, if the largest (`total`) is a hundred times it, the one that shows the smallest as at
// least 0.01.
[[nodiscard]] std::string common_unit(std::span<const int64_t> values, int64_t total,
                                      const std::string& from_unit);

// Name and place of a row, to stand behind `taken_columns` of numbers. What shortens one that is
// wider than the terminal, in this order: the directory, the name, the whole place.
[[nodiscard]] std::string described(const TopRow& row, size_t taken_columns, size_t width_columns);

// ", of app, at 2026-01-31 12:00:00 UTC, over 2.50s": what of it is known.
[[nodiscard]] std::string circumstances(const Profile& profile);

// Columns of the terminal behind a file descriptor, 0 when it is none.
[[nodiscard]] size_t terminal_width_columns(int fd);

}  // namespace mprof::dumper

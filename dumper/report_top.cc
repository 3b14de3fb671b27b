// SPDX-License-Identifier: Apache-2.0
#include "dumper/report_top.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <map>
#include <span>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "dumper/terminal_text.h"

namespace mprof::dumper {
namespace {

// ---- units

struct Unit {
  std::string_view name;
  std::array<std::string_view, 3> aliases;
  double factor;
};

constexpr Unit kByteUnits[] = {{"B", {"b", "byte", ""}, 1},
                               {"kB", {"kb", "kbyte", "kilobyte"}, 0x1p10},
                               {"MB", {"mb", "mbyte", "megabyte"}, 0x1p20},
                               {"GB", {"gb", "gbyte", "gigabyte"}, 0x1p30},
                               {"TB", {"tb", "tbyte", "terabyte"}, 0x1p40},
                               {"PB", {"pb", "pbyte", "petabyte"}, 0x1p50}};
constexpr Unit kTimeUnits[] = {{"ns", {"ns", "nanosecond", ""}, 1},
                               {"us", {"μs", "us", "microsecond"}, 1e3},
                               {"ms", {"ms", "millisecond", ""}, 1e6},
                               {"s", {"s", "sec", "second"}, 1e9},
                               {"hrs", {"hour", "hr", ""}, 3600e9}};
constexpr Unit kZeroBytes = kByteUnits[0];
constexpr Unit kZeroTime = kTimeUnits[3];  // pprof shows a time below 1 ns in seconds

const Unit* find_unit(std::span<const Unit> units, std::string_view name) {
  std::string lower(name);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 'a' - 'A');
  if (lower.size() > 2 && lower.ends_with('s')) lower.pop_back();
  if (lower.empty()) return nullptr;
  for (const Unit& unit : units)
    if (std::find(unit.aliases.begin(), unit.aliases.end(), lower) != unit.aliases.end())
      return &unit;
  return nullptr;
}

const Unit& largest_fitting(std::span<const Unit> units, double base_value, const Unit& fallback) {
  const Unit* best = &fallback;
  bool found = false;
  for (const Unit& unit : units)
    if (base_value / unit.factor >= 1 && (!found || unit.factor >= best->factor)) {
      best = &unit;
      found = true;
    }
  return *best;
}

struct Scaled {
  double value;
  std::string unit;
};

Scaled scale(double value, std::string_view from, std::string_view to) {
  if (value < 0) {
    const Scaled positive = scale(-value, from, to);
    return {-positive.value, positive.unit};
  }
  const std::pair<std::span<const Unit>, const Unit*> families[] = {{kByteUnits, &kZeroBytes},
                                                                    {kTimeUnits, &kZeroTime}};
  for (const auto& [units, fallback] : families) {
    const Unit* source = find_unit(units, from);
    if (source == nullptr) continue;
    const double base = value * source->factor;
    const Unit* named = to == "auto" ? nullptr : find_unit(units, to);
    const Unit& unit = named != nullptr ? *named
                       : to == "auto"   ? largest_fitting(units, base, *fallback)
                                        : *fallback;
    return {base / unit.factor, std::string(unit.name)};
  }
  const bool is_plain = to == "count" || to == "sample" || to == "unit" || to == "auto";
  return {value, is_plain ? "" : std::string(to)};
}

std::string percentage(int64_t value, int64_t total) {
  const double percent =
      total == 0 ? 0 : std::fabs(static_cast<double>(value) / static_cast<double>(total)) * 100;
  if (percent >= 99.95 && percent <= 100.05) return "  100%";
  return percent >= 1 ? fmt::format("{:5.2f}%", percent) : fmt::format("{:5.2g}%", percent);
}

// ---- numbers

int64_t magnitude(int64_t value) { return value < 0 ? saturating_negate(value) : value; }

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

class TopBuilder {
 public:
  TopBuilder(const Profile& profile, size_t value) : profile_(profile), value_(value) {
    for (const Location& l : profile.locations) nodes_of_.push_back(nodes(l));
  }

  void run(TopReport& report) {
    for (const Sample& s : profile_.samples) {
      ++sample_number_;
      const double variance = s.variances.empty() ? 0 : s.variances[value_];
      report.is_estimate |= !s.variances.empty();
      add_total(report, s, variance);
      if (s.values[value_] != 0 || variance != 0) add_stack(s, s.values[value_], variance);
    }
    if (base_total_ > 0)
      std::tie(report.total, report.total_variance) = {base_total_, base_variance_};
    finish(report);
  }

 private:
  struct Node {
    TopRow row;
    uint64_t last_sample = 0;
    bool is_ever_inlined = false;  // if not, its callers need no bookkeeping
    bool has_inline_caller = false;
    bool has_plain_caller = false;
    std::map<std::pair<uint32_t, int64_t>, int64_t> places;  // (function, line) -> value seen there
  };
  struct Edge {
    uint64_t last_sample = 0;
    bool is_inline = true;
  };
  struct Frame {
    uint32_t node;
    const Line* line;  // nullptr: unsymbolized
  };

  // Functions are told apart by name alone, so overloads shown without their arguments and copies
  // in several files add up; frames without a name, by the file they are mapped from.
  std::vector<Frame> nodes(const Location& l) {
    std::vector<Frame> frames;
    if (l.lines.empty()) frames.push_back({node(object_name(l)), nullptr});
    for (const Line& line : l.lines) {
      const std::string& name = profile_.functions[line.function].name;
      frames.push_back({node(name.empty() ? object_name(l) : name), &line});
      if (frames.size() < l.lines.size()) nodes_[frames.back().node].is_ever_inlined = true;
    }
    return frames;
  }

  std::string object_name(const Location& l) const {
    if (l.mapping < 0) return "<unknown>";
    const std::string& path = profile_.mappings[static_cast<size_t>(l.mapping)].path;
    return path.empty() ? "<unknown>" : "[" + base_name(path) + "]";
  }

  uint32_t node(const std::string& name) {
    const auto [row, is_new] = by_name_.try_emplace(name, static_cast<uint32_t>(nodes_.size()));
    if (is_new) nodes_.emplace_back().row.name = name;
    return row->second;
  }

  // Totals are of magnitudes; marked base samples of a difference, where there are any, are the
  // whole that percentages refer to.
  void add_total(TopReport& report, const Sample& s, double variance) {
    const int64_t value = magnitude(s.values[value_]);
    report.total = saturating_add(report.total, value);
    report.total_variance += variance;
    const auto is_base = [](const Label& l) { return l.key == "pprof::base" && l.str == "true"; };
    if (std::none_of(s.labels.begin(), s.labels.end(), is_base)) return;
    base_total_ = saturating_add(base_total_, value);
    base_variance_ += variance;
  }

  // From the root to the leaf. A recursive function counts once.
  void add_stack(const Sample& s, int64_t value, double variance) {
    Node* caller = nullptr;
    uint32_t caller_index = 0;
    for (size_t i = s.locations.size(); i-- > 0;) {
      const std::vector<Frame>& frames = nodes_of_[s.locations[i]];
      for (size_t k = frames.size(); k-- > 0;) {
        Node& node = nodes_[frames[k].node];
        if (std::exchange(node.last_sample, sample_number_) != sample_number_)
          add_cum(node, value, variance);
        if (frames[k].line != nullptr) add_place(node, *frames[k].line, value);
        if (node.is_ever_inlined && caller != nullptr && caller != &node && value != 0)
          add_edge(caller_index, frames[k].node, k + 1 != frames.size());
        caller = &node;
        caller_index = frames[k].node;
      }
    }
    if (caller == nullptr) return;
    caller->row.flat = saturating_add(caller->row.flat, value);
    caller->row.flat_variance += variance;
  }

  static void add_cum(Node& node, int64_t value, double variance) {
    node.row.cum = saturating_add(node.row.cum, value);
    node.row.cum_variance += variance;
  }

  static void add_place(Node& node, const Line& line, int64_t value) {
    int64_t& seen = node.places[{line.function, line.line}];
    seen = saturating_add(seen, magnitude(value));
  }

  // A call counts as inlined when it was in every stack that has it (in its first place there).
  void add_edge(uint32_t caller, uint32_t callee, bool is_inline) {
    Edge& edge = edges_[uint64_t{caller} << 32 | callee];
    if (std::exchange(edge.last_sample, sample_number_) != sample_number_)
      edge.is_inline &= is_inline;
  }

  void finish(TopReport& report) {
    for (const auto& [key, edge] : edges_) {
      Node& callee = nodes_[key & 0xffffffff];
      (edge.is_inline ? callee.has_inline_caller : callee.has_plain_caller) = true;
    }
    for (Node& node : nodes_) {
      if (node.row.flat == 0 && node.row.cum == 0) continue;
      set_place(node);
      if (node.has_inline_caller)
        node.row.inline_note = node.has_plain_caller ? "(partial-inline)" : "(inline)";
      report.rows.push_back(std::move(node.row));
    }
  }

  void set_place(Node& node) const {
    const auto lighter = [](const auto& a, const auto& b) { return a.second < b.second; };
    const auto heaviest = std::max_element(node.places.begin(), node.places.end(), lighter);
    if (heaviest == node.places.end()) return;
    const Function& function = profile_.functions[heaviest->first.first];
    node.row.file = function.file;
    node.row.line = heaviest->first.second != 0 ? heaviest->first.second : function.start_line;
  }

  const Profile& profile_;
  size_t value_;
  std::vector<std::vector<Frame>> nodes_of_;  // of each location, innermost first
  std::vector<Node> nodes_;
  std::unordered_map<std::string, uint32_t> by_name_;
  std::unordered_map<uint64_t, Edge> edges_;  // caller << 32 | callee
  uint64_t sample_number_ = 0;
  int64_t base_total_ = 0;
  double base_variance_ = 0;
};

void sort_rows(std::vector<TopRow>& rows, TopSort by) {
  const auto key = [by](const TopRow& row) {
    const int64_t flat = magnitude(row.flat), cum = magnitude(row.cum);
    return by == TopSort::kFlat ? std::pair(flat, cum) : std::pair(cum, flat);
  };
  std::sort(rows.begin(), rows.end(), [&key](const TopRow& a, const TopRow& b) {
    const auto [a_first, a_second] = key(a);
    const auto [b_first, b_second] = key(b);
    return std::tie(b_first, a.name, b_second) < std::tie(a_first, b.name, a_second);
  });
}

// ---- text

std::string place_of(const TopRow& row, bool with_directory) {
  if (row.file.empty()) return "";
  const std::string file = printable(with_directory ? row.file : base_name(row.file));
  return row.line == 0 ? file : fmt::format("{}:{}", file, row.line);
}

size_t room_columns(size_t taken, size_t width) {
  constexpr size_t kMinRoom = 10;
  if (width == 0) return 0;
  return width > taken + 2 + kMinRoom ? width - taken - 2 : kMinRoom;
}

std::vector<int64_t> shown_values(std::span<const TopRow> rows) {
  std::vector<int64_t> values;
  for (const TopRow& row : rows) values.push_back(row.flat != 0 ? row.flat : row.cum);
  return values;
}

std::string time_of(const Profile& profile) {
  const time_t seconds = profile.time_nanos / 1'000'000'000;
  tm utc{};
  if (gmtime_r(&seconds, &utc) == nullptr) return "an unknown time";
  char text[64];
  strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &utc);
  return text;
}

class TopFormatter {
 public:
  TopFormatter(const Profile& profile, const TopReport& report, const TopOptions& options)
      : profile_(profile), report_(report), options_(options) {
    const size_t count = options.rows == 0 ? report.rows.size() : options.rows;
    rows_ = std::span(report.rows).first(std::min(count, report.rows.size()));
    unit_ = options.unit == "auto"
                ? common_unit(shown_values(rows_), report.total, report.type.unit)
                : options.unit;
  }

  std::string run() const {
    std::string out =
        "Type: " + printable(report_.type.type) + circumstances(profile_) + "\n" + totals();
    if (!report_.note.empty()) out += "note: " + printable(report_.note) + "\n";
    for (const std::string& comment : profile_.comments)
      if (!comment.starts_with('#')) out += printable(comment) + "\n";
    out += heading();
    int64_t sum = 0;
    for (const TopRow& row : rows_) {
      sum = saturating_add(sum, row.flat);
      const std::string numbers = columns(row, sum);
      out += numbers + "  " + described(row, columns_of(numbers), options_.width_columns) + "\n";
    }
    return out;
  }

 private:
  std::string value(int64_t v) const {
    return format_value(static_cast<double>(v), report_.type.unit, unit_);
  }
  std::string error(double variance) const {
    return format_value(std::sqrt(variance), report_.type.unit, unit_);
  }

  std::string totals() const {
    int64_t shown = 0;
    for (const TopRow& row : rows_) shown = saturating_add(shown, row.flat);
    std::string text = "Total: " + value(report_.total);
    if (report_.is_estimate) text += " ± " + error(report_.total_variance);
    const std::string percent = percentage(shown, report_.total);
    const size_t first = std::min(percent.find_first_not_of(' '), percent.size());
    text += fmt::format("; {} of {} functions shown, accounting for {}, {}\n", rows_.size(),
                        report_.rows.size(), value(shown), percent.substr(first));
    return text;
  }

  std::string heading() const {
    const std::string error = report_.is_estimate ? fmt::format(" {:>9}", "±") : "";
    return fmt::format("{:>10}{} {:>6} {:>6} {:>10}{} {:>6}  function\n", "flat", error, "flat%",
                       "sum%", "cum", error, "cum%");
  }

  std::string with_error(int64_t v, double variance) const {
    const std::string text = fmt::format("{:>10}", value(v));
    return report_.is_estimate ? fmt::format("{} {:>9}", text, error(variance)) : text;
  }

  std::string columns(const TopRow& row, int64_t sum) const {
    return fmt::format("{} {} {} {} {}", with_error(row.flat, row.flat_variance),
                       percentage(row.flat, report_.total), percentage(sum, report_.total),
                       with_error(row.cum, row.cum_variance), percentage(row.cum, report_.total));
  }

  const Profile& profile_;
  const TopReport& report_;
  const TopOptions& options_;
  std::span<const TopRow> rows_;
  std::string unit_;
};

}  // namespace

TopReport compute_top(const Profile& profile, const TopOptions& options) {
  check(profile);
  TopReport report;
  const size_t value = value_index(profile, options.value_type);
  report.type = profile.types[value];
  if (options.drop_frames && !profile.drop_frames.empty()) {
    Profile trimmed = profile;
    report.note = apply_drop_frames(trimmed).value_or("");
    TopBuilder(trimmed, value).run(report);
  } else {
    TopBuilder(profile, value).run(report);
  }
  sort_rows(report.rows, options.sort);
  return report;
}

std::string format_top(const Profile& profile, const TopReport& report, const TopOptions& options) {
  return printable_lines(TopFormatter(profile, report, options).run());
}

std::string format_value(double value, std::string_view from_unit, std::string_view to_unit) {
  const Scaled scaled = scale(value, from_unit, to_unit);
  std::string text = fmt::format("{:.2f}", scaled.value);
  if (text.ends_with(".00")) text.resize(text.size() - 3);
  return text == "0" || text == "-0" ? "0" : text + printable(scaled.unit);
}

std::string common_unit(std::span<const int64_t> values, int64_t total, const std::string& from) {
  double smallest = 0;
  for (const int64_t each : values) {
    const double value = std::fabs(static_cast<double>(each));
    if (value > 0 && (smallest == 0 || value < smallest)) smallest = value;
  }
  const auto largest = static_cast<double>(total);
  if (smallest == 0) smallest = largest;
  const std::string low = scale(smallest, from, "auto").unit;
  const std::string high = scale(largest, from, "auto").unit;
  const bool is_wide = low != high && smallest * 100 < largest;
  const std::string unit = is_wide ? scale(100 * smallest, from, "auto").unit : low;
  return unit.empty() ? from : unit;
}

std::string described(const TopRow& row, size_t taken_columns, size_t width_columns) {
  const size_t room = room_columns(taken_columns, width_columns);
  constexpr size_t kMinNameColumns = 20;
  const std::string note = row.inline_note.empty() ? "" : " " + row.inline_note;
  const std::string name = printable(row.name) + note;
  const auto joined = [](const std::string& n, const std::string& place) {
    return place.empty() ? n : n + "  " + place;
  };
  std::string place = place_of(row, true);
  if (room == 0 || columns_of(joined(name, place)) <= room) return joined(name, place);
  place = place_of(row, false);
  if (columns_of(joined(name, place)) <= room) return joined(name, place);
  const size_t taken = columns_of(place) + 2;
  if (taken + kMinNameColumns > room) return shortened(name, room);
  return joined(shortened(name, room - taken), place);
}

std::string circumstances(const Profile& profile) {
  std::string text;
  if (!profile.mappings.empty() && !profile.mappings[0].path.empty())
    text += ", of " + printable(base_name(profile.mappings[0].path));
  if (profile.time_nanos != 0) text += ", at " + time_of(profile);
  if (profile.duration_nanos != 0)
    text += ", over " +
            format_value(static_cast<double>(profile.duration_nanos), "nanoseconds", "auto");
  return text;
}

size_t terminal_width_columns(int fd) {
  winsize size{};
  if (isatty(fd) == 0 || ioctl(fd, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

}  // namespace mprof::dumper

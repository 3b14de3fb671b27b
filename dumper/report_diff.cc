// SPDX-License-Identifier: Apache-2.0
#include "dumper/report_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "dumper/combine_profiles.h"
#include "dumper/terminal_text.h"

namespace mprof::dumper {
namespace {

int64_t magnitude(int64_t value) { return value < 0 ? saturating_negate(value) : value; }

void finish(DiffValue& value) {
  value.difference = saturating_add(value.b, saturating_negate(value.a));
}

DiffValue totals(const Profile& a, const Profile& b, const std::string& type) {
  DiffValue value;
  for (const auto& [profile, sum] : {std::pair(&a, &value.a), std::pair(&b, &value.b)}) {
    const size_t index = value_index(*profile, type);
    for (const Sample& sample : profile->samples) {
      *sum = saturating_add(*sum, sample.values[index]);
      if (!sample.variances.empty()) value.variance += sample.variances[index];
    }
  }
  finish(value);
  return value;
}

// Both sides of each function, put together by its name.
class DiffBuilder {
 public:
  explicit DiffBuilder(TopSort by) : by_(by) {}

  void add(TopReport& top, int64_t DiffValue::*side) {
    for (TopRow& row : top.rows) {
      const auto [known, is_new] = by_name_.try_emplace(row.name, rows_.size());
      if (is_new) rows_.emplace_back();
      DiffRow& to = rows_[known->second];
      to.value.*side = by_ == TopSort::kFlat ? row.flat : row.cum;
      to.value.variance += by_ == TopSort::kFlat ? row.flat_variance : row.cum_variance;
      to.function = std::move(row);
    }
  }

  void finish_into(DiffReport& report) {
    for (DiffRow& row : rows_) {
      finish(row.value);
      if (row.value.difference != 0) report.rows.push_back(std::move(row));
    }
    report.equal_functions = rows_.size() - report.rows.size();
    std::sort(report.rows.begin(), report.rows.end(), [](const DiffRow& a, const DiffRow& b) {
      const int64_t of_a = magnitude(a.value.difference), of_b = magnitude(b.value.difference);
      return std::tie(of_b, a.function.name) < std::tie(of_a, b.function.name);
    });
  }

 private:
  TopSort by_;
  std::vector<DiffRow> rows_;
  std::unordered_map<std::string, size_t> by_name_;
};

// Frames that are left out of one side are left out of the other.
TopReport top_of_a(const Profile& a, const Profile& b, const TopOptions& options) {
  if (a.drop_frames == b.drop_frames && a.keep_frames == b.keep_frames)
    return compute_top(a, options);
  Profile alike = a;
  alike.drop_frames = b.drop_frames;
  alike.keep_frames = b.keep_frames;
  return compute_top(alike, options);
}

// ---- text

std::string growth(const DiffValue& value) {
  if (value.difference == 0) return "0%";
  if (value.a == 0) return "new";
  if (value.b == 0) return "gone";
  const double ratio =
      static_cast<double>(value.difference) / std::fabs(static_cast<double>(value.a));
  return fmt::format("{:+.2f}%", ratio * 100);
}

class DiffFormatter {
 public:
  DiffFormatter(const DiffSide& a, const DiffSide& b, const DiffReport& report,
                const DiffOptions& options)
      : a_(a), b_(b), report_(report), options_(options) {
    const size_t count = options.rows == 0 ? report.rows.size() : options.rows;
    rows_ = std::span(report.rows).first(std::min(count, report.rows.size()));
    unit_ = options.unit == "auto" ? unit() : options.unit;
  }

  [[nodiscard]] std::string run() const { return printable_lines(text()); }

 private:
  [[nodiscard]] std::string text() const {
    std::string out = fmt::format("Type: {}, {}\n", printable(report_.type.type),
                                  is_cum() ? "with callees (cum)" : "without callees (flat)");
    out += fmt::format("A: {}{}\n", printable(a_.name), circumstances(a_.profile));
    out += fmt::format("B: {}{}\n", printable(b_.name), circumstances(b_.profile));
    out += totals() + comments();
    if (!report_.note.empty()) out += "note: " + printable(report_.note) + "\n";
    out += heading();
    for (const DiffRow& row : rows_) {
      const std::string numbers = columns(row.value);
      out += fmt::format("{}  {}\n", numbers,
                         described(row.function, columns_of(numbers), options_.width_columns));
    }
    return out;
  }
  bool is_cum() const { return options_.by == TopSort::kCum; }

  std::string unit() const {
    std::vector<int64_t> differences;
    int64_t largest = std::max(magnitude(report_.total.a), magnitude(report_.total.b));
    for (const DiffRow& row : rows_) {
      differences.push_back(row.value.difference);
      largest = std::max({largest, magnitude(row.value.a), magnitude(row.value.b)});
    }
    return common_unit(differences, largest, report_.type.unit);
  }

  std::string text(double value) const { return format_value(value, report_.type.unit, unit_); }
  std::string text(int64_t value) const { return text(static_cast<double>(value)); }
  std::string difference(const DiffValue& value) const {
    return (value.difference > 0 ? "+" : "") + text(value.difference);
  }
  std::string error(const DiffValue& value) const { return text(std::sqrt(value.variance)); }

  std::string totals() const {
    const DiffValue& total = report_.total;
    const std::string error =
        report_.is_estimate ? fmt::format(" ± {}", this->error(total)) : std::string();
    return fmt::format(
        "Total: {} in A, {} in B: {}{}, {}; {} of {} functions that differ shown, {} are equal\n",
        text(total.a), text(total.b), difference(total), error, growth(total), rows_.size(),
        report_.rows.size(), report_.equal_functions);
  }

  // What both say is said once.
  std::string comments() const {
    std::string both, apart;
    for (const auto& [name, side, other] : {std::tuple('A', &a_, &b_), std::tuple('B', &b_, &a_)}) {
      const std::vector<std::string>& others = other->profile.comments;
      for (const std::string& comment : side->profile.comments) {
        if (comment.starts_with('#')) continue;
        const bool is_shared = std::find(others.begin(), others.end(), comment) != others.end();
        if (!is_shared) apart += fmt::format("{}: {}\n", name, printable(comment));
        if (is_shared && name == 'A') both += printable(comment) + "\n";
      }
    }
    return both + apart;
  }

  std::string heading() const {
    const std::string error = report_.is_estimate ? fmt::format(" {:>9}", "±") : "";
    return fmt::format("{:>10} {:>10} {:>11}{} {:>9}  function\n", "A", "B", "B-A", error, "B-A%");
  }

  std::string columns(const DiffValue& value) const {
    const std::string error =
        report_.is_estimate ? fmt::format(" {:>9}", this->error(value)) : std::string();
    return fmt::format("{:>10} {:>10} {:>11}{} {:>9}", text(value.a), text(value.b),
                       difference(value), error, growth(value));
  }

  const DiffSide& a_;
  const DiffSide& b_;
  const DiffReport& report_;
  const DiffOptions& options_;
  std::span<const DiffRow> rows_;
  std::string unit_;
};

}  // namespace

DiffReport compute_diff(const Profile& a, const Profile& b, const DiffOptions& options) {
  require_same_types(a, b);
  DiffReport report;
  report.type = b.types[value_index(b, options.value_type)];
  TopOptions top;
  top.value_type = report.type.type;
  TopReport of_a = top_of_a(a, b, top);
  TopReport of_b = compute_top(b, top);
  report.is_estimate = of_a.is_estimate && of_b.is_estimate;
  report.note = of_b.note;
  report.total = totals(a, b, report.type.type);
  DiffBuilder builder(options.by);
  builder.add(of_a, &DiffValue::a);
  builder.add(of_b, &DiffValue::b);
  builder.finish_into(report);
  return report;
}

std::string format_diff(const DiffSide& a, const DiffSide& b, const DiffReport& report,
                        const DiffOptions& options) {
  return DiffFormatter(a, b, report, options).run();
}

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/combine_profiles.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "dumper/row_key.h"

namespace mprof::dumper {
namespace {

std::string describe(const Profile& profile) {
  std::string text;
  for (const ValueType& type : profile.types)
    text += fmt::format("{}{}/{}", text.empty() ? "" : " ", type.type, type.unit);
  return text;
}

bool is_nameless(const Mapping& m) {
  return m.build_id.empty() &&
         (m.path.empty() || m.path.starts_with("[anon") || m.path.starts_with("//anon"));
}

// Sizes are rounded to pages because some writers give the end of the file's bytes, others the end
// of the page.
std::string key_of(const Mapping& m) {
  constexpr uint64_t kPage = 4096;
  const uint64_t pages = (m.limit - m.start + kPage - 1) / kPage;
  return RowKey()
      .number(pages)
      .number(m.file_offset)
      .number(is_nameless(m) ? m.start : 0)
      .text(m.build_id.empty() ? m.path : m.build_id)
      .take();
}

std::string key_of(const Function& f) {
  return RowKey()
      .text(f.name)
      .text(f.system_name)
      .text(f.file)
      .number(static_cast<uint64_t>(f.start_line))
      .take();
}

std::string key_of(const Location& l) {
  RowKey key;
  key.number(static_cast<uint64_t>(int64_t{l.mapping})).number(l.address).number(l.is_folded);
  for (const Line& line : l.lines)
    key.number(line.function)
        .number(static_cast<uint64_t>(line.line))
        .number(static_cast<uint64_t>(line.column));
  return key.take();
}

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15;
  return hash ^ hash >> 32;
}

// Samples by their contents, kept as indices: a stack lies in memory once.
struct SampleHash {
  using is_transparent = void;
  const std::vector<Sample>* samples;

  size_t operator()(uint32_t index) const { return (*this)((*samples)[index]); }
  size_t operator()(const Sample& sample) const {
    uint64_t hash = sample.locations.size();
    for (const uint32_t location : sample.locations) hash = mix(hash, location);
    for (const Label& label : sample.labels) {
      hash = mix(hash, std::hash<std::string>()(label.key));
      hash = mix(hash, std::hash<std::string>()(label.str));
      hash = mix(hash, static_cast<uint64_t>(label.num));
    }
    return hash;
  }
};

struct SampleEqual {
  using is_transparent = void;
  const std::vector<Sample>* samples;

  bool operator()(uint32_t a, uint32_t b) const { return a == b; }
  bool operator()(const Sample& a, uint32_t b) const { return same(a, (*samples)[b]); }
  bool operator()(uint32_t a, const Sample& b) const { return same((*samples)[a], b); }
  static bool same(const Sample& a, const Sample& b) {
    return a.locations == b.locations && a.labels == b.labels;
  }
};

// One order for equal sets. Values of one key keep theirs: it means something to pprof.
void sort_labels(std::vector<Label>& labels) {
  std::stable_sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) {
    return std::tie(a.is_number, a.key) < std::tie(b.is_number, b.key);
  });
}

void mark_as_base(std::vector<Label>& labels) {
  std::erase_if(labels, [](const Label& label) { return label.key == "pprof::base"; });
  labels.push_back({"pprof::base", "true", 0, "", false});
}

int64_t rounded(double value) {
  constexpr auto kEnd = static_cast<double>(std::numeric_limits<int64_t>::max());
  if (value >= kEnd) return std::numeric_limits<int64_t>::max();
  if (value <= -kEnd) return std::numeric_limits<int64_t>::min();
  return std::llround(value);
}

std::vector<int64_t> totals(const Profile& profile) {
  std::vector<int64_t> sums(profile.types.size());
  for (const Sample& sample : profile.samples)
    for (size_t i = 0; i < sums.size(); ++i) sums[i] = saturating_add(sums[i], sample.values[i]);
  return sums;
}

void scale(Sample& sample, const std::vector<double>& ratios) {
  for (size_t i = 0; i < ratios.size(); ++i) {
    if (ratios[i] == 1) continue;
    sample.values[i] = rounded(static_cast<double>(sample.values[i]) * ratios[i]);
    if (!sample.variances.empty()) sample.variances[i] *= ratios[i] * ratios[i];
  }
}

}  // namespace

// ---- ProfileSum

class ProfileSum::Impl {
 public:
  enum class Sign { kPlus, kMinus, kMinusMarked };

  void add(const Profile& source, Sign sign) {
    check(source);
    if (!std::exchange(is_begun_, true)) begin(source);
    require_same_types(result_, source);
    source_ = &source;
    mapping_of_.assign(source.mappings.size(), std::nullopt);
    function_of_.assign(source.functions.size(), std::nullopt);
    location_of_.assign(source.locations.size(), std::nullopt);
    // The first mapping is the main program for every reader, so it goes first whatever the first
    // sample's leaf is.
    if (result_.mappings.empty() && !source.mappings.empty()) mapping(0);
    for (const Sample& sample : source.samples) add_sample(sample, sign);
    add_header(source);
  }

  Profile take() {
    if (std::none_of(result_.samples.begin(), result_.samples.end(), is_zero))
      return std::move(result_);
    Impl again;  // leaves out what only such samples named
    again.add(result_, Sign::kPlus);
    return std::move(again.result_);
  }

 private:
  void begin(const Profile& first) {
    result_.types = first.types;
    result_.period_type = first.period_type;
    result_.drop_frames = first.drop_frames;
    result_.keep_frames = first.keep_frames;
  }

  void add_sample(const Sample& from, Sign sign) {
    if (is_zero(from)) return;
    scratch_ = from;
    for (uint32_t& row : scratch_.locations) row = location(row);
    if (sign != Sign::kPlus)
      for (int64_t& value : scratch_.values) value = saturating_negate(value);
    if (sign == Sign::kMinusMarked) mark_as_base(scratch_.labels);
    sort_labels(scratch_.labels);
    if (const auto known = samples_.find(scratch_); known != samples_.end())
      return add_values(result_.samples[*known], scratch_);
    result_.samples.push_back(scratch_);
    samples_.insert(static_cast<uint32_t>(result_.samples.size() - 1));
  }

  int32_t mapping(int32_t index) {
    std::optional<int32_t>& known = mapping_of_[static_cast<size_t>(index)];
    if (known) return *known;
    const Mapping& from = source_->mappings[static_cast<size_t>(index)];
    const auto [row, is_new] =
        mappings_.try_emplace(key_of(from), static_cast<int32_t>(result_.mappings.size()));
    if (is_new) result_.mappings.push_back(from);
    known = row->second;
    return *known;
  }

  uint32_t function(uint32_t index) {
    std::optional<uint32_t>& known = function_of_[index];
    if (known) return *known;
    const Function& from = source_->functions[index];
    const auto [row, is_new] =
        functions_.try_emplace(key_of(from), static_cast<uint32_t>(result_.functions.size()));
    if (is_new) result_.functions.push_back(from);
    known = row->second;
    return *known;
  }

  uint32_t location(uint32_t index) {
    std::optional<uint32_t>& known = location_of_[index];
    if (known) return *known;
    Location moved = source_->locations[index];
    if (moved.mapping >= 0) move(moved);
    for (Line& line : moved.lines) line.function = function(line.function);
    const auto [row, is_new] =
        locations_.try_emplace(key_of(moved), static_cast<uint32_t>(result_.locations.size()));
    if (is_new) result_.locations.push_back(std::move(moved));
    known = row->second;
    return *known;
  }

  // To where the mapping lies in the result.
  void move(Location& location) {
    const uint64_t start = source_->mappings[static_cast<size_t>(location.mapping)].start;
    location.mapping = mapping(location.mapping);
    const uint64_t moved_by = result_.mappings[static_cast<size_t>(location.mapping)].start - start;
    location.address += moved_by;
    if (location.function_start != 0) location.function_start += moved_by;
  }

  void add_header(const Profile& source) {
    if (result_.time_nanos == 0 ||
        (source.time_nanos != 0 && source.time_nanos < result_.time_nanos))
      result_.time_nanos = source.time_nanos;
    result_.duration_nanos = saturating_add(result_.duration_nanos, source.duration_nanos);
    result_.period = std::max(result_.period, source.period);
    if (result_.default_type < 0) result_.default_type = source.default_type;
    if (result_.doc_url.empty()) result_.doc_url = source.doc_url;
    for (const std::string& comment : source.comments)
      if (comments_.insert(comment).second) result_.comments.push_back(comment);
  }

  Profile result_;
  bool is_begun_ = false;
  std::unordered_map<std::string, int32_t> mappings_;
  std::unordered_map<std::string, uint32_t> functions_;
  std::unordered_map<std::string, uint32_t> locations_;
  std::unordered_set<uint32_t, SampleHash, SampleEqual> samples_{0, SampleHash{&result_.samples},
                                                                 SampleEqual{&result_.samples}};
  std::unordered_set<std::string> comments_;

  // Of the profile that is being added.
  const Profile* source_ = nullptr;
  std::vector<std::optional<int32_t>> mapping_of_;
  std::vector<std::optional<uint32_t>> function_of_;
  std::vector<std::optional<uint32_t>> location_of_;
  Sample scratch_;
};

ProfileSum::ProfileSum() : impl_(std::make_unique<Impl>()) {}
ProfileSum::~ProfileSum() = default;

void ProfileSum::add(const Profile& profile) { impl_->add(profile, Impl::Sign::kPlus); }

void ProfileSum::subtract(const Profile& profile, bool mark) {
  impl_->add(profile, mark ? Impl::Sign::kMinusMarked : Impl::Sign::kMinus);
}

Profile ProfileSum::take() { return std::exchange(impl_, std::make_unique<Impl>())->take(); }

// ---- whole profiles

void require_same_types(const Profile& a, const Profile& b) {
  if (a.types != b.types)
    throw std::invalid_argument(
        fmt::format("profiles of different values: \"{}\" and \"{}\"", describe(a), describe(b)));
  if (!(a.period_type == b.period_type))
    throw std::invalid_argument(fmt::format("profiles of different period types: {}/{} and {}/{}",
                                            a.period_type.type, a.period_type.unit,
                                            b.period_type.type, b.period_type.unit));
}

Profile merge(std::span<const Profile> profiles) {
  if (profiles.empty()) throw std::invalid_argument("merge: no profiles given");
  ProfileSum sum;
  for (const Profile& profile : profiles) sum.add(profile);
  return sum.take();
}

Profile subtract(const Profile& profile, const Profile& base, SubtractMode mode) {
  ProfileSum sum;
  sum.add(profile);
  sum.subtract(base, mode == SubtractMode::kMarkBase);
  Profile result = sum.take();
  if (mode == SubtractMode::kMarkBase) return result;
  result.time_nanos = profile.time_nanos;
  result.duration_nanos = std::max<int64_t>(
      0, saturating_add(profile.duration_nanos, saturating_negate(base.duration_nanos)));
  return result;
}

std::vector<double> scale_to_total(Profile& profile, const Profile& target) {
  check(target);
  require_same_types(profile, target);
  profile = merge(std::span(&profile, 1));  // so that each stack is rounded once
  const std::vector<int64_t> from = totals(profile);
  const std::vector<int64_t> to = totals(target);
  std::vector<double> ratios(from.size(), 0);
  for (size_t i = 0; i < from.size(); ++i)
    if (from[i] != 0) ratios[i] = static_cast<double>(to[i]) / static_cast<double>(from[i]);
  for (Sample& sample : profile.samples) scale(sample, ratios);
  return ratios;
}

}  // namespace mprof::dumper

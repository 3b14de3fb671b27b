// SPDX-License-Identifier: Apache-2.0
#include "dumper/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "dumper/row_key.h"

// GCC 12 with -fsanitize=address raises false alarms inside the header.
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <regex>
#pragma GCC diagnostic pop

namespace mprof::dumper {
namespace {

std::string key_of(const Mapping& m) {
  return RowKey()
      .number(m.start)
      .number(m.limit)
      .number(m.file_offset)
      .text(m.path)
      .text(m.build_id)
      .take();
}

std::string function_key(std::string_view name, std::string_view file) {
  return RowKey().text(name).text(file).take();
}

std::string location_key(int32_t mapping, uint64_t address, const std::vector<Line>& lines) {
  RowKey key;
  key.number(static_cast<uint64_t>(int64_t{mapping})).number(address);
  for (const Line& line : lines)
    key.number(line.function)
        .number(static_cast<uint64_t>(line.line))
        .number(static_cast<uint64_t>(line.column));
  return key.take();
}

std::string key_of(const Label& label) {
  return RowKey()
      .text(label.key)
      .text(label.str)
      .number(static_cast<uint64_t>(label.num))
      .text(label.unit)
      .number(label.is_number)
      .take();
}

std::string key_of(const Sample& sample) {
  std::vector<std::string> labels;
  for (const Label& label : sample.labels) labels.push_back(key_of(label));
  std::sort(labels.begin(), labels.end());
  RowKey key;
  key.number(sample.locations.size());
  for (uint32_t location : sample.locations) key.number(location);
  for (const std::string& label : labels) key.text(label);
  return key.take();
}

[[noreturn]] void bad(const std::string& what) { throw std::invalid_argument("profile: " + what); }

void check_location(const Profile& profile, size_t index) {
  const Location& location = profile.locations[index];
  const auto mappings = static_cast<int64_t>(profile.mappings.size());
  if (location.mapping < -1 || location.mapping >= mappings)
    bad(fmt::format("location {} names mapping {} of {}", index, location.mapping, mappings));
  for (const Line& line : location.lines)
    if (line.function >= profile.functions.size())
      bad(fmt::format("location {} names function {} of {}", index, line.function,
                      profile.functions.size()));
}

void check_sample(const Profile& profile, size_t index) {
  const Sample& sample = profile.samples[index];
  const size_t types = profile.types.size();
  if (sample.values.size() != types)
    bad(fmt::format("sample {} has {} values for {} types", index, sample.values.size(), types));
  if (!sample.variances.empty() && sample.variances.size() != types)
    bad(fmt::format("sample {} has {} variances for {} types", index, sample.variances.size(),
                    types));
  for (uint32_t location : sample.locations)
    if (location >= profile.locations.size())
      bad(fmt::format("sample {} names location {} of {}", index, location,
                      profile.locations.size()));
}

// ---- frames by name

// pprof compares the name without its argument list: cut at the first '(' that does not belong to
// one of the two names that contain parentheses. A leading '.' is a PPC entry point's.
size_t reserved_length(std::string_view at) {
  for (const std::string_view reserved : {"(anonymous namespace)", "operator()"})
    if (at.starts_with(reserved)) return reserved.size();
  return 0;
}

std::string_view simplified(std::string_view name) {
  if (name.starts_with('.')) name.remove_prefix(1);
  for (size_t at = 0; at < name.size();) {
    const size_t reserved = reserved_length(name.substr(at));
    if (reserved == 0 && name[at] == '(') return name.substr(0, at);
    at += std::max<size_t>(reserved, 1);
  }
  return name;
}

// A profile may come from anywhere, so its expression must not hang or overflow the stack: the
// polynomial matcher neither backtracks nor recurses per character, the parser recurses once per
// open parenthesis, and libstdc++ itself limits the number of states.
std::regex compile_unnamed(const std::string& expression) {
  constexpr int kMaxDepth = 100;
  int depth = 0;
  for (char c : expression) {
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    if (depth > kMaxDepth) throw std::invalid_argument("more than 100 nested parentheses");
  }
  return std::regex(expression, std::regex::ECMAScript | std::regex_constants::__polynomial);
}

std::regex compile(std::string_view what, const std::string& expression) {
  try {
    return compile_unnamed(expression);
  } catch (const std::exception& error) {
    throw std::invalid_argument(
        fmt::format("{} \"{:.80}\" is not understood: {}", what, expression, error.what()));
  }
}

bool matches_whole(const std::string_view name, const std::regex& expression) {
  return std::regex_match(name.begin(), name.end(), expression);
}

class FrameDropper {
 public:
  FrameDropper(Profile& profile, const std::regex& drop, const std::optional<std::regex>& keep)
      : profile_(profile), drop_(drop), keep_(keep) {}

  void run() {
    mark_functions();
    cuts_.resize(profile_.locations.size(), Cut::kNone);
    for (size_t i = 0; i < cuts_.size(); ++i) cuts_[i] = cut_location(profile_.locations[i]);
    for (Sample& sample : profile_.samples) cut_stack(sample.locations);
  }

 private:
  // kAll: the physical function itself is dropped. kInner: only functions inlined into it.
  enum class Cut : uint8_t { kNone, kInner, kAll };

  void mark_functions() {
    for (const Function& function : profile_.functions) {
      const std::string_view name = simplified(function.name);
      dropped_.push_back(!function.name.empty() && matches_whole(name, drop_) &&
                         !(keep_ && matches_whole(name, *keep_)));
    }
  }

  // The outermost match counts; what was inlined into it goes with it.
  Cut cut_location(Location& location) {
    std::vector<Line>& lines = location.lines;
    for (size_t i = lines.size(); i-- > 0;) {
      if (!dropped_[lines[i].function]) continue;
      if (i + 1 == lines.size()) return Cut::kAll;
      lines.erase(lines.begin(), lines.begin() + static_cast<ptrdiff_t>(i) + 1);
      return Cut::kInner;
    }
    return Cut::kNone;
  }

  // From the root towards the leaf; matches rootward of the first frame that stays are kept, or a
  // dropped thread entry function would take the whole stack with it.
  void cut_stack(std::vector<uint32_t>& stack) const {
    bool found_user = false;
    for (size_t i = stack.size(); i-- > 0;) {
      const Cut cut = cuts_[stack[i]];
      if (cut == Cut::kNone) {
        found_user = true;
      } else if (found_user) {
        const size_t first = cut == Cut::kAll ? i + 1 : i;
        stack.erase(stack.begin(), stack.begin() + static_cast<ptrdiff_t>(first));
        return;
      }
    }
  }

  Profile& profile_;
  const std::regex& drop_;
  const std::optional<std::regex>& keep_;
  std::vector<bool> dropped_;
  std::vector<Cut> cuts_;
};

}  // namespace

// ---- ProfileBuilder

ProfileBuilder::ProfileBuilder(Profile& profile) : profile_(profile) {
  for (uint32_t i = 0; i < profile.mappings.size(); ++i)
    mappings_.try_emplace(key_of(profile.mappings[i]), i);
  for (uint32_t i = 0; i < profile.functions.size(); ++i)
    functions_.try_emplace(function_key(profile.functions[i].name, profile.functions[i].file), i);
  for (uint32_t i = 0; i < profile.locations.size(); ++i) {
    const Location& l = profile.locations[i];
    locations_.try_emplace(location_key(l.mapping, l.address, l.lines), i);
  }
  for (uint32_t i = 0; i < profile.samples.size(); ++i)
    samples_.try_emplace(key_of(profile.samples[i]), i);
}

int32_t ProfileBuilder::mapping(const Mapping& mapping) {
  const auto next = static_cast<uint32_t>(profile_.mappings.size());
  const auto [row, is_new] = mappings_.try_emplace(key_of(mapping), next);
  if (is_new) profile_.mappings.push_back(mapping);
  return static_cast<int32_t>(row->second);
}

uint32_t ProfileBuilder::function(std::string_view name, std::string_view file,
                                  std::string_view system_name, int64_t start_line) {
  const auto next = static_cast<uint32_t>(profile_.functions.size());
  const auto [row, is_new] = functions_.try_emplace(function_key(name, file), next);
  if (is_new)
    profile_.functions.push_back(
        {std::string(name), std::string(system_name), std::string(file), start_line});
  return row->second;
}

uint32_t ProfileBuilder::location(int32_t mapping, uint64_t address, std::vector<Line> lines) {
  const auto next = static_cast<uint32_t>(profile_.locations.size());
  const auto [row, is_new] = locations_.try_emplace(location_key(mapping, address, lines), next);
  if (is_new) profile_.locations.push_back({address, mapping, std::move(lines), 0});
  return row->second;
}

uint32_t ProfileBuilder::synthetic_location(std::string_view name) {
  return location(-1, 0, {{function(name, {}, name), 0}});
}

void ProfileBuilder::sample(const Sample& sample) {
  const auto next = static_cast<uint32_t>(profile_.samples.size());
  const auto [row, is_new] = samples_.try_emplace(key_of(sample), next);
  if (is_new)
    profile_.samples.push_back(sample);
  else
    add_values(profile_.samples[row->second], sample);
}

// ---- whole profiles

void add_values(Sample& into, const Sample& from) {
  for (size_t i = 0; i < into.values.size(); ++i)
    into.values[i] = saturating_add(into.values[i], from.values[i]);
  if (from.variances.empty()) return;
  into.variances.resize(into.values.size());
  for (size_t i = 0; i < into.variances.size(); ++i) into.variances[i] += from.variances[i];
}

bool is_zero(const Sample& sample) {
  return std::all_of(sample.values.begin(), sample.values.end(), [](int64_t v) { return v == 0; });
}

int64_t saturating_add(int64_t a, int64_t b) {
  int64_t sum = 0;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return a < 0 ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
}

int64_t saturating_negate(int64_t value) {
  return value == std::numeric_limits<int64_t>::min() ? std::numeric_limits<int64_t>::max()
                                                      : -value;
}

void check(const Profile& profile) {
  if (profile.default_type < -1 || profile.default_type >= static_cast<int>(profile.types.size()))
    bad(fmt::format("default type {} of {}", profile.default_type, profile.types.size()));
  for (size_t i = 0; i < profile.locations.size(); ++i) check_location(profile, i);
  for (size_t i = 0; i < profile.samples.size(); ++i) check_sample(profile, i);
}

void aggregate(Profile& profile) {
  check(profile);
  std::vector<Sample> samples = std::exchange(profile.samples, {});
  ProfileBuilder builder(profile);
  for (const Sample& sample : samples) builder.sample(sample);
  std::erase_if(profile.samples, is_zero);
}

void filter(Profile& profile, const std::function<bool(const Sample&)>& keep) {
  std::erase_if(profile.samples, [&keep](const Sample& sample) { return !keep(sample); });
}

std::vector<bool> matching_locations(const Profile& profile, const std::string& expression) {
  const std::regex regex = compile("expression", expression);
  const auto matches = [&regex](const std::string& text) { return std::regex_search(text, regex); };
  std::vector<bool> function_matches;
  for (const Function& function : profile.functions)
    function_matches.push_back(matches(function.name));
  std::vector<bool> result;
  for (const Location& l : profile.locations) {
    const bool by_name = std::any_of(l.lines.begin(), l.lines.end(), [&](const Line& line) {
      return function_matches[line.function];
    });
    const bool by_path = l.lines.empty() && l.mapping >= 0 &&
                         matches(profile.mappings[static_cast<size_t>(l.mapping)].path);
    result.push_back(by_name || by_path);
  }
  return result;
}

std::optional<std::string> apply_drop_frames(Profile& profile) {
  if (profile.drop_frames.empty()) return std::nullopt;
  try {
    const std::regex drop = compile("drop_frames", profile.drop_frames);
    std::optional<std::regex> keep;
    if (!profile.keep_frames.empty()) keep = compile("keep_frames", profile.keep_frames);
    FrameDropper(profile, drop, keep).run();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return std::nullopt;
}

size_t value_index(const Profile& profile, std::string_view type_name) {
  if (profile.types.empty()) throw std::invalid_argument("the profile has no value types");
  if (type_name.empty())
    return profile.default_type >= 0 ? static_cast<size_t>(profile.default_type)
                                     : profile.types.size() - 1;
  std::string names;
  for (size_t i = 0; i < profile.types.size(); ++i) {
    if (profile.types[i].type == type_name) return i;
    names += fmt::format("{}{}", i == 0 ? "" : ", ", profile.types[i].type);
  }
  throw std::invalid_argument(
      fmt::format("value type \"{}\" is not in the profile; it has: {}", type_name, names));
}

}  // namespace mprof::dumper

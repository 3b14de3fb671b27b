// SPDX-License-Identifier: Apache-2.0
#include "dumper/count_profile.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "dumper/cpu_times.h"
#include "dumper/custom_profiles.h"
#include "dumper/profile_comments.h"

namespace mprof::dumper {
namespace {

using format::CountKind;
using format::CountTotals;

constexpr const char* kBeforeMprof = "[before mprof]";
constexpr const char* kInMprof = "[mprof]";
constexpr const char* kDropped = "[lost: dropped]";

// pprof cuts a stack at such a frame and everything below it: the insides of a wait, so that its
// leaf is who called std::mutex::lock(). Not those that call back into the program, such as
// condition_variable::wait<> with its predicate.
constexpr const char* kDropFrames =
    "mprof::.*|pthread_(mutex|rwlock|cond|spin|barrier)_.*|pthread_(create|join|timedjoin_np|"
    "clockjoin_np)|sem_(wait|timedwait|clockwait|trywait|post)|(mtx|cnd)_.*|thrd_(create|join)|"
    "syscall|__gthread_.*|std::(__1::)?[a-z_]*mutex[a-z_]*::.*|"
    "std::(__1::)?(lock_guard|unique_lock|shared_lock|scoped_lock)<.*|"
    "std::(__1::)?condition_variable(_any)?::wait|"
    "std::(__1::)?thread::(join|_M_start_thread|thread.*)";

// What mprof.h puts around the calls into the library.
constexpr const char* kDropApiFrames = "mprof(::|_).*";

// Times as whole nanoseconds, rounded along the running sum like counts.
class TimeRounding {
 public:
  explicit TimeRounding(double ns_per_unit) : ns_per_unit_(ns_per_unit) {}

  int64_t round(uint64_t units) {
    const double ns = std::clamp(static_cast<double>(units) * ns_per_unit_ + carry_, 0.0, kMaxNs);
    const double whole = std::floor(ns + 0.5);
    carry_ = ns - whole;
    return static_cast<int64_t>(whole);
  }

 private:
  static constexpr double kMaxNs = 9e18;
  double ns_per_unit_;
  double carry_ = 0;
};

// Of what `value` is in.
double ns_per_unit(const Dump& dump, CountKind kind) {
  return kind == CountKind::kCpu ? 1 : dump.clock().ns_per_tick();
}

// Processor time is spent where it is spent.
const char* drop_frames(CountKind kind) {
  if (is_custom(kind)) return kDropApiFrames;
  return kind == CountKind::kCpu ? "" : kDropFrames;
}

bool has_time(CountKind kind) {
  return kind == CountKind::kBlock || kind == CountKind::kMutex || kind == CountKind::kCpu;
}

// Of a CPU sample the weight is no chance: it is the periods since the one before.
bool is_exact(const Dump& dump, CountKind kind) {
  switch (kind) {
    case CountKind::kBlock:
      return dump.header().block_rate_ns <= 1 && !was_changed(dump, format::kBlockRateChanged);
    case CountKind::kMutex:
      return dump.header().mutex_fraction <= 1 && !was_changed(dump, format::kMutexFractionChanged);
    default: return true;
  }
}

// The values of the rows of one profile, in the order in which they are asked for.
class ValueMaker {
 public:
  ValueMaker(const Dump& dump, CountKind kind)
      : has_time_(has_time(kind)),
        is_exact_(is_exact(dump, kind)),
        ns_per_unit_(ns_per_unit(dump, kind)),
        time_(ns_per_unit_) {}

  static std::vector<ValueType> types(const Dump& dump, CountKind kind) {
    if (kind == CountKind::kCpu) return {{"samples", "count"}, {"cpu", "nanoseconds"}};
    if (has_time(kind)) return {{"contentions", "count"}, {"delay", "nanoseconds"}};
    return {{profile_name(dump, kind), "count"}};
  }

  void fill(const CountTotals& totals, Sample& sample) {
    sample.values = {count_.round(totals.count)};
    if (has_time_) sample.values.push_back(time_.round(totals.value));
    if (is_exact_) return;
    sample.variances = {sane_variance(totals.count_variance),
                        sane_variance(totals.value_variance * ns_per_unit_ * ns_per_unit_)};
  }

 private:
  bool has_time_;
  bool is_exact_;
  double ns_per_unit_;
  CumulativeRounding count_;
  TimeRounding time_;
};

// Names that threads were given, by the count row of their creation, each with its number of
// threads. A new thread has its creator's name, which for most is the program's: that says nothing.
using ThreadNames = std::map<uint32_t, std::map<std::string, uint64_t>>;

ThreadNames names_of_threads(const Dump& dump) {
  constexpr size_t kMostOfAName = 15;
  const std::string path = dump.executable();
  const std::string program = path.substr(path.rfind('/') + 1).substr(0, kMostOfAName);
  ThreadNames names;
  const auto rows = static_cast<uint32_t>(dump.rows(format::TableId::kThreads));
  for (uint32_t row = 0; row < rows; ++row) {
    const auto thread = dump.thread(row);
    if (thread && thread->creation != format::kNoRow && thread->name != program)
      ++names[thread->creation][thread->name];
  }
  return names;
}

// The rows of one profile as samples.
class SampleMaker {
 public:
  SampleMaker(const Dump& dump, CountKind kind, LabelNames& names, PlacedProfile& out)
      : names_(names), stacks_(dump, out), values_(dump, kind) {}

  void add(const CountCopy& row, const CountTotals& totals, const std::string& thread_name = {}) {
    Sample sample;
    values_.fill(totals, sample);
    if (is_nothing(sample)) return;
    const bool no_stack = row.stack == format::kNoRow;
    sample.locations =
        no_stack ? std::vector{stacks_.synthetic(kBeforeMprof)} : stacks_.locations(row.stack);
    sample.labels = names_.of_set(row.labels);
    if (!thread_name.empty()) sample.labels.push_back({"thread", thread_name, 0, {}, false});
    stacks_.add(std::move(sample));
  }

  // Something that no stack is known of.
  void add_frame(const char* frame, const CountTotals& totals) {
    Sample sample;
    values_.fill(totals, sample);
    if (is_nothing(sample)) return;
    sample.locations = {stacks_.synthetic(frame)};
    stacks_.add(std::move(sample));
  }

  // A row of the threadcreate profile: the threads that have names of their own, then the rest.
  void add_threads(const CountCopy& row, const std::map<std::string, uint64_t>& names) {
    CountTotals rest = row.totals;
    for (const auto& [name, threads] : names) {
      const uint64_t count = std::min(threads * format::kWeightOne, rest.count);
      CountTotals part{};
      part.count = count;
      rest.count -= count;
      add(row, part, name);
    }
    add(row, rest);
  }

 private:
  LabelNames& names_;
  StackTranslator stacks_;
  ValueMaker values_;
};

// What a profile of the program's own holds now, by stack and labels. Whoever removes something may
// do so in another row than who added it.
using Contents = std::map<std::pair<uint32_t, uint32_t>, CountTotals>;

Contents contents(const CountReading& reading, CountKind kind) {
  Contents sums;
  for (const auto& [row, copy] : reading.rows) {
    if (copy.kind != kind) continue;
    CountTotals& sum = sums[{copy.stack, copy.labels}];
    sum.count += copy.totals.count;
    sum.value += copy.totals.value;
  }
  for (auto& [key, sum] : sums)
    sum.count -= std::min(sum.count / format::kWeightOne, sum.value) * format::kWeightOne;
  return sums;
}

void add_contents(const CountReading& reading, CountKind kind, SampleMaker& samples) {
  for (const auto& [key, sum] : contents(reading, kind)) {
    CountCopy row;
    std::tie(row.stack, row.labels) = key;
    samples.add(row, sum);
  }
}

// Processor time without a stack. It is known of the whole run only.
void add_time_without_stacks(const Dump& dump, const CountReading& reading, SampleMaker& samples) {
  if (!reading.window.empty()) return;
  const CpuTimes times = cpu_times(dump, reading);
  const auto period_ns = static_cast<double>(cpu_period_ns(dump, reading));
  const auto totals_of = [period_ns](uint64_t ns) {
    CountTotals totals{};
    const double count = static_cast<double>(ns) / period_ns * format::kWeightOne;
    totals.count = static_cast<uint64_t>(std::min(count, 1.8e19));
    totals.value = ns;
    return totals;
  };
  samples.add_frame(kInMprof, totals_of(times.in_mprof_ns));
  samples.add_frame(kDropped, totals_of(times.dropped_ns));
}

void add_rows(const Dump& dump, const CountReading& reading, CountKind kind, SampleMaker& samples) {
  if (is_custom(kind)) return add_contents(reading, kind, samples);
  ThreadNames thread_names;
  if (kind == CountKind::kThreadCreate) thread_names = names_of_threads(dump);
  for (const auto& [row, copy] : reading.rows)
    if (copy.kind == kind) samples.add_threads(copy, thread_names[row]);
  if (kind == CountKind::kCpu) add_time_without_stacks(dump, reading, samples);
}

void fill_period(const Dump& dump, const CountReading& reading, CountKind kind, Profile& profile) {
  profile.period_type = kind == CountKind::kCpu ? profile.types.back() : profile.types.front();
  profile.period = kind == CountKind::kCpu ? clamp_value(cpu_period_ns(dump, reading)) : 1;
}

bool has_cpu_rows(const Dump& dump) {
  const auto rows = static_cast<uint32_t>(dump.rows(format::TableId::kCounts));
  for (uint32_t row = 0; row < rows; ++row)
    if (const auto copy = dump.count(row); copy && copy->kind == CountKind::kCpu) return true;
  return false;
}

bool was_cpu_on(const Dump& dump) {
  const format::DumpHeader& header = dump.header();
  return header.cpu_hz != 0 || header.cpu_on_ticks != 0 || header.cpu_profiled_ticks != 0;
}

}  // namespace

const char* view_name(CountKind kind) {
  switch (kind) {
    case CountKind::kBlock: return "block";
    case CountKind::kMutex: return "mutex";
    case CountKind::kThreadCreate: return "threadcreate";
    case CountKind::kCpu: return "cpu";
    case CountKind::kFirstCustom: break;
  }
  return "";
}

std::string profile_name(const Dump& dump, CountKind kind) {
  if (!is_custom(kind)) return view_name(kind);
  constexpr auto kFirst = static_cast<uint32_t>(CountKind::kFirstCustom);
  return dump.custom(static_cast<uint32_t>(kind) - kFirst).value_or("");
}

bool is_recorded(const Dump& dump, CountKind kind) {
  switch (kind) {
    case CountKind::kBlock:
      return dump.header().block_rate_ns != 0 || was_changed(dump, format::kBlockRateChanged);
    case CountKind::kMutex:
      return dump.header().mutex_fraction != 0 || was_changed(dump, format::kMutexFractionChanged);
    case CountKind::kCpu: return was_cpu_on(dump) || has_cpu_rows(dump);
    default: return true;
  }
}

CountReading read_counts(const Dump& dump) {
  CountReading reading;
  const CustomProfiles customs(dump);
  const auto rows = static_cast<uint32_t>(dump.rows(format::TableId::kCounts));
  for (uint32_t row = 0; row < rows; ++row) {
    auto copy = dump.count(row);
    if (!copy) continue;
    copy->kind = customs.first_of(copy->kind);
    reading.rows.push_back({row, std::move(*copy)});
  }
  return reading;
}

CountSums sum(const Dump& dump, const CountReading& reading, CountKind kind) {
  const double unit_ns = ns_per_unit(dump, kind);
  const bool exact = is_exact(dump, kind);
  CountSums sums;
  EstimateSum count;
  EstimateSum delay;
  uint64_t longest = 0;
  for (const auto& [row, copy] : reading.rows) {
    if (copy.kind != kind) continue;
    const CountTotals& t = copy.totals;
    count.add(whole_count(t.count), exact ? 0 : t.count_variance);
    if (has_time(kind))
      delay.add(static_cast<double>(t.value) * unit_ns,
                exact ? 0 : t.value_variance * unit_ns * unit_ns);
    if (is_custom(kind)) {
      sums.added += t.count / format::kWeightOne;
      sums.removed += t.value;
    }
    sums.samples += t.samples;
    longest = std::max(longest, t.longest);
  }
  sums.count = count.estimate();
  if (is_custom(kind))
    sums.count.value = static_cast<double>(sums.added - std::min(sums.added, sums.removed));
  sums.delay_ns = delay.estimate();
  sums.longest_ns = kind == CountKind::kCpu ? longest : dump.clock().duration_to_ns(longest);
  return sums;
}

PlacedProfile make_profile(const Dump& dump, const CountReading& reading, CountKind kind,
                           LabelNames& names) {
  PlacedProfile out;
  Profile& profile = out.profile;
  profile.types = ValueMaker::types(dump, kind);
  fill_period(dump, reading, kind, profile);
  profile.drop_frames = drop_frames(kind);
  fill_times(dump, profile);
  if (kind == CountKind::kCpu)
    profile.duration_nanos = clamp_value(cpu_times(dump, reading).profiled_ns);
  {
    SampleMaker samples(dump, kind, names, out);
    add_rows(dump, reading, kind, samples);
  }
  profile.comments = comments_for(dump, reading, kind);
  return out;
}

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/count_profile.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "dumper/profile_comments.h"

namespace mprof::dumper {
namespace {

using format::CountKind;
using format::CountTotals;

constexpr const char* kBeforeMprof = "[before mprof]";

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

// Ticks as whole nanoseconds, rounded along the running sum like counts.
class TickRounding {
 public:
  explicit TickRounding(double ns_per_tick) : ns_per_tick_(ns_per_tick) {}

  int64_t round(uint64_t ticks) {
    const double ns = std::clamp(static_cast<double>(ticks) * ns_per_tick_ + carry_, 0.0, kMaxNs);
    const double whole = std::floor(ns + 0.5);
    carry_ = ns - whole;
    return static_cast<int64_t>(whole);
  }

 private:
  static constexpr double kMaxNs = 9e18;
  double ns_per_tick_;
  double carry_ = 0;
};

bool is_exact(const Dump& dump, CountKind kind) {
  switch (kind) {
    case CountKind::kBlock: return dump.header().block_rate_ns <= 1;
    case CountKind::kMutex: return dump.header().mutex_fraction <= 1;
    case CountKind::kThreadCreate: break;
  }
  return true;
}

// The values of the rows of one profile, in the order in which they are asked for.
class ValueMaker {
 public:
  ValueMaker(const Dump& dump, CountKind kind)
      : has_delay_(kind != CountKind::kThreadCreate),
        is_exact_(is_exact(dump, kind)),
        ns_per_tick_(dump.clock().ns_per_tick()),
        delay_(ns_per_tick_) {}

  static std::vector<ValueType> types(CountKind kind) {
    if (kind == CountKind::kThreadCreate) return {{"threadcreate", "count"}};
    return {{"contentions", "count"}, {"delay", "nanoseconds"}};
  }

  void fill(const CountTotals& totals, Sample& sample) {
    sample.values = {count_.round(totals.count)};
    if (has_delay_) sample.values.push_back(delay_.round(totals.value));
    if (is_exact_) return;
    sample.variances = {sane_variance(totals.count_variance),
                        sane_variance(totals.value_variance * ns_per_tick_ * ns_per_tick_)};
  }

 private:
  bool has_delay_;
  bool is_exact_;
  double ns_per_tick_;
  CumulativeRounding count_;
  TickRounding delay_;
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
    stacks_.builder().sample(sample);
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

}  // namespace

const char* view_name(CountKind kind) {
  switch (kind) {
    case CountKind::kBlock: return "block";
    case CountKind::kMutex: return "mutex";
    case CountKind::kThreadCreate: return "threadcreate";
  }
  return "";
}

bool is_recorded(const Dump& dump, CountKind kind) {
  switch (kind) {
    case CountKind::kBlock: return dump.header().block_rate_ns != 0;
    case CountKind::kMutex: return dump.header().mutex_fraction != 0;
    case CountKind::kThreadCreate: break;
  }
  return true;
}

CountReading read_counts(const Dump& dump) {
  CountReading reading;
  const auto rows = static_cast<uint32_t>(dump.rows(format::TableId::kCounts));
  for (uint32_t row = 0; row < rows; ++row)
    if (auto copy = dump.count(row)) reading.rows.push_back({row, std::move(*copy)});
  return reading;
}

CountSums sum(const Dump& dump, const CountReading& reading, CountKind kind) {
  const double ns_per_tick = dump.clock().ns_per_tick();
  CountSums sums;
  EstimateSum count;
  EstimateSum delay;
  uint64_t longest = 0;
  for (const auto& [row, copy] : reading.rows) {
    if (copy.kind != kind) continue;
    const CountTotals& t = copy.totals;
    count.add(whole_count(t.count), t.count_variance);
    delay.add(static_cast<double>(t.value) * ns_per_tick,
              t.value_variance * ns_per_tick * ns_per_tick);
    sums.samples += t.samples;
    longest = std::max(longest, t.longest);
  }
  sums.count = count.estimate();
  sums.delay_ns = delay.estimate();
  sums.longest_ns = dump.clock().duration_to_ns(longest);
  return sums;
}

PlacedProfile make_profile(const Dump& dump, const CountReading& reading, CountKind kind,
                           LabelNames& names) {
  PlacedProfile out;
  Profile& profile = out.profile;
  profile.types = ValueMaker::types(kind);
  profile.period_type = profile.types.front();
  profile.period = 1;
  profile.drop_frames = kDropFrames;
  fill_times(dump, profile);
  {
    SampleMaker samples(dump, kind, names, out);
    ThreadNames thread_names;
    if (kind == CountKind::kThreadCreate) thread_names = names_of_threads(dump);
    for (const auto& [row, copy] : reading.rows)
      if (copy.kind == kind) samples.add_threads(copy, thread_names[row]);
  }
  profile.comments = comments_for(dump, reading, kind);
  return out;
}

}  // namespace mprof::dumper

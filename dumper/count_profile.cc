// SPDX-License-Identifier: Apache-2.0
#include "dumper/count_profile.h"

#include <algorithm>
#include <cmath>
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
    StackTranslator stacks(dump, out);
    ValueMaker values(dump, kind);
    for (const auto& [row, copy] : reading.rows) {
      if (copy.kind != kind) continue;
      Sample sample;
      values.fill(copy.totals, sample);
      if (is_nothing(sample)) continue;
      const bool no_stack = copy.stack == format::kNoRow;
      sample.locations =
          no_stack ? std::vector{stacks.synthetic(kBeforeMprof)} : stacks.locations(copy.stack);
      sample.labels = names.of_set(copy.labels);
      stacks.builder().sample(sample);
    }
  }
  profile.comments = comments_for(dump, reading, kind);
  return out;
}

}  // namespace mprof::dumper

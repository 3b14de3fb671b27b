// SPDX-License-Identifier: Apache-2.0
#include "dumper/heap_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dumper/profile_comments.h"

namespace mprof::dumper {
namespace {

using format::HeapTotals;
using format::TableId;

constexpr int kReadTries = 3;

// pprof cuts a stack at such a frame and everything below it: the allocator's own insides.
constexpr const char* kDropFrames =
    "mprof::.*|mprof_alloc|malloc|calloc|realloc|reallocarray|free|cfree|memalign|aligned_alloc|"
    "posix_memalign|valloc|pvalloc|operator new.*|operator delete.*|mmap|mmap64|mremap|munmap|"
    "brk|sbrk|_?_libc_(malloc|calloc|realloc|memalign|free)";

uint64_t minus(uint64_t allocated, uint64_t freed) {
  return allocated >= freed ? allocated - freed : 0;
}

HeapTotals peak_of(const BucketCopy& bucket, const HeapTotals& totals, PeakMark mark) {
  if (mark.rising || bucket.peak_epoch != mark.epoch) return totals;
  return bucket.at_peak;
}

std::vector<BucketReading> read_buckets(const Dump& dump, const Cut& cut, PeakMark mark) {
  std::vector<BucketReading> buckets;
  const uint64_t rows = dump.rows(TableId::kBuckets);
  for (uint64_t row = 0; row < rows; ++row) {
    const auto copy = dump.bucket(static_cast<uint32_t>(row));
    if (!copy) continue;
    const HeapTotals& totals = totals_in(cut, *copy);
    if (totals.free_bytes > totals.alloc_bytes || totals.free_objects > totals.alloc_objects)
      dump.add_damage(
          fmt::format("bucket table: row {} says that more was freed than allocated; "
                      "counted as nothing live",
                      row));
    buckets.push_back({static_cast<uint32_t>(row), copy->kind, copy->stack, copy->labels, totals,
                       peak_of(*copy, totals, mark)});
  }
  return buckets;
}

// The values of one bucket in one view.
class ValueMaker {
 public:
  explicit ValueMaker(HeapView view) : view_(view) {}

  static std::vector<ValueType> types(HeapView view) {
    std::vector<ValueType> types = {{"alloc_objects", "count"}, {"alloc_space", "bytes"}};
    if (view == HeapView::kPeak) types.clear();
    types.push_back({"inuse_objects", "count"});
    types.push_back({"inuse_space", "bytes"});
    return types;
  }

  void fill(const BucketReading& bucket, Sample& sample) {
    if (view_ == HeapView::kPeak) return add_live(bucket.peak, sample);
    const HeapTotals& totals = bucket.totals;
    sample.values = {alloc_.round(totals.alloc_objects), clamp_value(totals.alloc_bytes)};
    sample.variances = {sane_variance(totals.alloc_objects_variance),
                        sane_variance(totals.alloc_bytes_variance)};
    add_live(totals, sample);
  }

 private:
  void add_live(const HeapTotals& totals, Sample& sample) {
    sample.values.push_back(live_.round(minus(totals.alloc_objects, totals.free_objects)));
    sample.values.push_back(clamp_value(minus(totals.alloc_bytes, totals.free_bytes)));
    sample.variances.push_back(
        sane_variance(totals.alloc_objects_variance - totals.free_objects_variance));
    sample.variances.push_back(
        sane_variance(totals.alloc_bytes_variance - totals.free_bytes_variance));
  }

  HeapView view_;
  CumulativeRounding alloc_;
  CumulativeRounding live_;
};

std::vector<Label> labels_of(const Dump& dump, const BucketReading& bucket) {
  std::vector<Label> labels;
  for (LabelCopy& label : dump.labels(bucket.labels))
    labels.push_back({std::move(label.key), std::move(label.text), 0, {}, false});
  if (bucket.kind == format::BucketKind::kMmap) labels.push_back({"kind", "mmap", 0, {}, false});
  return labels;
}

void add_buckets(const Dump& dump, const HeapReading& reading, HeapView view,
                 StackTranslator& stacks) {
  ValueMaker values(view);
  for (const BucketReading& bucket : reading.buckets) {
    Sample sample;
    values.fill(bucket, sample);
    if (is_nothing(sample)) continue;
    if (dump.header().heap_rate_bytes <= 1 && !was_changed(dump, format::kHeapRateChanged))
      sample.variances.clear();
    sample.locations = stacks.locations(bucket.stack);
    sample.labels = labels_of(dump, bucket);
    stacks.add(std::move(sample));
  }
}

void add_lost_blocks(const Dump& dump, StackTranslator& stacks) {
  using format::Lost;
  if (dump.header().heap_rate_bytes != 1) return;
  for (const Lost reason : {Lost::kTableFull, Lost::kReentered, Lost::kContended,
                            Lost::kNoThreadState, Lost::kAfterEnd}) {
    const auto index = static_cast<size_t>(reason);
    const uint64_t count = dump.header().lost[index].load(std::memory_order_relaxed);
    if (count == 0) continue;
    Sample sample;
    sample.values = {clamp_value(count), 0, 0, 0};
    sample.locations = {stacks.synthetic(fmt::format("[lost: {}]", format::kLostNames[index]))};
    stacks.add(std::move(sample));
  }
}

struct LiveSums {
  EstimateSum objects, bytes;

  void add(const HeapTotals& t) {
    objects.add(whole_count(minus(t.alloc_objects, t.free_objects)),
                t.alloc_objects_variance - t.free_objects_variance);
    bytes.add(static_cast<double>(minus(t.alloc_bytes, t.free_bytes)),
              t.alloc_bytes_variance - t.free_bytes_variance);
  }
};

class HeapSumming {
 public:
  void add(const BucketReading& bucket) {
    const HeapTotals& t = bucket.totals;
    alloc_objects_.add(whole_count(t.alloc_objects), t.alloc_objects_variance);
    alloc_bytes_.add(static_cast<double>(t.alloc_bytes), t.alloc_bytes_variance);
    live_.add(t);
    peak_.add(bucket.peak);
    alloc_samples_ += t.alloc_samples;
    free_samples_ += t.free_samples;
  }

  [[nodiscard]] HeapSums sums() const {
    return {alloc_objects_.estimate(),
            alloc_bytes_.estimate(),
            live_.objects.estimate(),
            live_.bytes.estimate(),
            peak_.objects.estimate(),
            peak_.bytes.estimate(),
            alloc_samples_,
            free_samples_};
  }

 private:
  EstimateSum alloc_objects_, alloc_bytes_;
  LiveSums live_, peak_;
  uint64_t alloc_samples_ = 0;
  uint64_t free_samples_ = 0;
};

}  // namespace

const char* view_name(HeapView view) {
  switch (view) {
    case HeapView::kHeap: return "heap";
    case HeapView::kAllocs: return "allocs";
    case HeapView::kPeak: return "peak";
  }
  return "";
}

HeapReading read_heap(Dump& dump) {
  HeapReading reading;
  for (int i = 0; i < kReadTries; ++i) {
    const PeakMark mark = dump.peak_mark();
    reading.cut = take_cut(dump);
    dump.refresh();  // after the cut: buckets that are in it may lie in a new chunk
    reading.buckets = read_buckets(dump, reading.cut, mark);
    reading.peak_is_now = mark.rising;
    reading.peak_moved = dump.peak_mark() != mark;
    if (!reading.peak_moved && still_holds(dump, reading.cut)) break;
  }
  return reading;
}

HeapSums sum(const HeapReading& reading) {
  HeapSumming summing;
  for (const BucketReading& bucket : reading.buckets) summing.add(bucket);
  return summing.sums();
}

PlacedProfile make_profile(const Dump& dump, const HeapReading& reading, HeapView view) {
  PlacedProfile out;
  Profile& profile = out.profile;
  profile.types = ValueMaker::types(view);
  if (view == HeapView::kAllocs) profile.default_type = 1;
  profile.period_type = {"space", "bytes"};
  profile.period = clamp_value(dump.header().heap_rate_bytes);
  profile.drop_frames = kDropFrames;
  fill_times(dump, profile);
  {
    StackTranslator stacks(dump, out);
    add_buckets(dump, reading, view, stacks);
    if (view != HeapView::kPeak && reading.window.empty()) add_lost_blocks(dump, stacks);
  }
  profile.comments = comments_for(dump, reading, view);
  return out;
}

}  // namespace mprof::dumper

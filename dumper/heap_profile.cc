// SPDX-License-Identifier: Apache-2.0
#include "dumper/heap_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>
#include <utility>

#include "dumper/profile_comments.h"
#include "dumper/progress.h"
#include "format/weights.h"

namespace mprof::dumper {
namespace {

using format::HeapTotals;
using format::kNoRow;
using format::TableId;

constexpr int kReadTries = 3;

// pprof cuts a stack at such a frame and everything below it: the allocator's own insides.
constexpr const char* kDropFrames =
    "mprof::.*|malloc|calloc|realloc|reallocarray|free|cfree|memalign|aligned_alloc|"
    "posix_memalign|valloc|pvalloc|operator new.*|operator delete.*|mmap|mmap64|mremap|munmap|"
    "brk|sbrk|_?_libc_(malloc|calloc|realloc|memalign|free)";

// A hostile dump may hold any double.
double sane(double variance) { return std::isfinite(variance) && variance > 0 ? variance : 0; }

uint64_t minus(uint64_t allocated, uint64_t freed) {
  return allocated >= freed ? allocated - freed : 0;
}

int64_t clamp_value(uint64_t value) {
  return value > uint64_t{INT64_MAX} ? INT64_MAX : static_cast<int64_t>(value);
}

// Objects with 16 fractional bits -> whole objects, such that the sum is right; see the header.
class CumulativeRounding {
 public:
  int64_t round(uint64_t objects) {
    const uint64_t fraction = (objects & (format::kWeightOne - 1)) + carry_;
    carry_ = fraction & (format::kWeightOne - 1);
    return clamp_value((objects >> format::kWeightFractionBits) +
                       (fraction >> format::kWeightFractionBits));
  }

 private:
  uint64_t carry_ = format::kWeightOne / 2;
};

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

// Turns rows of the dump into rows of the profile, each once.
class StackTranslator {
 public:
  StackTranslator(const Dump& dump, HeapProfile& out)
      : dump_(dump), out_(out), builder_(out.profile) {
    load_modules();
  }

  std::vector<uint32_t> locations(uint32_t leaf) {
    const StackCopy stack = dump_.stack(leaf);
    std::vector<uint32_t> result;
    result.reserve(stack.frames.size() + 1);
    for (const FrameRow& frame : stack.frames)
      if (!is_own(frame.module)) result.push_back(location(frame));
    if (stack.root != format::kStackComplete)
      result.push_back(synthetic(format::kStackRootNames[stack.root]));
    // mprof's own work, seen by itself.
    if (result.empty())
      result.push_back(synthetic(stack.frames.empty() ? "[no stack]" : "[mprof]"));
    return result;
  }

  uint32_t synthetic(std::string_view name) {
    const uint32_t location = builder_.synthetic_location(name);
    out_.places.resize(out_.profile.locations.size());
    return location;
  }

  ProfileBuilder& builder() { return builder_; }

 private:
  struct Module {
    ModuleCopy copy;
    int32_t mapping = -1;
    bool is_own = false;
  };

  void load_modules() {
    const auto rows = static_cast<uint32_t>(dump_.rows(TableId::kModules));
    modules_.resize(rows);
    for (uint32_t row = 0; row < rows; ++row)
      if (auto copy = dump_.module(row)) modules_[row].copy = std::move(*copy);
    const std::string main = dump_.executable();
    for (const bool want_main : {true, false})
      for (Module& module : modules_)
        if ((module.copy.path == main) == want_main) add_mapping(module);
  }

  void add_mapping(Module& module) {
    const ModuleCopy& copy = module.copy;
    if (copy.start == 0) return;
    const std::string name = copy.path.substr(copy.path.rfind('/') + 1);
    module.is_own = name == "libmprof.so" || name.starts_with("libmprof.so.");
    if (module.is_own) return;
    Mapping mapping;
    const bool has_text = copy.text_end > copy.text_start;
    mapping.start = has_text ? copy.text_start : copy.start;
    mapping.limit = has_text ? copy.text_end : copy.end;
    mapping.file_offset = has_text ? copy.text_offset : 0;
    mapping.path = copy.path;
    mapping.build_id = copy.build_id_hex;
    module.mapping = builder_.mapping(mapping);
  }

  [[nodiscard]] const Module* module(uint32_t row) const {
    return row < modules_.size() && modules_[row].copy.start != 0 ? &modules_[row] : nullptr;
  }
  [[nodiscard]] bool is_own(uint32_t row) const {
    const Module* found = module(row);
    return found != nullptr && found->is_own;
  }

  uint32_t location(const FrameRow& frame) {
    const auto key = std::pair(frame.module, frame.pc);
    if (const auto found = locations_.find(key); found != locations_.end()) return found->second;
    const Module* in = module(frame.module);
    const uint64_t address = frame.pc - 1;
    const uint32_t index = builder_.location(in == nullptr ? -1 : in->mapping, address);
    out_.places.resize(out_.profile.locations.size());
    if (in != nullptr)
      out_.places[index] = {
          {in->copy.path, in->copy.build_id_hex}, address - in->copy.load_bias, true};
    locations_.emplace(key, index);
    return index;
  }

  const Dump& dump_;
  HeapProfile& out_;
  ProfileBuilder builder_;
  std::vector<Module> modules_;
  std::map<std::pair<uint32_t, uint64_t>, uint32_t> locations_;
};

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
    sample.variances = {sane(totals.alloc_objects_variance), sane(totals.alloc_bytes_variance)};
    add_live(totals, sample);
  }

 private:
  void add_live(const HeapTotals& totals, Sample& sample) {
    sample.values.push_back(live_.round(minus(totals.alloc_objects, totals.free_objects)));
    sample.values.push_back(clamp_value(minus(totals.alloc_bytes, totals.free_bytes)));
    sample.variances.push_back(sane(totals.alloc_objects_variance - totals.free_objects_variance));
    sample.variances.push_back(sane(totals.alloc_bytes_variance - totals.free_bytes_variance));
  }

  HeapView view_;
  CumulativeRounding alloc_;
  CumulativeRounding live_;
};

bool is_nothing(const Sample& sample) {
  return std::all_of(sample.values.begin(), sample.values.end(), [](int64_t v) { return v == 0; });
}

std::vector<Label> labels_of(const Dump& dump, const BucketReading& bucket) {
  std::vector<Label> labels;
  for (LabelText& label : dump.labels(bucket.labels))
    labels.push_back({std::move(label.key), std::move(label.value), 0, {}, false});
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
    if (dump.header().heap_rate_bytes <= 1) sample.variances.clear();
    sample.locations = stacks.locations(bucket.stack);
    sample.labels = labels_of(dump, bucket);
    stacks.builder().sample(sample);
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
    stacks.builder().sample(sample);
  }
}

void fill_times(const Dump& dump, Profile& profile) {
  const uint64_t start = dump.header().realtime_start_ns;
  profile.time_nanos = clamp_value(start);
  profile.duration_nanos = clamp_value(minus(dump.end_realtime_ns(), start));
}

void add_sum(Estimate& estimate, double value, double variance) {
  estimate.value += value;
  estimate.standard_error += sane(variance);  // a variance until finish() takes the root
}

double blocks(uint64_t objects) {
  return static_cast<double>(objects) / static_cast<double>(format::kWeightOne);
}

void add_live_sums(const HeapTotals& t, Estimate& objects, Estimate& bytes) {
  add_sum(objects, blocks(minus(t.alloc_objects, t.free_objects)),
          t.alloc_objects_variance - t.free_objects_variance);
  add_sum(bytes, static_cast<double>(minus(t.alloc_bytes, t.free_bytes)),
          t.alloc_bytes_variance - t.free_bytes_variance);
}

}  // namespace

const char* view_name(HeapView view) {
  switch (view) {
    case HeapView::kHeap: return "heap";
    case HeapView::kAllocs: return "allocs";
    case HeapView::kPeak: return "peak";
  }
  return "";
}

std::vector<HeapView> parse_views(const std::string& list) {
  std::vector<HeapView> views;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string word = list.substr(begin, end - begin);
    const auto* found = std::find_if(std::begin(kHeapViews), std::end(kHeapViews),
                                     [&](HeapView view) { return word == view_name(view); });
    if (found == std::end(kHeapViews))
      throw std::invalid_argument(fmt::format(
          "profile '{}': accepted are heap, allocs and peak, separated by commas", word));
    if (std::find(views.begin(), views.end(), *found) == views.end()) views.push_back(*found);
    begin = end + 1;
  }
  return views;
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
  HeapSums sums;
  for (const BucketReading& bucket : reading.buckets) {
    const HeapTotals& t = bucket.totals;
    add_sum(sums.alloc_objects, blocks(t.alloc_objects), t.alloc_objects_variance);
    add_sum(sums.alloc_bytes, static_cast<double>(t.alloc_bytes), t.alloc_bytes_variance);
    add_live_sums(t, sums.live_objects, sums.live_bytes);
    add_live_sums(bucket.peak, sums.peak_objects, sums.peak_bytes);
    sums.alloc_samples += t.alloc_samples;
    sums.free_samples += t.free_samples;
  }
  for (Estimate* e : {&sums.alloc_objects, &sums.alloc_bytes, &sums.live_objects, &sums.live_bytes,
                      &sums.peak_objects, &sums.peak_bytes})
    e->standard_error = std::sqrt(e->standard_error);
  return sums;
}

HeapProfile make_profile(const Dump& dump, const HeapReading& reading, HeapView view) {
  HeapProfile out;
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

void symbolize(HeapProfile& heap, Symbolizer& symbolizer, SymbolDetail detail) {
  if (detail == SymbolDetail::kNone) return;
  Profile& profile = heap.profile;
  ProfileBuilder builder(profile);
  std::map<std::string, ModuleSymbols> poor;
  Progress progress("finding symbols", profile.locations.size());
  for (size_t i = 0; i < profile.locations.size(); ++i) {
    progress.step();
    const CodePlace& place = heap.places[i];
    if (!place.known) continue;
    std::vector<Line> lines;
    for (const SymbolFrame& frame : symbolizer.frames(place.module, place.vaddr))
      lines.push_back(
          {builder.function(frame.name, frame.file, frame.system_name, frame.start_line),
           frame.line});
    profile.locations[i].lines = std::move(lines);
    const ModuleSymbols status = symbolizer.status(place.module);
    if (status != ModuleSymbols::kOk) poor.emplace(place.module.path, status);
    const int32_t mapping = profile.locations[i].mapping;
    if (mapping < 0 || status != ModuleSymbols::kOk) continue;
    Mapping& of = profile.mappings[static_cast<size_t>(mapping)];
    of.has_functions = true;
    of.has_filenames = of.has_line_numbers = of.has_inline_frames = detail == SymbolDetail::kFull;
  }
  for (const auto& [path, status] : poor)
    profile.comments.push_back(fmt::format("no names from {}: {}", path, describe(status)));
}

}  // namespace mprof::dumper

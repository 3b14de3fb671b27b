// SPDX-License-Identifier: Apache-2.0
#include "dumper/heap_profile.h"

#include <algorithm>
#include <cmath>

#include "dumper/profile_comments.h"
#include "dumper/tick_clock.h"
#include "tests/unit/catch.h"
#include "tests/unit/dump_image.h"

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using mprof::format::kNoRow;
using mprof::testing::DumpImage;
using mprof::testing::fill_with_sample_content;
using mprof::testing::heap_totals;

namespace {

Profile profile_of(DumpImage& image, HeapView view) {
  Dump dump = Dump::from_fd(image.duplicate(), "image", false);
  return make_profile(dump, read_heap(dump), view).profile;
}

int64_t total(const Profile& profile, size_t value) {
  int64_t all = 0;
  for (const Sample& sample : profile.samples) all += sample.values[value];
  return all;
}

std::vector<std::string> names_of(const Profile& profile, const Sample& sample) {
  std::vector<std::string> names;
  for (const uint32_t location : sample.locations)
    for (const Line& line : profile.locations[location].lines)
      names.push_back(profile.functions[line.function].name);
  return names;
}

bool near(double value, double expected) {
  return std::abs(value - expected) <= 1e-4 * std::abs(expected);
}

bool some_comment(const Profile& profile, const std::string& part) {
  return std::any_of(profile.comments.begin(), profile.comments.end(),
                     [&](const std::string& c) { return c.find(part) != std::string::npos; });
}

}  // namespace

TEST_CASE("heap_profile: heap and allocs have Go's four types, peak the two of what is in use") {
  DumpImage image;
  fill_with_sample_content(image);
  const Profile heap = profile_of(image, HeapView::kHeap);
  REQUIRE(heap.types.size() == 4);
  CHECK(heap.types[3] == ValueType{"inuse_space", "bytes"});
  CHECK(heap.default_type == -1);
  CHECK(heap.period_type == ValueType{"space", "bytes"});
  CHECK(heap.period == 524288);
  CHECK(profile_of(image, HeapView::kAllocs).default_type == 1);
  CHECK(profile_of(image, HeapView::kPeak).types.size() == 2);
  CHECK(total(heap, 1) == 300 + 40 + 7 + 4096 + 20);
  CHECK(total(heap, 3) == 200 + 40 + 0 + 4096 + 20);
}

TEST_CASE("heap_profile: addresses are calls and modules are mappings, the program first") {
  DumpImage image;
  const uint32_t library = image.add_module("/lib/libx.so", 0x50000, 0x60000);
  const uint32_t program = image.add_module("/bin/program", 0x10000, 0x20000);
  const uint32_t outer = image.add_node(0, 0x11101, program);
  image.add_bucket(image.add_node(outer, 0x51201, library), heap_totals(1, 0, 8));
  Dump dump = Dump::from_fd(image.duplicate(), "image", false);
  const PlacedProfile heap = make_profile(dump, read_heap(dump), HeapView::kHeap);
  REQUIRE(heap.profile.mappings.size() == 2);
  CHECK(heap.profile.mappings[0].path == "/bin/program");
  CHECK(heap.profile.mappings[0].start == 0x11000);
  CHECK(heap.profile.mappings[0].file_offset == 0x1000);
  CHECK(heap.profile.mappings[1].build_id == "deadbeef");
  const Sample& sample = heap.profile.samples.at(0);
  CHECK(heap.profile.locations[sample.locations[0]].address == 0x51200);
  CHECK(heap.places[sample.locations[0]].vaddr == 0x1200);
  CHECK(heap.places[sample.locations[1]].module.path == "/bin/program");
}

TEST_CASE("heap_profile: missing outer frames are a frame, mmap and labels are labels") {
  DumpImage image;
  fill_with_sample_content(image);
  const Profile heap = profile_of(image, HeapView::kHeap);
  size_t truncated = 0;
  size_t mmaps = 0;
  size_t tenants = 0;
  for (const Sample& sample : heap.samples) {
    const auto names = names_of(heap, sample);
    if (!names.empty() && names.back() == "[truncated]") ++truncated;
    for (const Label& label : sample.labels) {
      if (label.key == "kind" && label.str == "mmap") {
        ++mmaps;
        CHECK(names.back() == "[incomplete]");
      }
      if (label.key == "tenant" && label.str == "t1") ++tenants;
    }
  }
  CHECK(truncated == 1);
  CHECK(mmaps == 1);
  CHECK(tenants == 1);
}

TEST_CASE("heap_profile: frames of libmprof.so are not shown") {
  DumpImage image;
  const uint32_t own = image.add_module("/usr/lib/libmprof.so", 0x70000, 0x80000);
  const uint32_t program = image.add_module("/bin/program", 0x10000, 0x20000);
  const uint32_t outer = image.add_node(0, 0x11101, program);
  image.add_bucket(image.add_node(outer, 0x71001, own), heap_totals(1, 0, 8));
  image.add_bucket(image.add_node(0, 0x71001, own), heap_totals(1, 0, 8));
  const Profile heap = profile_of(image, HeapView::kHeap);
  REQUIRE(heap.samples.size() == 2);
  CHECK(heap.samples[0].locations.size() == 1);
  CHECK(names_of(heap, heap.samples[1]) == std::vector<std::string>{"[mprof]"});
  for (const Mapping& mapping : heap.mappings) CHECK(mapping.path == "/bin/program");
}

TEST_CASE("heap_profile: rounding to whole objects keeps the total") {
  DumpImage image;
  const uint32_t labels[] = {image.add_label("a", "1", kNoRow), image.add_label("a", "2", kNoRow),
                             image.add_label("a", "3", kNoRow), image.add_label("a", "4", kNoRow)};
  const uint32_t stack = image.add_node(0, 0x1001, kNoRow);
  for (const uint32_t label : labels) image.add_bucket(stack, heap_totals(1.25, 0, 100), label);
  const Profile heap = profile_of(image, HeapView::kHeap);
  CHECK(heap.samples.size() == 4);
  CHECK(total(heap, 0) == 5);
  CHECK(total(heap, 2) == 5);
  for (const Sample& sample : heap.samples) CHECK(sample.values[0] >= 1);
}

TEST_CASE("heap_profile: variances add up to the standard error") {
  DumpImage image;
  auto totals = heap_totals(10, 0, 100);
  totals.alloc_bytes_variance = 30000;
  totals.free_bytes_variance = 10000;
  const uint32_t stack = image.add_node(0, 0x1001, kNoRow);
  image.add_bucket(stack, totals);
  totals.alloc_bytes_variance = 60000;
  image.add_bucket(stack, totals);
  Dump dump = Dump::from_fd(image.duplicate(), "image", false);
  const HeapSums sums = sum(read_heap(dump));
  CHECK(near(sums.alloc_bytes.standard_error, 300));
  CHECK(near(sums.live_bytes.standard_error, 264.575));
  const Profile heap = profile_of(image, HeapView::kHeap);
  CHECK(near(heap.samples.at(0).variances.at(1), 90000));
}

TEST_CASE("heap_profile: losses are comments, and at rate 1 samples") {
  DumpImage image;
  fill_with_sample_content(image);
  image.header().lost[0] = 12;
  Profile heap = profile_of(image, HeapView::kHeap);
  CHECK(some_comment(heap, "lost: 12 samples (table full)"));
  const int64_t objects = total(heap, 0);
  image.header().heap_rate_bytes = 1;
  heap = profile_of(image, HeapView::kHeap);
  CHECK(total(heap, 0) == objects + 12);
  CHECK(names_of(heap, heap.samples.back()) == std::vector<std::string>{"[lost: table full]"});
  CHECK(some_comment(heap, "values are exact"));
}

TEST_CASE("tick_clock: a line through two points") {
  DumpImage image;
  image.header().ticks_are_ns = 0;
  image.header().clock_first = {1000, 5'000'000'000};
  image.header().clock_last = {3'000'001'000, 6'000'000'000};
  const TickClock clock(image.header());
  CHECK(clock.calibrated());
  CHECK(near(clock.ns_per_tick(), 1.0 / 3));
  CHECK(clock.since_start_ns(1'500'001'000) == 500'000'000);
  CHECK(clock.monotonic_ns(1'500'001'000) == 5'500'000'000);
  CHECK(clock.realtime_ns(1'500'001'000) == 1'700'000'000'500'000'000);
  CHECK(clock.ticks_at_since_start_ns(500'000'000) == 1'500'001'000);
  CHECK(clock.monotonic_ns(0) == 0);
}

TEST_CASE("tick_clock: points that make no sense leave it uncalibrated") {
  DumpImage image;
  image.header().ticks_are_ns = 0;
  image.header().clock_first = {UINT64_MAX, UINT64_MAX};
  image.header().clock_last = {5, 7};
  const TickClock clock(image.header());
  CHECK_FALSE(clock.calibrated());
  CHECK(clock.monotonic_ns(12345) <= uint64_t{9'000'000'000'000'000'000});
}

TEST_CASE("profile_comments: a command line is one line that a shell would take") {
  CHECK(command_text({"a", "b c", "it's", ""}) == "a 'b c' 'it'\\''s' ''");
  CHECK(command_text({"x\n\x1b[2J"}) == "'x??[2J'");
}

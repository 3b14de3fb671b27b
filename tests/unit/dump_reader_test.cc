// SPDX-License-Identifier: Apache-2.0
#include "dumper/dump_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dumper/count_profile.h"
#include "dumper/custom_profiles.h"
#include "dumper/cut.h"
#include "dumper/encode_pprof.h"
#include "dumper/heap_profile.h"
#include "dumper/report_info.h"
#include "tests/unit/catch.h"
#include "tests/unit/dump_image.h"

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using mprof::format::BucketKind;
using mprof::format::CountKind;
using mprof::format::kNoRow;
using mprof::format::LabelType;
using mprof::format::TableId;
using mprof::testing::count_totals;
using mprof::testing::DumpImage;
using mprof::testing::fill_with_sample_content;
using mprof::testing::heap_totals;

namespace {

Dump read(const DumpImage& image, bool writable = false) {
  return Dump::from_fd(image.duplicate(), "image", writable);
}

std::string error_of(const DumpImage& image) {
  try {
    (void)read(image);
  } catch (const DumpError& error) {
    return error.what();
  }
  return "";
}

std::string open_error(const std::string& path) {
  try {
    (void)Dump::open(path, Access::kRead);
  } catch (const DumpError& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

bool has_damage(const Dump& dump, const std::string& part) {
  for (const std::string& line : dump.damage())
    if (contains(line, part)) return true;
  return false;
}

void use_counts(const Dump& dump) {
  SymbolOptions no_files;
  no_files.detail = SymbolDetail::kNone;
  Symbolizer symbolizer(no_files);
  LabelNames names(dump, symbolizer, no_files.detail);
  const CountReading reading = read_counts(dump);
  std::vector<CountKind> kinds(std::begin(kCountKinds), std::end(kCountKinds));
  for (const CustomProfile& custom : CustomProfiles(dump).all()) kinds.push_back(custom.kind);
  for (const CountKind kind : kinds) {
    const PlacedProfile counts = make_profile(dump, reading, kind, names);
    CHECK(counts.places.size() == counts.profile.locations.size());
    CHECK(!encode_pprof(counts.profile).empty());
  }
}

// All that is ever done with a dump. Gives the number of buckets that could be read.
size_t use_everything(Dump& dump) {
  const HeapReading reading = read_heap(dump);
  for (const HeapView view : kHeapViews) {
    const PlacedProfile heap = make_profile(dump, reading, view);
    CHECK(heap.places.size() == heap.profile.locations.size());
    CHECK(!encode_pprof(heap.profile).empty());
  }
  use_counts(dump);
  CHECK(!report_info(dump, reading, "not checked").empty());
  return reading.buckets.size();
}

}  // namespace

TEST_CASE("dump_reader: what was written is read") {
  DumpImage image;
  fill_with_sample_content(image);
  Dump dump = read(image);
  CHECK(dump.damage().empty());
  CHECK(dump.executable() == "/bin/program");
  CHECK(dump.command_line() == std::vector<std::string>{"program", "-x", "a b"});
  CHECK(dump.rows(TableId::kBuckets) == 5);
  const auto bucket = dump.bucket(1);
  REQUIRE(bucket);
  CHECK(bucket->totals.alloc_bytes == 40);
  CHECK(dump.labels(bucket->labels).at(0).key == "tenant");
  CHECK(dump.labels(bucket->labels).at(0).text == "t1");
  const StackCopy stack = dump.stack(bucket->stack);
  REQUIRE(stack.frames.size() == 10);
  CHECK(stack.frames.front().pc == 0x11001 + 9 * 16);
  CHECK(stack.root == mprof::format::kStackComplete);
  const auto module = dump.module(stack.frames.front().module);
  REQUIRE(module);
  CHECK(module->path == "/lib/libx.so");
  CHECK(module->build_id_hex == "deadbeef");
  CHECK(dump.thread(0)->tid == 4711);
  CHECK(dump.thread(0)->name == "worker");
  CHECK(dump.profbuf(0)->word_count == DumpImage::kProfbufWords);
  CHECK_FALSE(dump.profbuf(1));
  CHECK_FALSE(dump.bucket(5));
  CHECK(dump.thread(0)->cpu_samples == 5);
  CHECK(dump.thread(0)->cpu_in_mprof_ns == 10'000'000);
  CHECK(dump.custom(0) == "program/files");
  CHECK_FALSE(dump.custom(1));
  CHECK_FALSE(dump.module(77));
  CHECK(use_everything(dump) == 5);
}

TEST_CASE("dump_reader: another version is named together with its own") {
  DumpImage image;
  image.header().version = 7;
  const std::string error = error_of(image);
  CHECK(contains(error, "dump version 7"));
  CHECK(contains(error, "reads version " + std::to_string(mprof::format::kDumpVersion)));
}

TEST_CASE("dump_reader: what is no dump is refused with its reason") {
  CHECK(contains(open_error("/nonexistent/file"), "No such file"));
  CHECK(contains(open_error("/tmp"), "not a regular file"));
  CHECK(contains(open_error("/dev/null"), "not a regular file"));
  DumpImage image;
  image.header().magic = 0;
  CHECK(contains(error_of(image), "unfinished dump"));
  image.header().magic = 1;
  CHECK(contains(error_of(image), "not a dump"));
  image.resize(0);
  CHECK(contains(error_of(image), "empty"));
}

TEST_CASE("dump_reader: a fifo is refused at once") {
  char name[] = "/tmp/mprof-fifo-XXXXXX";
  REQUIRE(mkdtemp(name) != nullptr);
  const std::string fifo = std::string(name) + "/fifo";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  CHECK(contains(open_error(fifo), "not a regular file"));
  unlink(fifo.c_str());
  rmdir(name);
}

TEST_CASE("dump_reader: a dump cut at any place gives what is left or says why not") {
  DumpImage whole;
  fill_with_sample_content(whole);
  const uint64_t size = whole.size_bytes();
  size_t most = 0;
  uint64_t refused_below = 0;
  for (uint64_t bytes = 0; bytes <= size; bytes += bytes < 256 ? 1 : 31) {
    DumpImage image;
    fill_with_sample_content(image);
    image.resize(bytes);
    try {
      Dump dump = read(image);
      const size_t buckets = use_everything(dump);
      CHECK(buckets >= most);
      most = std::max(most, buckets);
      if (dump.rows(TableId::kBuckets) < 5) CHECK(has_damage(dump, "bucket table"));
    } catch (const DumpError& error) {
      CHECK(contains(error.what(), "image: "));
      refused_below = bytes;
    }
  }
  CHECK(refused_below < sizeof(mprof::format::DumpHeader));
  CHECK(most == 5);
}

TEST_CASE("dump_reader: the clean end may cut off chunks that were never used") {
  DumpImage image;
  image.add_bucket(image.add_node(0, 0x1001, kNoRow), heap_totals(1, 0, 10));
  auto& buckets = image.directory(TableId::kBuckets);
  image.resize(buckets.chunk_offset[0].load() + sizeof(mprof::format::BucketRow));
  Dump dump = read(image);
  CHECK(use_everything(dump) == 1);
  CHECK(dump.damage().empty());
}

TEST_CASE("dump_reader: counts beyond the file are clamped and reported") {
  DumpImage image;
  fill_with_sample_content(image);
  image.directory(TableId::kBuckets).used_rows.store(UINT64_MAX);
  image.directory(TableId::kStackNodes).used_rows.store(1ull << 40);
  Dump dump = read(image);
  CHECK(dump.rows(TableId::kBuckets) == 8);
  CHECK(dump.rows(TableId::kStackNodes) == 16);
  CHECK(has_damage(dump, "bucket table"));
  CHECK(use_everything(dump) == 5);
}

TEST_CASE("dump_reader: bad shapes leave the table out and the rest in") {
  DumpImage image;
  fill_with_sample_content(image);
  SECTION("row size") { image.directory(TableId::kModules).row_bytes = 5; }
  SECTION("first chunk") { image.directory(TableId::kModules).first_rows = 3; }
  SECTION("offset outside") { image.directory(TableId::kModules).chunk_offset[0] = 1ull << 50; }
  SECTION("offset misaligned") { image.directory(TableId::kModules).chunk_offset[0] = 9001; }
  SECTION("offset in the header") { image.directory(TableId::kModules).chunk_offset[0] = 64; }
  Dump dump = read(image);
  CHECK(dump.rows(TableId::kModules) == 0);
  CHECK(has_damage(dump, "module table"));
  CHECK(use_everything(dump) == 5);
}

TEST_CASE("dump_reader: a stack that leads in a circle ends") {
  DumpImage image;
  const uint32_t a = image.add_node(0, 0x1001, kNoRow);
  const uint32_t b = image.add_node(a, 0x1002, kNoRow);
  image.row<mprof::format::StackNode>(TableId::kStackNodes, a).parent = b;
  const Dump dump = read(image);
  const StackCopy stack = dump.stack(b);
  CHECK(stack.damaged);
  CHECK(stack.frames.size() == 1);
  CHECK(dump.stack(12345).damaged);
  CHECK(has_damage(dump, "stack table"));
}

TEST_CASE("dump_reader: a target that was killed while it kept the peak leaves its totals") {
  DumpImage image;
  image.header().peak_epoch = 4;
  const uint32_t row = image.add_bucket(image.add_node(0, 0x1001, kNoRow), heap_totals(4, 0, 10));
  image.bucket_at(row).peak_epoch = 2;
  image.bucket_at(row).at_peak = heap_totals(9, 0, 10);
  image.bucket_at(row).saved_version = 1;
  Dump dump = read(image);
  CHECK(read_heap(dump).buckets.at(0).peak.alloc_bytes == 40);
  image.bucket_at(row).peak_epoch = 4;
  CHECK(read_heap(dump).buckets.at(0).peak.alloc_bytes == 90);
}

TEST_CASE("dump_reader: the peak is the totals of buckets that have not changed since") {
  DumpImage image;
  image.header().peak_epoch = 2;
  const uint32_t stack = image.add_node(0, 0x1001, kNoRow);
  image.add_bucket(stack, heap_totals(1, 0, 100));
  image.bucket_at(0).peak_epoch = 1;
  image.bucket_at(0).at_peak = heap_totals(50, 0, 100);
  image.add_bucket(stack, heap_totals(8, 8, 100));
  image.bucket_at(1).peak_epoch = 2;
  image.bucket_at(1).at_peak = heap_totals(8, 1, 100);
  Dump dump = read(image);
  CHECK(sum(read_heap(dump)).peak_bytes.value == 100 + 700);
  image.header().peak_epoch = 3;
  CHECK(sum(read_heap(dump)).peak_bytes.value == 100);
}

TEST_CASE("dump_reader: unknown kinds and impossible totals are damage") {
  DumpImage image;
  const uint32_t stack = image.add_node(0, 0x1001, kNoRow);
  image.add_bucket(stack, heap_totals(1, 3, 10));
  image.add_bucket(stack, heap_totals(1, 0, 10), kNoRow, static_cast<BucketKind>(99));
  Dump dump = read(image);
  const HeapReading reading = read_heap(dump);
  CHECK(reading.buckets.size() == 1);
  CHECK(has_damage(dump, "unknown kind 99"));
  CHECK(has_damage(dump, "more was freed"));
  CHECK(sum(reading).live_bytes.value == 0);
}

TEST_CASE("dump_reader: count rows, their typed labels and who made a thread are read") {
  DumpImage image;
  fill_with_sample_content(image);
  const Dump dump = read(image);
  CHECK(dump.rows(TableId::kCounts) == 7);
  const auto count = dump.count(2);
  REQUIRE(count);
  CHECK(count->kind == CountKind::kMutex);
  CHECK(count->totals.samples == 2);
  CHECK(count->totals.value == 160'000);
  CHECK(count->totals.longest == 80'000);
  const auto labels = dump.labels(count->labels);
  REQUIRE(labels.size() == 3);
  CHECK(labels[0].key == "victim");
  CHECK(labels[0].type == LabelType::kStack);
  CHECK(labels[0].stack == count->stack);
  CHECK(labels[1].type == LabelType::kAddress);
  CHECK(labels[1].address == 0x1f010);
  CHECK(labels[1].module == 0);
  CHECK(labels[2].text == "mutex");
  CHECK(dump.count(3)->stack == kNoRow);
  CHECK(dump.thread(0)->creation == 4);
  CHECK(dump.count(5)->kind == CountKind::kCpu);
  CHECK(dump.count(6)->kind == mprof::testing::custom_kind(0));
  CHECK_FALSE(dump.count(7));
  image.row<mprof::format::ThreadRow>(TableId::kThreads, 0).creation = 0;
  CHECK(dump.thread(0)->creation == kNoRow);
}

TEST_CASE("dump_reader: a hostile name of the program's own profiles is left out") {
  DumpImage image;
  const uint32_t row = image.add_custom("files");
  auto& custom = image.custom_at(row);
  const Dump dump = read(image);
  CHECK(dump.custom(row) == "files");
  SECTION("longer than the table") { custom.name_bytes = 400; }
  SECTION("longer than any") { custom.name_bytes = UINT32_MAX; }
  SECTION("somewhere else") { custom.name = 100'000; }
  CHECK_FALSE(dump.custom(row));
  CHECK(has_damage(dump, "custom table: row 0 has a name of"));
  custom.name_bytes = 0;  // not published yet: nothing is wrong
  CHECK_FALSE(dump.custom(row));
  CHECK(dump.damage().size() == 1);
}

TEST_CASE("dump_reader: of a count row the half that its version names is read") {
  DumpImage image;
  const uint32_t row = image.add_count(CountKind::kBlock, kNoRow, count_totals(1, 10));
  image.count_at(row).totals[1] = count_totals(2, 10);
  const Dump dump = read(image);
  CHECK(dump.count(row)->totals.value == 10);
  image.count_at(row).version = 1;
  CHECK(dump.count(row)->totals.value == 20);
}

TEST_CASE("dump_reader: hostile count rows and labels are left out or clamped") {
  DumpImage image;
  const uint32_t stack = image.add_node(0, 0x1001, kNoRow);
  const uint32_t odd = image.add_typed_label("odd", static_cast<LabelType>(9), 1, 2, kNoRow);
  const uint32_t far = image.add_typed_label("far", LabelType::kStack, UINT64_MAX, 0, odd);
  const uint32_t text = image.add_typed_label("text", LabelType::kText, UINT64_MAX, 7, far);
  image.add_count(static_cast<CountKind>(77), stack, count_totals(1, 5));
  auto huge = count_totals(1, UINT64_MAX);
  huge.count = UINT64_MAX;
  huge.count_variance = huge.value_variance = std::numeric_limits<double>::quiet_NaN();
  image.add_count(CountKind::kBlock, 12345, huge, text);
  image.add_count(CountKind::kMutex, stack, count_totals(1, 5), 54321);
  Dump dump = read(image);
  CHECK_FALSE(dump.count(0));
  CHECK(has_damage(dump, "count table: row 0 is of unknown kind 77"));
  const auto labels = dump.labels(text);
  REQUIRE(labels.size() == 2);
  CHECK(labels[0].text.empty());
  CHECK(labels[1].stack == kNoRow);
  CHECK(has_damage(dump, "label table: row 0 is of unknown type 9"));
  use_everything(dump);
  CHECK(has_damage(dump, "label table: a label set breaks at row 54321"));
}

TEST_CASE("dump_reader: a file that shrinks under the reader reads as zeros and says so") {
  DumpImage image;
  fill_with_sample_content(image);
  Dump dump = read(image);
  image.resize(4096);
  for (uint32_t row = 0; row < 5; ++row) CHECK_FALSE(dump.bucket(row));
  dump.refresh();
  CHECK(has_damage(dump, "shrank"));
}

TEST_CASE("dump_reader: random bytes never crash it") {
  std::mt19937_64 random(42);
  for (int round = 0; round < 2000; ++round) {
    DumpImage image;
    fill_with_sample_content(image);
    const auto flips = 1 + random() % 64;
    for (uint64_t i = 0; i < flips; ++i) {
      const uint64_t size = round % 2 == 0 ? image.size_bytes() : sizeof(mprof::format::DumpHeader);
      image.bytes()[random() % size] = static_cast<std::byte>(random());
    }
    try {
      Dump dump = read(image, true);
      use_everything(dump);
    } catch (const DumpError&) {
      continue;  // a broken header
    }
  }
}

TEST_CASE("dump_reader: a running target's dump grows under the reader") {
  DumpImage image(static_cast<uint32_t>(getpid()));
  const uint64_t whole = image.size_bytes();
  auto& strings = image.directory(TableId::kStrings);
  const uint64_t second_chunk = strings.chunk_offset[1].exchange(0);
  image.resize(second_chunk);
  Dump dump = read(image);
  CHECK(dump.life() == Life::kRunning);
  CHECK(dump.capacity_rows(TableId::kStrings) == 256);
  image.resize(whole);
  strings.chunk_offset[1] = second_chunk;
  strings.used_rows = 256;
  const uint32_t text = image.add_string("grown");
  dump.refresh();
  CHECK(dump.capacity_rows(TableId::kStrings) == 512);
  CHECK(dump.text(text, 5) == "grown");
  CHECK(dump.damage().empty());
}

TEST_CASE("dump_reader: life is told from the end mark and the process") {
  DumpImage image(static_cast<uint32_t>(getpid()));
  CHECK(read(image).life() == Life::kRunning);
  image.header().start_time_clock_ticks += 1;
  CHECK(read(image).life() == Life::kEndedWithoutCleanEnd);
  image.header().end_state = mprof::format::EndState::kClean;
  CHECK(read(image).life() == Life::kEndedCleanly);
}

TEST_CASE("cut: a bucket that changed after the cut shows what it held before") {
  DumpImage image(static_cast<uint32_t>(getpid()));
  const uint32_t stack = image.add_node(0, 0x1001, kNoRow);
  image.add_bucket(stack, heap_totals(1, 0, 10));
  image.add_bucket(stack, heap_totals(2, 0, 10));
  const Dump dump = read(image, true);
  const Cut cut = take_cut(dump);
  REQUIRE(cut.mode == CutMode::kCut);
  CHECK(cut.threads_inside == 0);
  CHECK(image.header().control.cut_epoch == cut.epoch);
  image.bucket_at(1).at_cut = image.bucket_at(1).totals[0];
  image.bucket_at(1).cut_epoch = cut.epoch;
  image.bucket_at(1).totals[0] = heap_totals(7, 0, 10);
  CHECK(totals_in(cut, *dump.bucket(0)).alloc_bytes == 10);
  CHECK(totals_in(cut, *dump.bucket(1)).alloc_bytes == 20);
  CHECK(still_holds(dump, cut));
  image.header().control.cut_epoch.fetch_add(1);
  CHECK_FALSE(still_holds(dump, cut));
}

TEST_CASE("cut: a thread inside is waited for, and one that stays is reported") {
  DumpImage image(static_cast<uint32_t>(getpid()));
  const uint32_t row = image.add_thread(static_cast<uint32_t>(getpid()));
  auto& inside = image.row<mprof::format::ThreadRow>(TableId::kThreads, row).inside;
  inside = 1;
  const Dump dump = read(image, true);
  const Cut stuck = take_cut(dump);
  CHECK(stuck.threads_inside == 1);
  CHECK(contains(describe(stuck), "1 threads were inside"));
  std::atomic<bool> left{false};
  std::thread leaver([&] {
    while (image.header().control.cut_epoch == stuck.epoch) std::this_thread::yield();
    left = true;
    inside = 2;
  });
  CHECK(take_cut(dump).threads_inside == 0);
  CHECK(left);
  leaver.join();
}

TEST_CASE("cut: without the right to write, none is taken and the profile says so") {
  DumpImage image(static_cast<uint32_t>(getpid()));
  Dump dump = read(image, false);
  const Cut cut = take_cut(dump);
  CHECK(cut.mode == CutMode::kReadOnly);
  CHECK(image.header().control.cut_epoch == 0);
  CHECK(contains(describe(cut), "without a consistent cut"));
}

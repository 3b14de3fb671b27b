// SPDX-License-Identifier: Apache-2.0
// The program's own profiles out of a dump: contents, names, files.
#include "dumper/custom_profiles.h"

#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dumper/decode_pprof.h"
#include "dumper/double_entry.h"
#include "dumper/info_json.h"
#include "dumper/report_info.h"
#include "tests/unit/catch.h"
#include "tests/unit/count_profiles.h"

namespace {

using namespace mprof;          // NOLINT: a test of that namespace
using namespace mprof::dumper;  // NOLINT: the same
using format::CountKind;
using format::kNoRow;
using test::contains;
using test::open;
using test::pprof_output;
using test::profile_of;
using test::some_comment;
using test::total;
using test::totals_by_pprof;
using test::write_one;
using test::write_views;
using testing::custom_kind;
using testing::DumpImage;

format::CountTotals contents(uint64_t added, uint64_t removed) {
  format::CountTotals totals{};
  totals.count = added * format::kWeightOne;
  totals.value = removed;
  totals.samples = added;
  return totals;
}

// Two sites that open files: 5 of 8 are still open, and all 3.
void fill(DumpImage& image) {
  const uint32_t program = image.add_module("/bin/program", 0x10000, 0x20000);
  const uint32_t main = image.add_node(0, 0x11101, program);
  const CountKind files = custom_kind(image.add_custom("app/files"));
  image.add_count(files, image.add_node(main, 0x11201, program), contents(8, 3));
  image.add_count(files, main, contents(3, 0), image.add_label("tenant", "t1", kNoRow));
  image.add_custom("connections");
}

std::string error_of(const DumpImage& image, const std::string& name) {
  try {
    write_one(image, CustomView{name}, false);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("custom_profiles: what is in one now, by who added it") {
  DumpImage image;
  fill(image);
  const Profile files = profile_of(image, custom_kind(0));
  CHECK(files.types == std::vector<ValueType>{{"app/files", "count"}});
  CHECK(files.period_type == ValueType{"app/files", "count"});
  CHECK(files.period == 1);
  REQUIRE(files.samples.size() == 2);
  CHECK(total(files, 0) == 8);
  CHECK(some_comment(files, "mprof app/files profile of process"));
  CHECK(some_comment(files, "total: 8 now: 11 added, 3 removed"));
  CHECK(profile_of(image, custom_kind(1)).samples.empty());
}

TEST_CASE("custom_profiles: whoever removes may do so in another row than who added") {
  DumpImage image;
  const uint32_t stack = image.add_node(0, 0x1001, kNoRow);
  const CountKind kind = custom_kind(image.add_custom("files"));
  image.add_count(kind, stack, contents(4, 0));
  image.add_count(kind, stack, contents(0, 3));
  CHECK(total(profile_of(image, kind), 0) == 1);
  // More removed than added is nothing, not less.
  image.add_count(kind, stack, contents(0, 3));
  CHECK(profile_of(image, kind).samples.empty());
  CHECK(some_comment(profile_of(image, kind), "total: 0 now: 4 added, 6 removed"));
}

TEST_CASE("custom_profiles: two rows of one name are one profile") {
  DumpImage image;
  const uint32_t stack = image.add_node(0, 0x1001, kNoRow);
  image.add_count(custom_kind(image.add_custom("files")), stack, contents(4, 0));
  image.add_count(custom_kind(image.add_custom("files")), stack, contents(2, 0));
  CHECK(CustomProfiles(open(image)).all().size() == 1);
  CHECK(total(profile_of(image, custom_kind(0)), 0) == 6);
  CHECK(write_views(image, {}, false).names.back() == "image.files.pb.gz");
}

TEST_CASE("custom_profiles: frames of mprof.h itself are not shown") {
  DumpImage image;
  fill(image);
  Profile files = profile_of(image, custom_kind(0));
  ProfileBuilder builder(files);
  const uint32_t caller = files.samples.at(0).locations.at(0);
  for (const char* inside : {"mprof::Profile::add(void const*)", "mprof_profile_add"}) {
    files.samples = {
        {{builder.location(-1, 0, {{builder.function(inside, ""), 0}}), caller}, {1}, {}, {}}};
    CHECK_FALSE(apply_drop_frames(files));
    CHECK(files.samples.at(0).locations == std::vector<uint32_t>{caller});
  }
}

TEST_CASE("custom_profiles: without -p all are written, with it those of that name") {
  DumpImage image;
  fill(image);
  image.header().heap_rate_bytes = image.header().block_rate_ns = 0;
  image.header().mutex_fraction = 0;
  CHECK(write_views(image, {}, false).names == std::vector<std::string>{"image.threadcreate.pb.gz",
                                                                        "image.app%2Ffiles.pb.gz",
                                                                        "image.connections.pb.gz"});
  CHECK(write_views(image, {CustomView{"app/files"}}, true).names ==
        std::vector<std::string>{"image.app%2Ffiles.txt"});
}

TEST_CASE("custom_profiles: a part of the time has none: only the totals know them") {
  DumpImage image;
  fill(image);
  CHECK(recorded_views(open(image), true).back() == View(CountKind::kThreadCreate));
  CHECK(recorded_views(open(image), false).back() == View(CustomView{"connections"}));
  CHECK_NOTHROW(require_views_of_a_part({CountKind::kCpu, HeapView::kHeap}));
  CHECK_THROWS_WITH(require_views_of_a_part({CountKind::kCpu, CustomView{"app/files"}}),
                    "-p app/files: a part of the time has no peak and no profiles of the program's "
                    "own; accepted with --from and --to are all others");
}

TEST_CASE("custom_profiles: a name that is not there is one line with those that are") {
  DumpImage image;
  CHECK(
      error_of(image, "heep") ==
      "image: no profile 'heep': mprof's are heap, allocs, peak, block, mutex, threadcreate, cpu; "
      "the program has none of its own");
  fill(image);
  image.add_custom("a\nb");
  const std::string error = error_of(image, "file\x1bs");
  CHECK(error.ends_with("; the program's own are app/files, connections, a?b"));
  CHECK_FALSE(contains(error, "\x1b"));
  // Not one file of a list is written when one of its names is wrong.
  CHECK_THROWS(write_views(image, {HeapView::kHeap, CustomView{"none"}}, false));
}

TEST_CASE("custom_profiles: no name leads to a file of another profile, or out of the folder") {
  const auto word = [](const std::string& name) { return file_word(CustomView{name}); };
  CHECK(word("app.files_2-x+y") == "app.files_2-x+y");
  CHECK(word("../../etc/passwd") == "..%2F..%2Fetc%2Fpasswd");
  CHECK(word("a/b") != word("a%2Fb"));
  CHECK(word(std::string("a\0b", 3)) == "a%00b");
  CHECK(word("caf\xc3\xa9 ,\n") == "caf%C3%A9%20%2C%0A");
  CHECK(word("heap") == "%68eap");
  CHECK(word("cpu") != file_word(CountKind::kCpu));
  const std::string longest(60'000, 'x');
  CHECK(word(longest).size() < 150);
  CHECK(word(longest) != word(longest + "y"));
}

TEST_CASE("custom_profiles: a name that -p cannot spell is reached by that of its file") {
  DumpImage image;
  const uint32_t stack = image.add_node(0, 0x1001, kNoRow);
  image.add_count(custom_kind(image.add_custom("a,b")), stack, contents(2, 0));
  image.add_count(custom_kind(image.add_custom("heap")), stack, contents(3, 0));
  CHECK(write_views(image, parse_views("a%2Cb,%68eap"), false).names ==
        std::vector<std::string>{"image.a%2Cb.pb.gz", "image.%68eap.pb.gz"});
  CHECK(write_views(image, parse_views("heap"), false).names ==
        std::vector<std::string>{"image.heap.pb.gz"});
}

TEST_CASE("custom_profiles: pprof accepts both forms") {
  DumpImage image;
  fill(image);
  const CustomView view{"app/files"};
  const std::string text = write_one(image, view, true);
  CHECK(text.starts_with("app/files profile: total 8\n5 @ 0x11201 0x11101\n"));
  CHECK(contains(text, "\n3 @ 0x11101\n# labels: {\"tenant\":\"t1\"}\n"));
  for (const std::string& form : {write_one(image, view, false), text}) {
    CHECK(totals_by_pprof(form, 1) == std::vector<int64_t>{8});
    CHECK(contains(pprof_output("-top", form), "Type: app/files\n"));
  }
}

TEST_CASE("custom_profiles: rows of a profile that is not there are damage") {
  DumpImage image;
  fill(image);
  const uint32_t row =
      image.add_count(custom_kind(2), image.add_node(0, 0x1001, kNoRow), contents(1, 0));
  const Dump dump = open(image);
  CHECK_FALSE(dump.count(row));
  CHECK(dump.damage() == std::vector<std::string>{"count table: row 2 is of unknown kind 18"});
}

TEST_CASE("custom_profiles: info tells what they hold, in words and in numbers") {
  DumpImage image;
  fill(image);
  Dump dump = open(image);
  const HeapReading heap = read_heap(dump);
  const std::string text = report_info(dump, heap, "");
  CHECK(contains(text, "program's own   app/files: 8 now: 11 added, 3 removed\n"));
  CHECK(contains(text, "                connections: 0 now: 0 added, 0 removed\n"));
  const auto json = nlohmann::json::parse(info_json(dump, heap, check_double_entry(dump)));
  REQUIRE(json["custom_profiles"].size() == 2);
  CHECK(json["custom_profiles"][0]["name"] == "app/files");
  CHECK(json["custom_profiles"][0]["count"] == 8);
  CHECK(json["custom_profiles"][0]["added"] == 11);
  CHECK(json["custom_profiles"][0]["removed"] == 3);
}

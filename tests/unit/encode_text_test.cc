// SPDX-License-Identifier: Apache-2.0
#include "dumper/encode_text.h"

#include <algorithm>
#include <stdexcept>

#include "dumper/decode_pprof.h"
#include "tests/unit/catch.h"
#include "tests/unit/pprof_tool.h"

namespace mprof::dumper {
namespace {

Profile waits() {
  Profile profile;
  profile.types = {{"contentions", "count"}, {"delay", "nanoseconds"}};
  profile.period_type = {"contentions", "count"};
  profile.period = 1;
  return profile;
}

Profile files() {
  Profile profile;
  profile.types = {{"open files", "count"}};
  return profile;
}

// Accepted means: exit code 0 and not a word on stderr.
test::ToolOutput accepted(const std::string& options, const std::string& text) {
  const test::ToolOutput result = test::pprof(options, text);
  INFO(text << "\n" << result.out << result.err);
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
  return result;
}

std::string error_of(const Profile& profile, TextKind kind) {
  try {
    (void)encode_text(profile, kind);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

std::string before_map(const std::string& text) {
  return text.substr(0, text.find("\n--- Memory"));
}

TEST_CASE("encode_text: a heap profile, to the byte") {
  Profile profile = test::empty_heap();
  profile.comments = {"rate: 524288"};
  ProfileBuilder b(profile);
  const int32_t app = b.mapping({0x400000, 0x500000, 0, "/opt/app", ""});
  const uint32_t leak = b.location(app, 0x4f372e, {{b.function("leak()", "app.cc"), 19}});
  const uint32_t main = b.location(
      app, 0x4f410c, {{b.function("in", "app.cc"), 64}, {b.function("main", "app.cc"), 70}});
  const uint32_t start = b.location(app, 0x43a2f1, {{b.function("_start", ""), 0}});
  const uint32_t unknown = b.location(app, 0x400010);
  profile.locations[leak].function_start = 0x4f3700;
  profile.locations[main].function_start = 0x4f3c80;
  b.sample({{start}, {9, 90, 1, 16}, {}, {}});
  b.sample({{leak, main, start, unknown},
            {50, 204800, 50, 204800},
            {{"bytes", "", 4096, "", true}},
            {}});
  CHECK(encode_text(profile, TextKind::kHeap) ==
        "heap profile: 51: 204816 [59: 204890] @ heap/2\n"
        "50: 204800 [50: 204800] @ 0x4f372f 0x4f410d 0x43a2f2 0x400011\n"
        "# labels: {\"bytes\":\"4096\"}\n"
        "#\t0x4f372e\tleak()+0x2e\tapp.cc:19\n"
        "#\t0x4f410c\tin\t\tapp.cc:64\n"
        "#\t0x4f410c\tmain+0x48c\tapp.cc:70\n"
        "#\t0x43a2f1\t_start\n"
        "#\t0x400010\n"
        "\n"
        "1: 16 [9: 90] @ 0x43a2f2\n"
        "#\t0x43a2f1\t_start\n"
        "\n"
        "# rate: 524288\n"
        "\n"
        "--- Memory map: ---\n"
        "00400000-00500000 r-xp 00000000 00:00 0 /opt/app\n");
}

TEST_CASE("encode_text: contention and mutex profiles, to the byte, largest delay first") {
  Profile profile = waits();
  ProfileBuilder b(profile);
  const int32_t app = b.mapping({0x400000, 0x500000, 0, "[app]", ""});
  b.sample({{b.location(app, 0x400010)}, {2, 500}, {}, {}});
  b.sample({{b.location(app, 0x400020)}, {1, 112906298}, {}, {}});
  const std::string rows =
      "112906298 1 @ 0x400021\n#\t0x400020\n\n"
      "500 2 @ 0x400011\n#\t0x400010\n\n";
  CHECK(before_map(encode_text(profile, TextKind::kContention)) ==
        "--- contention:\ncycles/second=1000000000\n" + rows);
  CHECK(before_map(encode_text(profile, TextKind::kMutex)) ==
        "--- mutex:\ncycles/second=1000000000\nsampling period=1\n" + rows);
}

TEST_CASE("encode_text: a count profile, to the byte, equal counts by address") {
  Profile profile = files();
  ProfileBuilder b(profile);
  const int32_t app = b.mapping({0x400000, 0x500000, 0, "[app]", ""});
  b.sample({{b.location(app, 0x400020)}, {1}, {}, {}});
  b.sample({{b.location(app, 0x400010)}, {1}, {{"who", "a \"b\"", 0, "", false}}, {}});
  b.sample({{}, {3}, {}, {}});
  CHECK(encode_text(profile, TextKind::kCount) ==
        "open_files profile: total 5\n"
        "3 @ 0x4000000000000001\n\n"
        "1 @ 0x400011\n# labels: {\"who\":\"a \\\"b\\\"\"}\n#\t0x400010\n\n"
        "1 @ 0x400021\n#\t0x400020\n\n"
        "\n--- Memory map: ---\n"
        "00400000-00500000 r-xp 00000000 00:00 0 [app]\n"
        "4000000000000000-4000000000001000 r-xp 00000000 00:00 0 [no_stack]\n");
  CHECK(encode_text(profile, TextKind::kCount, "fds").starts_with("fds profile: total 5\n"));
}

TEST_CASE("encode_text: columns of '#' lines are aligned as Go aligns them") {
  Profile profile = files();
  ProfileBuilder b(profile);
  const int32_t app = b.mapping({0x400000, 0x4f0000, 0, "[app]", ""});
  Sample sample{{}, {1}, {}, {}};
  uint64_t address = 0x4e23a7;
  for (const char* name :
       {"hash/crc32.slicingMakeTable+0x27", "hash/crc32.archInitIEEE+0x5c",
        "sync.(*Once).doSlow+0xc1", "runtime/pprof.(*profileBuilder).build+0x364"})
    sample.locations.push_back(b.location(app, address++, {{b.function(name, "f.go"), 5}}));
  b.sample(sample);
  CHECK(test::contains(encode_text(profile, TextKind::kCount),
                       "#\t0x4e23a7\thash/crc32.slicingMakeTable+0x27\t\tf.go:5\n"
                       "#\t0x4e23a8\thash/crc32.archInitIEEE+0x5c\t\t\tf.go:5\n"
                       "#\t0x4e23a9\tsync.(*Once).doSlow+0xc1\t\t\tf.go:5\n"
                       "#\t0x4e23aa\truntime/pprof.(*profileBuilder).build+0x364\tf.go:5\n"));
}

TEST_CASE("encode_text: pprof reads the values of a heap profile unscaled, all four columns") {
  const test::ScratchLibraries libraries;
  const std::string text = encode_text(libraries.profile(), TextKind::kHeap);
  const test::ToolOutput raw = accepted("-raw", text);
  CHECK(test::contains(raw.out, "Period: 1\n"));
  CHECK(test::contains(raw.out,
                       "alloc_objects/count alloc_space/bytes inuse_objects/count "
                       "inuse_space/bytes\n"
                       "          2         64          1         32: "));
}

TEST_CASE("encode_text: pprof names functions from the memory map, also where libraries overlap") {
  const test::ScratchLibraries libraries;
  const std::string text = encode_text(libraries.profile(), TextKind::kHeap);
  const test::ToolOutput top = accepted("-top -nodefraction=0", text);
  CHECK(test::contains(top.out, "  first_function\n"));
  CHECK(test::contains(top.out, "  second_function\n"));
  CHECK(test::contains(text, "second.so was loaded at 0x7f12"));
  CHECK(test::contains(text, "shown at 0x4000000000000000\n"));
}

TEST_CASE("encode_text: synthetic frames and addresses without a mapping have a name in pprof") {
  Profile profile = test::empty_heap();
  ProfileBuilder b(profile);
  const uint32_t cut = b.synthetic_location("[lost: ring full]");
  const uint32_t stray = b.location(-1, 0x123456);
  b.sample({{stray, cut}, {3, 300, 2, 200}, {}, {}});
  b.sample({{}, {1, 50, 1, 50}, {}, {}});
  const test::ToolOutput top =
      accepted("-top -nodefraction=0", encode_text(profile, TextKind::kHeap));
  CHECK(test::contains(top.out, "[[lost:_ring_full]]"));
  CHECK(test::contains(top.out, "[[unknown]]"));
  CHECK(test::contains(top.out, "80.00% of 250B total"));
}

TEST_CASE("encode_text: pprof accepts contention, mutex and count profiles with the right totals") {
  Profile profile = waits();
  ProfileBuilder b(profile);
  const int32_t vdso = b.mapping({0x400000, 0x500000, 0, "[app]", ""});
  b.sample({{b.location(vdso, 0x400010)}, {4, 3'000'000}, {{"k=", "v", 0, "", false}}, {}});
  b.sample({{}, {1, 1'000'000}, {}, {}});
  for (TextKind kind : {TextKind::kContention, TextKind::kMutex}) {
    const std::string text = encode_text(profile, kind);
    CHECK(test::contains(accepted("-top", text).out, "3ms, 75.00% of 4ms total"));
    CHECK(test::contains(accepted("-raw", text).out, "          4    3000000: 1"));
  }
  profile.types = {{"threads", "count"}, {"x", "count"}};
  profile.default_type = 0;
  const std::string text = encode_text(profile, TextKind::kCount);
  CHECK(test::contains(accepted("-top", text).out, "100% of 5 total"));
  CHECK(test::contains(accepted("-raw", text).out, "PeriodType: threads count\n"));
}

TEST_CASE("encode_text: profiles without samples are accepted") {
  accepted("-raw", encode_text(test::empty_heap(), TextKind::kHeap));
  accepted("-raw", encode_text(waits(), TextKind::kContention));
  accepted("-raw", encode_text(waits(), TextKind::kMutex));
  accepted("-raw", encode_text(files(), TextKind::kCount));
}

TEST_CASE("encode_text: Go's own profiles come out with Go's totals") {
  const Profile heap = decode_pprof(test::golden("heap"));
  CHECK(encode_text(heap, TextKind::kHeap).starts_with("heap profile: "));
  const test::ToolOutput from_text =
      accepted("-top -unit=bytes -symbolize=none", encode_text(heap, TextKind::kHeap));
  const test::ToolOutput from_protobuf =
      test::pprof("-top -unit=bytes -symbolize=none", test::golden("heap"));
  const auto total = [](const std::string& out) {
    const size_t at = out.find(" of ");
    return out.substr(at, out.find('\n', at) - at);
  };
  CHECK(total(from_text.out) == total(from_protobuf.out));
}

TEST_CASE("encode_text: no objects but some bytes, which pprof rejects, become one object") {
  Profile profile = test::empty_heap();
  ProfileBuilder b(profile);
  b.sample({{b.synthetic_location("f")}, {5, 500, 0, 20}, {}, {}});
  const std::string text = encode_text(profile, TextKind::kHeap);
  CHECK(test::contains(text, "\n1: 20 [5: 500] @"));
  CHECK(test::contains(text, "# 1 object counts rounded up from 0 to 1\n"));
  accepted("-raw", text);
}

TEST_CASE("encode_text: a stack or name too long for pprof's line buffer is cut, and says so") {
  Profile profile = test::empty_heap();
  ProfileBuilder b(profile);
  const int32_t app = b.mapping({0x400000, 0x500000, 0, "[app]", ""});
  Sample sample{{}, {2, 20, 1, 10}, {{"label", std::string(100'000, 'l'), 0, "", false}}, {}};
  for (uint64_t i = 0; i < 10'000; ++i)
    sample.locations.push_back(
        b.location(app, 0x400000 + i, {{b.function(std::string(70'000, 'n'), "f"), 1}}));
  sample.locations.resize(10'000);
  b.sample(sample);
  profile.functions[0].name = "short";
  profile.comments = {std::string(100'000, 'c')};
  const std::string text = encode_text(profile, TextKind::kHeap);
  const std::vector<std::string> lines = test::lines_of(text);
  CHECK(std::all_of(lines.begin(), lines.end(),
                    [](const std::string& line) { return line.size() < 64 * 1024; }));
  CHECK(test::contains(text, "# 1 stacks cut at the root side"));
  accepted("-raw", text);
}

TEST_CASE("encode_text: line breaks and tabs in names cannot forge lines") {
  Profile profile = files();
  profile.comments = {"one\n--- Memory map: ---\ntwo"};
  ProfileBuilder b(profile);
  const int32_t app = b.mapping({0x400000, 0x500000, 0, "[a\npp]", ""});
  b.sample({{b.location(app, 0x400010, {{b.function("f\n9 @ 0x1", "a\tb"), 1}})},
            {1},
            {{"k\n", "v\n", 0, "", false}},
            {}});
  const std::string text = encode_text(profile, TextKind::kCount);
  CHECK(test::lines_of(text).size() == 9);
  CHECK(test::contains(text, "#\t0x400010\tf 9 @ 0x1\ta b:1\n"));
  CHECK(test::contains(accepted("-top", text).out, "100% of 1 total"));
}

TEST_CASE("encode_text: what the form cannot hold is refused by name") {
  CHECK(test::contains(error_of(waits(), TextKind::kHeap),
                       "\"alloc_objects\" is not in the profile"));
  Profile difference = files();
  difference.samples = {{{}, {-1}, {}, {}}};
  CHECK(error_of(difference, TextKind::kCount) ==
        "text form: it cannot hold negative values; use the pprof form");
  Profile seconds = waits();
  seconds.types[1].unit = "seconds";
  CHECK(error_of(seconds, TextKind::kMutex) ==
        "text form: delay is in \"seconds\", it must be in nanoseconds");
}

}  // namespace
}  // namespace mprof::dumper

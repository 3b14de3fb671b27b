// SPDX-License-Identifier: Apache-2.0
#include "dumper/encode_pprof.h"

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <protozero/pbf_writer.hpp>
#include <random>

#include "dumper/decode_pprof.h"
#include "tests/unit/catch.h"
#include "tests/unit/pprof_tool.h"

namespace mprof::dumper {
namespace {

using Writer = protozero::pbf_writer;

// Small limits, so that the tests for hostile bytes also show that memory is bounded: a single
// allocation above the limits would be far above what the input can justify.
constexpr DecodeLimits kSmall{1 << 20, 8 << 20};

std::string error_of(std::string_view bytes, const DecodeLimits& limits = kSmall) {
  try {
    (void)decode_pprof(bytes, limits);
  } catch (const DecodeError& error) {
    return error.what();
  }
  return "";
}

// Any outcome is right but a crash or an exception of another kind.
bool is_handled(std::string_view bytes) {
  try {
    check(decode_pprof(bytes, kSmall));
  } catch (const DecodeError&) {
    return true;
  }
  return true;
}

std::string gunzip(const std::string& bytes) {
  std::string out(1 << 20, '\0');
  z_stream stream{};
  REQUIRE(inflateInit2(&stream, 31) == Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(inflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

std::string gzip(const std::string& bytes) {
  std::string out(bytes.size() / 500 + 1000, '\0');
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

void strings(Writer& writer, const std::vector<std::string>& texts) {
  writer.add_string(6, "");
  for (const std::string& text : texts) writer.add_string(6, text);
}

// A file as another writer might make it: one type, then what `more` adds.
template <typename More>
std::string handmade(const More& more) {
  std::string bytes;
  Writer writer(bytes);
  strings(writer, {"events", "count"});
  {
    Writer type(writer, 1);
    type.add_int64(1, 1);
    type.add_int64(2, 2);
  }
  more(writer);
  return bytes;
}

void row(Writer& writer, uint32_t field, uint64_t id) { Writer(writer, field).add_uint64(1, id); }

TEST_CASE("encode_pprof: a decoded profile is the encoded one") {
  const Profile profile = test::example_heap();
  CHECK(decode_pprof(encode_pprof(profile)) == profile);
  CHECK(decode_pprof(encode_pprof_uncompressed(profile)) == profile);
}

TEST_CASE("encode_pprof: extreme values survive") {
  Profile profile = test::empty_heap();
  ProfileBuilder builder(profile);
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  const int32_t high =
      builder.mapping({~uint64_t{0} - 4096, ~uint64_t{0}, 0, "[vsyscall]", "", true});
  builder.sample(
      {{builder.location(high, ~uint64_t{0} - 1, {{builder.function("f", ""), kMin}})},
       {kMax, kMin, -1, 0},
       {{"n", "", kMin, "", true}, {"zero", "", 0, "", true}, {"empty", "", 0, "", false}},
       {}});
  CHECK(decode_pprof(encode_pprof(profile)) == profile);
}

TEST_CASE("encode_pprof: equal profiles give equal bytes, without a time in the gzip header") {
  const std::string bytes = encode_pprof(test::example_heap());
  CHECK(bytes == encode_pprof(test::example_heap()));
  CHECK(bytes.substr(0, 2) == "\x1f\x8b");
  CHECK(bytes.substr(4, 4) == std::string(4, '\0'));
  CHECK(gunzip(bytes) == encode_pprof_uncompressed(test::example_heap()));
}

TEST_CASE("encode_pprof: data larger than a compression step come back whole") {
  Profile profile = test::empty_heap();
  std::mt19937_64 random(1);
  for (int i = 0; i < 100; ++i) {
    std::string noise;
    for (int k = 0; k < 50'000; ++k) noise += static_cast<char>('!' + random() % 90);
    profile.comments.push_back(noise);
  }
  CHECK(decode_pprof(encode_pprof(profile)) == profile);
}

TEST_CASE("encode_pprof: a flag is written only when it holds for the whole mapping") {
  Profile profile = test::example_heap();
  ProfileBuilder(profile).location(0, 0x404040);  // in the app, without a name
  const Profile decoded = decode_pprof(encode_pprof(profile));
  const Mapping& app = decoded.mappings[0];
  CHECK_FALSE(
      (app.has_functions || app.has_filenames || app.has_line_numbers || app.has_inline_frames));
  CHECK(decoded.mappings[1].has_functions);
}

TEST_CASE("encode_pprof: an inconsistent profile is refused") {
  Profile profile = test::example_heap();
  profile.samples[0].values.clear();
  CHECK_THROWS_AS(encode_pprof(profile), std::invalid_argument);
}

TEST_CASE("encode_pprof: go tool pprof reads it without a warning") {
  const test::ToolOutput raw = test::pprof("-raw", encode_pprof(test::example_heap()));
  CHECK(raw.exit_code == 0);
  CHECK(raw.err == "");
  for (const char* line :
       {"Comment: command: ./app --fast", "PeriodType: space bytes", "Period: 524288",
        "Time: 2023-11-14 22:13:20.123456789 +0000 UTC", "Duration: 2.5",
        "alloc_objects/count alloc_space/bytes[dflt] inuse_objects/count inuse_space/bytes",
        "         3         96          0          0: ", "bytes:[32 bytes]", "phase:[load]",
        "0x401234 M=1 App::add(int) /src/app.h:7 s=5(_ZN3App3addEi)",
        "1: 0x400000/0x500000/0x0 /opt/example/app a1b2c3d4 [FN][FL][LN][IN]",
        "2: 0x7f0000000000/0x7f0000010000/0x1000 /opt/example/one.so  [FN]",
        "3: 0x7f0000000000/0x7f0000020000/0x2000 /opt/example/two.so  [FN]"}) {
    INFO(raw.out << "\nlooking for: " << line);
    CHECK(test::contains(raw.out, line));
  }
}

TEST_CASE("encode_pprof: functions at one address in two mappings stay two functions in pprof") {
  const test::ToolOutput top =
      test::pprof("-top -nodefraction=0", encode_pprof(test::example_heap()));
  CHECK(top.exit_code == 0);
  CHECK(top.err == "");
  CHECK(test::contains(top.out, "first_plugin"));
  CHECK(test::contains(top.out, "second_plugin"));
}

TEST_CASE(
    "encode_pprof: pprof itself finds the names of unsymbolized code in overlapping mappings") {
  const test::ScratchLibraries libraries;
  const test::ToolOutput top =
      test::pprof("-top -nodefraction=0", encode_pprof(libraries.profile()));
  INFO(top.out << top.err);
  CHECK(top.exit_code == 0);
  CHECK(top.err == "");
  CHECK(test::contains(top.out, "  first_function\n"));
  CHECK(test::contains(top.out, "  second_function\n"));
}

TEST_CASE("encode_pprof: code without a file and synthetic frames give no warning") {
  Profile profile = test::empty_heap();
  ProfileBuilder builder(profile);
  builder.sample({{builder.synthetic_location("[lost: ring full]")}, {1, 8, 1, 8}, {}, {}});
  const test::ToolOutput synthetic = test::pprof("-top", encode_pprof(profile));
  CHECK(synthetic.exit_code == 0);
  CHECK(synthetic.err == "");
  CHECK(test::contains(synthetic.out, "[lost: ring full]"));

  const int32_t generated = builder.mapping({0x10000, 0x20000, 0, "", ""});
  builder.sample({{builder.location(generated, 0x10010)}, {1, 8, 1, 8}, {}, {}});
  const test::ToolOutput anonymous = test::pprof("-top", encode_pprof(profile));
  CHECK(anonymous.exit_code == 0);
  CHECK(anonymous.err == "");
}

TEST_CASE("encode_pprof: an empty profile is still one for pprof") {
  const test::ToolOutput raw = test::pprof("-raw", encode_pprof(test::empty_heap()));
  CHECK(raw.exit_code == 0);
  CHECK(raw.err == "");
}

TEST_CASE("encode_pprof: pprof's view of Go's own profiles survives decoding and encoding") {
  for (const std::string& name : test::golden_names()) {
    const std::string original = test::golden(name);
    const Profile profile = decode_pprof(original);
    CHECK_FALSE(profile.samples.empty());
    const test::ToolOutput before = test::pprof("-raw", original);
    const test::ToolOutput after = test::pprof("-raw", encode_pprof(profile));
    INFO(name);
    CHECK(after.exit_code == 0);
    CHECK(after.err == before.err);
    CHECK(after.out == before.out);
    CHECK(decode_pprof(encode_pprof(profile)) == profile);
  }
}

TEST_CASE(
    "decode_pprof: repeated numbers may be unpacked, ids sparse, fields unknown, rows in any "
    "order") {
  constexpr uint64_t kBig = uint64_t{1} << 63;
  const std::string bytes = handmade([](Writer& writer) {
    {
      Writer sample(writer, 2);
      sample.add_uint64(1, kBig);
      sample.add_uint64(1, 7);
      sample.add_int64(2, -5);
      sample.add_string(19, "later version");
    }
    writer.add_fixed64(1000, 1);
    {
      Writer location(writer, 4);
      location.add_uint64(3, 0x1234);
      location.add_uint64(1, kBig);
      Writer line(location, 4);
      line.add_uint64(1, 99);
      line.add_int64(2, 12);
      line.add_int64(3, 4);  // column
    }
    row(writer, 4, 7);
    Writer function(writer, 5);
    function.add_uint64(1, 99);
    function.add_int64(2, 1);
  });
  const Profile profile = decode_pprof(bytes);
  REQUIRE(profile.samples.size() == 1);
  CHECK(profile.samples[0].locations == std::vector<uint32_t>{0, 1});
  CHECK(profile.samples[0].values == std::vector<int64_t>{-5});
  CHECK(profile.locations[0].address == 0x1234);
  CHECK(profile.functions[profile.locations[0].lines[0].function].name == "events");
}

TEST_CASE("decode_pprof: a line may have no function, columns and folding are read") {
  const std::string bytes = handmade([](Writer& writer) {
    Writer location(writer, 4);
    location.add_uint64(1, 1);
    location.add_bool(5, true);
    Writer(location, 4).add_int64(2, 30);
    Writer line(location, 4);
    line.add_int64(2, 31);
    line.add_int64(3, 4);
  });
  const Profile profile = decode_pprof(bytes);
  REQUIRE(profile.locations.size() == 1);
  CHECK(profile.locations[0].is_folded);
  CHECK(profile.locations[0].lines == std::vector<Line>{{0, 30, 0}, {0, 31, 4}});
  CHECK(profile.functions == std::vector<Function>{Function{}});
  CHECK(decode_pprof(encode_pprof(profile)).locations == profile.locations);
}

TEST_CASE("decode_pprof: a gzip file may have several members") {
  const std::string plain = encode_pprof_uncompressed(test::example_heap());
  const std::string two = gzip(plain.substr(0, 100)) + gzip(plain.substr(100));
  CHECK(decode_pprof(two) == test::example_heap());
}

TEST_CASE("decode_pprof: each fault has its own message") {
  const auto error = [](const auto& more) { return error_of(handmade(more)); };
  CHECK(error_of("") == "pprof profile: the file is empty");
  CHECK(error_of("no profile at all") ==
        "pprof profile: byte 0, in Profile: unknown pbf field type exception");
  CHECK(error_of(std::string("\x0a\x00", 2)) == "pprof profile: it has no string table");
  CHECK(error_of(std::string("\x32\x01x", 3)) ==
        "pprof profile: string 0 of the table is not empty");
  CHECK(error([](Writer& w) { w.add_int64(7, 3); }) ==
        "pprof profile: drop_frames names string 3 of 3");
  CHECK(error([](Writer& w) { w.add_int64(13, -1); }) ==
        "pprof profile: a comment names string -1 of 3");
  CHECK(error([](Writer& w) { Writer(w, 2).add_int64(1, 1); }) ==
        "pprof profile: a sample names location 1, which does not exist");
  CHECK(error([](Writer& w) { Writer(w, 2).add_string(9, ""); }) ==
        "pprof profile: sample 0 has 0 values for 1 types");
  CHECK(error([](Writer& w) { row(w, 5, 0); }) ==
        "pprof profile: a function has the reserved id 0");
  CHECK(error([](Writer& w) {
          row(w, 3, 4);
          row(w, 3, 4);
        }) == "pprof profile: two mappings have the id 4");
  CHECK(error([](Writer& w) {
          Writer location(w, 4);
          location.add_uint64(1, 1);
          location.add_uint64(2, 5);
        }) == "pprof profile: a location names mapping 5, which does not exist");
  CHECK(error([](Writer& w) {
          w.add_int64(9, 5);
          w.add_int64(9, 6);
        }) == "pprof profile: two times: these are concatenated profiles");
  CHECK(error([](Writer& w) { w.add_string(12, "x"); }) ==
        "pprof profile: byte 24, in Profile: field 12 has wire type 2 instead of 0");
}

TEST_CASE("decode_pprof: damaged gzip data are named as such") {
  const std::string good = encode_pprof(test::example_heap());
  std::string bad_sum = good;
  bad_sum[bad_sum.size() - 6] = static_cast<char>(bad_sum[bad_sum.size() - 6] ^ 1);
  CHECK(test::contains(error_of(bad_sum), "incorrect data check"));
  CHECK(test::contains(error_of(good + "tail"), "incorrect header check"));
  CHECK(test::contains(error_of(good.substr(0, good.size() - 1)), "gzip data end early, after"));
  CHECK(test::contains(error_of(good.substr(0, 2)), "gzip data end early, after 2 bytes"));
}

TEST_CASE("decode_pprof: a decompression bomb stops at the limit") {
  const std::string bomb = gzip(std::string(64 << 20, '\0'));
  CHECK(bomb.size() < 200'000);
  CHECK(error_of(bomb) == "pprof profile: decompresses to more than 1048576 bytes, the limit");
}

TEST_CASE("decode_pprof: rows that share one long string stop at the limit") {
  const std::string bytes = handmade([](Writer& writer) {
    writer.add_string(6, std::string(500'000, 'x'));
    for (uint64_t id = 1; id <= 1000; ++id) {
      Writer function(writer, 5);
      function.add_uint64(1, id);
      function.add_int64(2, 3);
    }
  });
  CHECK(error_of(bytes) == "pprof profile: it needs more than 8388608 bytes of memory, the limit");
}

TEST_CASE("decode_pprof: many tiny rows stop at the limit") {
  const std::string bytes = handmade([](Writer& writer) {
    for (uint64_t id = 1; id <= 100'000; ++id) row(writer, 4, id);
  });
  CHECK(error_of(bytes) == "pprof profile: it needs more than 8388608 bytes of memory, the limit");
}

TEST_CASE("decode_pprof: a file cut anywhere is refused or read, never more") {
  const std::string compressed = test::golden("heap");
  for (size_t size = 0; size < compressed.size(); ++size)
    CHECK_FALSE(error_of(std::string_view(compressed).substr(0, size)).empty());
  const std::string plain = encode_pprof_uncompressed(test::example_heap());
  for (size_t size = 0; size <= plain.size(); ++size)
    CHECK(is_handled(std::string_view(plain).substr(0, size)));
}

TEST_CASE("decode_pprof: a hundred thousand random changes are refused or read, never more") {
  std::mt19937_64 random(20231114);
  const std::string inputs[] = {encode_pprof_uncompressed(test::example_heap()),
                                gunzip(test::golden("cpu")), test::golden("mutex")};
  size_t handled = 0;
  for (int i = 0; i < 100'000; ++i) {
    std::string bytes = inputs[i % 3];
    for (uint64_t flips = 1 + random() % 4; flips-- > 0;)
      bytes[random() % bytes.size()] ^= static_cast<char>(1u << random() % 8);
    handled += is_handled(bytes);
  }
  CHECK(handled == 100'000);
}

}  // namespace
}  // namespace mprof::dumper

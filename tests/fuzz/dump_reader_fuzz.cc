// SPDX-License-Identifier: Apache-2.0
// Hostile bytes as a dump: through the reader, all profiles, the info report and both encoders.
//
// With -DMPROF_LIBFUZZER -fsanitize=fuzzer it is a libFuzzer target. Otherwise main() mutates a
// dump that has something in every table; arguments: rounds, seed. A round that fails can be
// repeated by its seed.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "dumper/double_entry.h"
#include "dumper/dump_reader.h"
#include "dumper/encode_pprof.h"
#include "dumper/heap_profile.h"
#include "dumper/info_json.h"
#include "dumper/report_info.h"
#include "dumper/trace/merge.h"
#include "dumper/write_profiles.h"
#include "tests/unit/dump_image.h"

namespace {

using namespace mprof::dumper;  // NOLINT: a test of that namespace

void use_counts(const Dump& dump) {
  Symbolizer symbolizer(SymbolOptions{SymbolDetail::kNone, false, {}, {}});
  LabelNames names(dump, symbolizer, SymbolDetail::kNone);
  const Reading reading{{}, read_counts(dump)};
  for (const View& view : recorded_views(dump, false))
    if (!std::holds_alternative<HeapView>(view) &&
        (encode_pprof(make_profile(dump, reading, view, names).profile).empty() ||
         file_word(view).find('/') != std::string::npos))
      abort();
}

void use_trace(Dump& dump) {
  DumpTrace trace(dump);
  uint64_t last_ns = 0;
  for (TraceRecord record; trace.next(record); last_ns = record.ns)
    if (record.ns < last_ns || record.core >= kMostCores) abort();
  if (!trace.health().whole() && trace.health().lines().empty()) abort();
}

void use(int fd) {
  try {
    Dump dump = Dump::from_fd(fd, "fuzz", true);
    const HeapReading reading = read_heap(dump);
    for (const HeapView view : kHeapViews)
      if (encode_pprof(make_profile(dump, reading, view).profile).empty()) abort();
    use_counts(dump);
    use_trace(dump);
    const DoubleEntry books = check_double_entry(dump);
    if (report_info(dump, reading, books.line(dump.clock())).empty()) abort();
    if (info_json(dump, reading, books).empty()) abort();
  } catch (const DumpError&) {
    return;  // the header is beyond use, and the message says so
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, size) != static_cast<ssize_t>(size)) abort();
  use(fd);
  return 0;
}

#ifndef MPROF_LIBFUZZER
namespace {

using Bytes = std::vector<uint8_t>;
using Random = std::mt19937_64;

Bytes sample_dump() {
  mprof::testing::DumpImage image;
  mprof::testing::fill_with_sample_content(image);
  const auto* begin = reinterpret_cast<const uint8_t*>(image.bytes());
  return {begin, begin + image.size_bytes()};
}

// Numbers at which checks tend to be wrong.
uint64_t interesting(Random& random) {
  constexpr uint64_t kEdges[] = {0,          1,         7,          63,         64,
                                 4095,       8192,      0x7fffffff, 0xffffffff, 0x100000000,
                                 UINT64_MAX, INT64_MAX, 1ull << 40, 1ull << 36};
  const uint64_t edge = kEdges[random() % std::size(kEdges)];
  return random() % 4 == 0 ? random() : edge + random() % 3 - 1;
}

void mutate_once(Bytes& bytes, Random& random) {
  if (bytes.size() < 16) return;
  // Half of the time the header, where one word decides over a whole table.
  const size_t range =
      random() % 2 == 0 ? bytes.size() : std::min(bytes.size(), sizeof(mprof::format::DumpHeader));
  const size_t at = 16 + random() % (range - 15);
  const uint64_t value = interesting(random);
  switch (random() % 5) {
    case 0: bytes[std::min(at, bytes.size() - 1)] = static_cast<uint8_t>(value); break;
    case 1:
      if (at / 8 * 8 + 8 <= bytes.size()) memcpy(&bytes[at / 8 * 8], &value, 8);
      break;
    case 2:
      if (at / 4 * 4 + 4 <= bytes.size()) memcpy(&bytes[at / 4 * 4], &value, 4);
      break;
    case 3: bytes.resize(std::max<size_t>(at, 16)); break;
    default:
      for (size_t i = at; i < std::min(bytes.size(), at + random() % 256); ++i)
        bytes[i] = static_cast<uint8_t>(random());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t rounds = argc > 1 ? strtoull(argv[1], nullptr, 10) : 5000;
  const uint64_t seed = argc > 2 ? strtoull(argv[2], nullptr, 10) : 1;
  const Bytes original = sample_dump();
  LLVMFuzzerTestOneInput(original.data(), original.size());
  for (uint64_t round = 0; round < rounds; ++round) {
    Random random(seed + round);
    Bytes bytes = original;
    for (uint64_t i = 1 + random() % 8; i > 0; --i) mutate_once(bytes, random);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  printf("%llu mutated dumps read, seeds %llu and up\n", static_cast<unsigned long long>(rounds),
         static_cast<unsigned long long>(seed));
  return 0;
}
#endif

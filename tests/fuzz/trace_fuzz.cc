// SPDX-License-Identifier: Apache-2.0
// Hostile bytes in the trace rings of a dump that is fine: through the decoder and the model into
// each form of a trace. The first byte says which form, the second how the rest is shared between
// two rings.
#include "tests/fuzz/driver.h"
#include "tests/fuzz/use_dump.h"
#include "tests/unit/dump_image.h"

namespace {

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using mprof::testing::DumpImage;

constexpr size_t kRings = 2;

DumpImage& target() {
  static DumpImage image;
  if (image.directory(mprof::format::TableId::kTraceRings).used_rows == 0) {
    mprof::testing::fill_with_sample_content(image);
    image.add_trace_ring(image.add_thread(4712));
  }
  return image;
}

void fill_ring(uint32_t number, std::string_view bytes) {
  using mprof::format::TableId;
  auto& head = target().row<mprof::format::ProfbufHead>(TableId::kTraceRings, number);
  auto* out = &target().row<uint8_t>(TableId::kTraceData, number * DumpImage::kTraceRingBytes);
  memset(out, 0, DumpImage::kTraceRingBytes);
  memcpy(out, bytes.data(), bytes.size());
  head.written = bytes.size();
  head.released = 0;
  head.dropped = 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr TraceForm kForms[] = {TraceForm::kGo, TraceForm::kPerfetto, TraceForm::kSummary,
                                  TraceForm::kJsonSummary};
  mprof::fuzz::Input input(data, size);
  const TraceForm form = kForms[input.number<uint8_t>() % std::size(kForms)];
  const size_t share = input.left() * input.number<uint8_t>() / 256;
  target();
  fill_ring(0, input.bytes(std::min<size_t>(share, DumpImage::kTraceRingBytes)));
  fill_ring(1, input.bytes(DumpImage::kTraceRingBytes));
  Dump dump = Dump::from_fd(target().duplicate(), "/nonexistent/fuzz", false);
  if (DumpTrace trace(dump); true) {
    uint64_t records = 0;
    for (TraceRecord record; trace.next(record);) ++records;
    if (records != 0) mprof::fuzz::understood();
  }
  mprof::fuzz::use_trace(dump, form, mprof::fuzz::folder() + "/trace");
  return 0;
}

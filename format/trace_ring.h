// SPDX-License-Identifier: Apache-2.0
// The trace ring: a profbuf of bytes, for the execution trace alone.
//
// As profbuf.h, in all but this:
// Unit      Positions of the ProfbufHead count bytes since creation.
// Blocks    Each kTraceBlockBytes begin with a TraceBlockHead, and no record crosses into the next
//           block: a reader may begin at any block. What a record does not fill is skipped; a kEnd
//           byte stands before it, if there is a byte.
// Layout    ProfbufHead in table kTraceRings; the bytes of ring n begin at n * trace_ring_bytes of
//           table kTraceData.
// Threads   A block belongs to one thread; who takes a ring over begins a new one.
// Made      when a thread writes its first record, so a program without a trace has none.
#pragma once

#include "format/profbuf.h"
#include "format/trace_record.h"

namespace mprof::format {

inline constexpr uint64_t kTraceBlockBytes = 4096;
inline constexpr uint64_t kTraceRingBytes = 1 << 18;
static_assert(kTraceRingBytes % kTraceBlockBytes == 0 && sizeof(ProfbufHead) == 2 * kCacheLine);

struct TraceBlockHead {
  uint64_t ticks;
  uint32_t thread;  // row
  uint32_t core;
};
static_assert(sizeof(TraceBlockHead) == 16, "both sides agree");
static_assert(sizeof(TraceBlockHead) + kMostTraceRecordBytes + kMostTraceText < kTraceBlockBytes);

}  // namespace mprof::format

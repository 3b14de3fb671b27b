// SPDX-License-Identifier: Apache-2.0
// The profbuf: a lock-free ring of records from one thread of the target to the drainer.
//
// Roles     One writer: the thread that owns it. One reader: the drainer, in another process.
//           A profbuf outlives its thread; the next thread that takes it over says so with a
//           kThread record.
// Layout    ProfbufHead in table kProfbufs; the records of profbuf n from byte n * size of
//           kProfbufData on, size being `profbuf_words` 64-bit words, a power of two.
// Positions Words since creation; they only grow. Index = position & (words - 1); a record may
//           wrap around the end. Invariant: released <= written <= released + words.
// Full      Drop newest: nothing is overwritten, nobody waits, `dropped` grows. Once dropping,
//           records are dropped until a kLost record and the next one both fit, so the loss is
//           reported at its true place in the stream.
// Loss      `dropped` never goes down. Loss not yet reported in the stream is `dropped` minus the
//           sum of all kLost counts, so a writer that dies in between loses no count.
// Ordering  (A) writer: release store of `written` <-> acquire load in the reader.
//           (B) reader: release store of `released` <-> acquire load in the writer.
//           Records are relaxed word stores and loads; (A) and (B) carry them.
// Death     Writer killed before (A): that record was never there. Reader killed: `released`
//           still marks what was safely in the journal; the next reader goes on from there.
// Trust     The reader copies a position once, checks it, and treats nonsense as damage:
//           skip to `written`, count it.
#pragma once

#include "format/dump.h"

namespace mprof::format {

struct ProfbufHead {
  // Line of the writer.
  alignas(kCacheLine) std::atomic<uint64_t> written;
  std::atomic<uint64_t> dropped;
  std::atomic<uint64_t> first_drop_ticks;
  uint64_t released_seen;       // the writer's copy of `released`: saves a shared load per record
  uint64_t dropped_reported;    // how much of `dropped` went into kLost records
  std::atomic<uint32_t> owner;  // thread row + 1; 0 = free to take
  uint32_t announced;           // thread row + 1 of the last kThread record
  // Line of the reader.
  alignas(kCacheLine) std::atomic<uint64_t> released;
};
static_assert(sizeof(ProfbufHead) == 2 * kCacheLine, "both sides agree");

}  // namespace mprof::format

// SPDX-License-Identifier: Apache-2.0
// What a profbuf carries: records of 64-bit words.
//
// Word 0 of each: kind (bits 0-7), length in words including word 0 (8-15), flags (16-31),
// argument (32-63). Word 1: time in ticks (dump.h). Then the payload:
//
//   kind          argument      words 2..
//   kThread       thread row    -                              later records belong to this thread
//   kAlloc        bucket row    size, [weight]                 a sampled block was allocated
//   kFree         bucket row    size, alloc ticks, [weight]    a sampled block was freed
//   kLost         -             count                          that many records were dropped here
//   kCounted      count row     value, [weight]                an event of a count bucket
//
// `weight` (weights.h) is there when kWeighted is set; otherwise it is exactly one block. A kFree
// whose weight is kBytesOnly gives back a part of a mapping that goes on.
//
// Additions to profiles of the program's own (CountKind::kFirstCustom) and removals are in no
// record: a removal takes nothing from a count, so records of either would not add up to the
// totals.
#pragma once

#include <cstdint>

namespace mprof::format {

enum class RecordKind : uint8_t { kNone = 0, kThread, kAlloc, kFree, kLost, kCounted, kCount };
inline constexpr uint32_t kMaxRecordWords = 8;
inline constexpr uint16_t kWeighted = 1;

struct RecordWord {
  RecordKind kind;
  uint8_t words;
  uint16_t flags;
  uint32_t argument;
};

constexpr uint64_t pack_record_word(RecordWord w) {
  return static_cast<uint64_t>(w.kind) | static_cast<uint64_t>(w.words) << 8 |
         static_cast<uint64_t>(w.flags) << 16 | static_cast<uint64_t>(w.argument) << 32;
}
constexpr RecordWord unpack_record_word(uint64_t word) {
  return {static_cast<RecordKind>(word & 0xff), static_cast<uint8_t>(word >> 8),
          static_cast<uint16_t>(word >> 16), static_cast<uint32_t>(word >> 32)};
}

// Length in words that a record of this kind must have; 0 for an unknown kind.
constexpr uint32_t expected_words(RecordKind kind, uint16_t flags) {
  const uint32_t weight_words = (flags & kWeighted) != 0 ? 1 : 0;
  switch (kind) {
    case RecordKind::kThread: return 2;
    case RecordKind::kAlloc: return 3 + weight_words;
    case RecordKind::kFree: return 4 + weight_words;
    case RecordKind::kLost: return 3;
    case RecordKind::kCounted: return 3 + weight_words;
    default: return 0;
  }
}

}  // namespace mprof::format

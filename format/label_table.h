// SPDX-License-Identifier: Apache-2.0
// The label table: label sets as chains of (key, value), append-only.
//
// A set is the number of its newest row; `parent` leads to the rest of it and is always a lower
// number. A key that occurs twice on the way counts with its newest value. kNoRow is the empty
// set.
#pragma once

#include "format/dump.h"

namespace mprof::format {

struct LabelRow {
  std::atomic<uint32_t> key_bytes;  // stored last with release; 0 until then
  uint32_t key;                     // string, see kStrings
  uint32_t value;
  uint32_t value_bytes;
  uint32_t parent;
  uint32_t next;  // hash chain: row + 1, 0 ends
};
static_assert(sizeof(LabelRow) == 24, "both sides agree");

}  // namespace mprof::format

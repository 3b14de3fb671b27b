// SPDX-License-Identifier: Apache-2.0
// The module table: every loaded object in which a sampled pc lay.
//
// A library that was unloaded keeps its row, and one that was loaded again, or another one at the
// same addresses, gets a new row; stack nodes name the row, so each address keeps the name that
// was valid when it was sampled.
//
// Publish   `start` is stored last with release; 0 until then.
#pragma once

#include "format/dump.h"

namespace mprof::format {

struct ModuleRow {
  std::atomic<uint64_t> start;  // addresses of the whole object in memory
  uint64_t end;
  uint64_t load_bias;   // address in memory minus address in the file's program headers
  uint64_t text_start;  // the executable segment, for pprof's mapping
  uint64_t text_end;
  uint64_t text_offset;  // its offset in the file
  uint64_t first_seen_ticks;
  std::atomic<uint64_t> unloaded_ticks;  // 0 = still loaded, as far as was seen
  uint32_t path;                         // string, see kStrings
  uint32_t path_bytes;
  uint32_t build_id_bytes;
  uint8_t build_id[36];
};
static_assert(sizeof(ModuleRow) == 112, "both sides agree");

}  // namespace mprof::format

// SPDX-License-Identifier: Apache-2.0
// Profile -> Go's debug=1 text: readable as it is, and still read by pprof, which names functions
// itself from the memory map at the end.
//
// Threads   any; equal profiles give equal bytes.
// Loses     labels become '#' lines, which pprof skips. Symbols too: pprof sees addresses only, and
//           takes synthetic frames ("[truncated]") from made-up mappings, see TextAddresses.
// Fails     std::invalid_argument: missing value types, or negative values (a difference).
#pragma once

#include <string>
#include <string_view>

#include "dumper/profile.h"

namespace mprof::dumper {

// kHeap takes the four heap value types, kContention (waiters) and kMutex (unlockers) take
// contentions and delay; kCount takes the default value type.
enum class TextKind { kHeap, kContention, kMutex, kCount };

// `name` heads a kCount profile, default: the name of the value type.
[[nodiscard]] std::string encode_text(const Profile& profile, TextKind kind,
                                      std::string_view name = {});

}  // namespace mprof::dumper

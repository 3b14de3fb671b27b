// SPDX-License-Identifier: Apache-2.0
// `mprof info --json`: the numbers of `mprof info`, for programs.
#pragma once

#include <string>

#include "dumper/double_entry.h"
#include "dumper/dump_reader.h"
#include "dumper/heap_profile.h"

namespace mprof::dumper {

// One JSON object. Units are in the names; estimates are {"value", "stderr"}; keys are never
// removed, only added.
[[nodiscard]] std::string info_json(const Dump& dump, const HeapReading& reading,
                                    const DoubleEntry& books);

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
// `mprof info`: what a dump holds, how sure its numbers are, what is missing and what it cost.
#pragma once

#include <string>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/heap_profile.h"

namespace mprof::dumper {

// `double_entry`: the line about events against buckets.
[[nodiscard]] std::string report_info(const Dump& dump, const HeapReading& reading,
                                      const std::string& double_entry);

// What `mprof run` prints about one process: sums, the three largest allocators, losses.
[[nodiscard]] std::string report_summary(const Dump& dump, const HeapReading& reading,
                                         const Profile& allocs);

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
// Names for addresses that a label carries: of a lock, of a function, of an object's vtable.
//
// Called by count_profile.cc, report_locks.cc
// Threads   One at a time (the Symbolizer is).
// Fails     Never: an address that nothing is known about is its own name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dumper/dump_reader.h"
#include "dumper/symbolize.h"

namespace mprof::dumper {

// What lies at `address`, which is in memory as the target saw it; `module` is the module that
// covers it (Dump::module() of the label's row), nothing for heap, stacks and mappings.
//   data          "g_mutex", "g_state+0x10", "ns::Class::member", "function::static_local"
//   code          the function's name
//   a vtable      its class
//   no symbol     "libfoo.so+0x4010": the same in every run, unlike the address
//   no module     "0x7f12a0001230"
[[nodiscard]] std::string name_of_address(Symbolizer& symbolizer,
                                          const std::optional<ModuleCopy>& module,
                                          uint64_t address);

}  // namespace mprof::dumper

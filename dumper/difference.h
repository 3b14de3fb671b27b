// SPDX-License-Identifier: Apache-2.0
// What two readings of one dump differ in: rows are never deleted, so their numbers agree.
//
// As in Go's profiles of some seconds, all values are differences: those in use of what was freed
// meanwhile are negative.
#pragma once

#include "dumper/write_profiles.h"

namespace mprof::dumper {

// after - before, with names, under the comments of the whole of `after`. Both were read from
// `dump` or from a snapshot of it.
[[nodiscard]] Profile difference(const Dump& dump, Reading before, Reading after, const View& view,
                                 Symbolizer& symbolizer, SymbolDetail detail);

}  // namespace mprof::dumper

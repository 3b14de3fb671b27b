// SPDX-License-Identifier: Apache-2.0
// C++ and Rust linkage names as people write them.
//
// Threads   Any; no shared state.
// Fails     Never: a name that is not mangled, or too hostile to expand, comes back as it is.
// Trust     Names come from files of unknown origin. A short mangled name can stand for
//           exponentially long text, so input and output are both bounded.
#pragma once

#include <string>
#include <string_view>

namespace mprof::dumper {

// Full C++ names keep template arguments and parameters (pprof shortens by itself); Rust names
// lose their hash. Symbol versions (`@GLIBC_2.14`) and the suffixes of compiler-made copies
// (`.cold`, `.constprop.0`, `.llvm.123`) are dropped: the source function is the same.
std::string demangle(std::string_view system_name);

// True for names whose scheme demangle() expands (`_Z...`, `_R...`).
bool is_mangled(std::string_view system_name);

}  // namespace mprof::dumper

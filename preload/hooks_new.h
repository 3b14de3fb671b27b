// SPDX-License-Identifier: Apache-2.0
// Names of the C++ allocation functions, in the order of their table.
//
// operator new and delete are exported because some allocators (tcmalloc, jemalloc, mimalloc)
// define them without going through malloc. An exported name is found before everybody else's, so
// each hook forwards to what the caller would have reached without this library: the next
// definition in global scope, or, for a C++ plug-in of a C program, the one in the plug-in's own
// scope.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mprof::preload {

enum class NewFunction : uint32_t {
  kNew,
  kNewArray,
  kNewNothrow,
  kNewArrayNothrow,
  kNewAligned,
  kNewArrayAligned,
  kNewAlignedNothrow,
  kNewArrayAlignedNothrow,
  kDelete,
  kDeleteArray,
  kDeleteSized,
  kDeleteArraySized,
  kDeleteNothrow,
  kDeleteArrayNothrow,
  kDeleteAligned,
  kDeleteArrayAligned,
  kDeleteSizedAligned,
  kDeleteArraySizedAligned,
  kDeleteAlignedNothrow,
  kDeleteArrayAlignedNothrow,
  kCount,
};
inline constexpr size_t kNewFunctions = static_cast<size_t>(NewFunction::kCount);

// Looks up what is in global scope, once. Later, a look-up would take the message away that
// dlerror() has for the program.
void resolve_new();

// What `function` means to the code at `caller`; nullptr if there is none.
void* real_new_function(NewFunction function, uintptr_t caller);

// Whether the function reaches the next allocator without passing a malloc hook, so that the hook
// here has to count.
bool is_counted_here(NewFunction function);

}  // namespace mprof::preload

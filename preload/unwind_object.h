// SPDX-License-Identifier: Apache-2.0
// From a code address to the call frame information of the loaded object it is in.
//
// glibc 2.35's _dl_find_object is lock-free and signal-safe, unlike dl_iterate_phdr, whose lock a
// thread in dlopen may hold while it waits for one that we hold. It is a weak reference: with an
// older libc there are frame pointers only.
#pragma once

#include <cstdint>

#include "preload/eh_frame.h"

namespace mprof::preload {

enum class ObjectLookup : uint8_t {
  kNoObject,  // anonymous code (a JIT's), garbage, or a libc without _dl_find_object
  kNoTable,   // an object without readable .eh_frame_hdr
  kFound,
};

bool can_find_objects();
bool is_in_object(uintptr_t address);
ObjectLookup find_eh_frame(uintptr_t address, EhFrameTable& table);

}  // namespace mprof::preload

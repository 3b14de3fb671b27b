// SPDX-License-Identifier: Apache-2.0
// Which loaded object an address lies in, as a row of the module table.
//
// dlopen is not hooked: a wrapper would become its caller and break RUNPATH and $ORIGIN. New
// objects are noticed when a pc lies in none that is known. dlclose is hooked (nothing in it
// depends on the caller): afterwards rows of objects that are gone are closed, so a library
// loaded later at the same addresses gets a row of its own. Not seen: objects that libc itself
// unloads (gconv modules).
//
// Called by preload/stacks.cc, hooks_process.cc. Threads: any. Signals: safe: glibc's
// _dl_find_object is lock-free. Allocates: no. Blocks: spins for another thread's registration.
#pragma once

#include <cstdint>

namespace mprof::preload {

// Grows by one when an object may have been unloaded: whatever was remembered about addresses
// before is to be looked up again.
uint32_t module_epoch();

bool modules_init();

// The row of the object that `pc` lies in; kNoRow if in none, or if the table is full.
uint32_t module_of(uintptr_t pc);

// Whether the object of a row is still loaded, as far as was seen. False for kNoRow: what lies in
// no object now may lie in one later.
bool is_loaded(uint32_t row);

// Called after a dlclose.
void close_unloaded_modules();

// Whether the address lies in libmprof.so itself. Valid before modules_init().
bool in_own_library(uintptr_t pc);

// Whether it lies in the dynamic loader, whose entry code has no unwind information: a stack that
// ends there is whole.
bool in_loader(uintptr_t pc);

// A forked child has a new dump: all rows are to be made again.
void forget_modules();

}  // namespace mprof::preload

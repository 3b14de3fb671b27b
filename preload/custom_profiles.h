// SPDX-License-Identifier: Apache-2.0
// Profiles of the program's own (mprof.h): which things are there now, by who added them.
//
// A profile belongs to the process and to those that it forks; in each dump it has a row of the
// custom table, and count rows of the kind kFirstCustom + that row. A forked child begins with
// empty ones: what its parent added is in the parent's dump. Called by preload/api.cc, inside a
// Guard. Threads: any. Signals: not from a handler that interrupted its own thread inside mprof.
// Allocates: rows of the dump, memory from the kernel. Blocks: as value_table.h; waits for another
// thread that makes a profile. Fails: declined; a value that was not added is counted as
// Lost::kValueNotAdded.
#pragma once

#include "preload/stacks.h"

namespace mprof::preload {

inline constexpr uint32_t kMostCustomProfiles = 512;
inline constexpr uint32_t kLongestProfileName = 64;

struct CustomProfile;

// The profile of this name, made if new; nullptr if the name is none, too long, or that of a
// profile which mprof makes itself, or there are too many.
CustomProfile* make_profile(const char* name);
// nullptr if there is none.
CustomProfile* find_profile(const char* name);

// Counts `value` at the caller's stack; false: it is in there already, or there is no room.
bool add_value(ThreadBlock* thread, CustomProfile* profile, const void* value, CallSite site);
// False: it is not in there.
bool remove_value(CustomProfile* profile, const void* value);
// How many values are in there.
uint64_t values_in(const CustomProfile* profile);

const char* name_of(const CustomProfile* profile);
// Of its count rows; 0, which no row has, if it is not in this dump.
uint32_t count_kind_of(const CustomProfile* profile);

// A forked child's are empty.
void custom_profiles_forget();

}  // namespace mprof::preload

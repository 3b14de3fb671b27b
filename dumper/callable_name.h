// SPDX-License-Identifier: Apache-2.0
// The start function of a thread as a person would name it.
//
// Called by count_profile.cc
// Fails     Never: what is not understood comes back as it is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dumper/data_symbols.h"

namespace mprof::dumper {

// Text of the label `start`: `address` is a function, or the vtable of std::thread's state.
[[nodiscard]] std::string name_of_start(Symbolizer& symbolizer,
                                        const std::optional<ModuleCopy>& module, uint64_t address);

// The callable inside std::thread's wrappers, from a demangled name:
// "std::thread::_State_impl<std::thread::_Invoker<std::tuple<main::{lambda(int)#1}, int> > >"
// is "main::{lambda(int)#1}". Any other name comes back as it is.
[[nodiscard]] std::string callable_name(std::string_view demangled);

}  // namespace mprof::dumper

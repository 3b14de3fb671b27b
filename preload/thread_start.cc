// SPDX-License-Identifier: Apache-2.0
#include "preload/thread_start.h"

#include <string.h>

#include <atomic>

#include "preload/dump_file.h"
#include "preload/modules.h"

namespace mprof::preload {
namespace {

using format::kNoRow;

// libstdc++ exports no name for its start function: it is told by where it lies.
bool is_in_libstdcxx(const void* function) {
  static std::atomic<const void*> last_no;
  static std::atomic<const void*> last_yes;
  if (function == last_no.load(std::memory_order_relaxed)) return false;
  if (function == last_yes.load(std::memory_order_relaxed)) return true;
  const uint32_t module = module_of(reinterpret_cast<uintptr_t>(function));
  if (module == kNoRow) return false;
  const format::ModuleRow* row = tables.modules.at(module);
  constexpr char kName[] = "/libstdc++.so";
  const bool found =
      memmem(tables.strings.at(row->path), row->path_bytes, kName, sizeof kName - 1) != nullptr;
  (found ? last_yes : last_no).store(function, std::memory_order_relaxed);
  return found;
}

bool is_code(uintptr_t address) {
  const uint32_t module = module_of(address);
  if (module == kNoRow) return false;
  const format::ModuleRow* row = tables.modules.at(module);
  return address >= row->text_start && address < row->text_end;
}

// The type is std::thread::_State_impl<std::thread::_Invoker<std::tuple<Callable, Arguments...>>>.
// A callable whose mangled type begins with PF is a pointer to a function; if an argument is one
// too, they cannot be told apart.
bool holds_one_function_pointer(const char* type_name) {
  const char* tuple = strstr(type_name, "5tupleIJPF");
  return tuple != nullptr && strstr(tuple + strlen("5tupleIJPF"), "PF") == nullptr;
}

}  // namespace

const void* start_of(const void* function, const void* argument) {
  if (argument == nullptr || !is_in_libstdcxx(function)) return function;
  const auto* words = static_cast<const uintptr_t*>(argument);
  const auto* table = reinterpret_cast<const uintptr_t*>(words[0]);
  if (module_of(words[0]) == kNoRow) return function;
  // The word before the first function is the type's, whose second word is its name.
  const auto* type = reinterpret_cast<const char* const*>(table[-1]);
  if (type != nullptr && holds_one_function_pointer(type[1])) {
    // The callable lies behind the arguments.
    constexpr int kMostWords = 8;
    for (int i = 1; i < kMostWords; ++i)
      if (is_code(words[i])) return reinterpret_cast<const void*>(words[i]);
  }
  return table;
}

}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <link.h>

#include <atomic>

#include "preload/hooks_new.h"
#include "preload/low.h"
#include "preload/modules.h"
#include "preload/real.h"
#include "preload/thread_state.h"

extern "C" __attribute__((weak)) int _dl_find_object(void*, dl_find_object*);

namespace mprof::preload {
namespace {

constexpr const char* kNames[kNewFunctions] = {"_Znwm",
                                               "_Znam",
                                               "_ZnwmRKSt9nothrow_t",
                                               "_ZnamRKSt9nothrow_t",
                                               "_ZnwmSt11align_val_t",
                                               "_ZnamSt11align_val_t",
                                               "_ZnwmSt11align_val_tRKSt9nothrow_t",
                                               "_ZnamSt11align_val_tRKSt9nothrow_t",
                                               "_ZdlPv",
                                               "_ZdaPv",
                                               "_ZdlPvm",
                                               "_ZdaPvm",
                                               "_ZdlPvRKSt9nothrow_t",
                                               "_ZdaPvRKSt9nothrow_t",
                                               "_ZdlPvSt11align_val_t",
                                               "_ZdaPvSt11align_val_t",
                                               "_ZdlPvmSt11align_val_t",
                                               "_ZdaPvmSt11align_val_t",
                                               "_ZdlPvSt11align_val_tRKSt9nothrow_t",
                                               "_ZdaPvSt11align_val_tRKSt9nothrow_t"};

// Definitions in global scope, looked up once.
enum : int { kUnknown, kLooking, kKnown };
std::atomic<int> global_state;
void* global[kNewFunctions];
bool counted_here[kNewFunctions];
std::atomic<bool> found_at_start;

const void* module_base(void* function) {
  Dl_info info;
  return dladdr(function, &info) == 0 ? nullptr : info.dli_fbase;
}

constexpr size_t kAllocating = static_cast<size_t>(NewFunction::kDelete);

// An allocator's own operator new may still go through an exported function of the malloc family
// (jemalloc's aligned ones call aligned_alloc), whose hook then counts. Tried out with one block:
// a hook that runs takes steps off the countdown.
bool reaches_malloc_hooks(size_t function) {
  constexpr uint64_t kFar = uint64_t{1} << 60;
  constexpr size_t kBytes = 64;
  const uint64_t before = self.steps_until_look;
  self.steps_until_look = kFar;
  // The first arguments are what each of them takes: size, then alignment or a nothrow tag, then
  // a nothrow tag; more in registers does no harm.
  const bool aligned = function >= static_cast<size_t>(NewFunction::kNewAligned);
  const char tag = 0;
  auto* allocate = reinterpret_cast<void* (*)(size_t, const void*, const void*)>(global[function]);
  void* block = allocate(kBytes, aligned ? reinterpret_cast<const void*>(kBytes) : &tag, &tag);
  const bool reached = self.steps_until_look != kFar;
  self.steps_until_look = before;
  if (block != nullptr) real.free(block);
  return reached;
}

// Whoever else does this at the same time finds the same.
void fill_global() {
  for (size_t i = 0; i < kNewFunctions; ++i) global[i] = dlsym(RTLD_NEXT, kNames[i]);
}

void look_up_global() {
  int expected = kUnknown;
  if (!global_state.compare_exchange_strong(expected, kLooking)) return;
  const ErrnoGuard keep_errno;
  const Guard guard(Guard::kOwnCalls);
  resolve();
  const void* allocator = module_base(reinterpret_cast<void*>(real.malloc));
  if (!found_at_start.load(std::memory_order_acquire)) fill_global();
  for (size_t i = 0; i < kNewFunctions; ++i)
    counted_here[i] = global[i] != nullptr && module_base(global[i]) == allocator;
  for (size_t i = 0; i < kAllocating; ++i)
    if (counted_here[i]) counted_here[i] = !reaches_malloc_hooks(i);
  global_state.store(kKnown, std::memory_order_release);
}

// Per-caller definitions. Direct-mapped by the caller's link_map; an entry is replaced as a whole
// under its version (odd = being written), and is void after a dlclose.
struct Entry {
  std::atomic<uint32_t> version;
  std::atomic<uint32_t> epoch;
  std::atomic<const void*> map;
  std::atomic<void*> function;
};
constexpr size_t kEntries = 1024;
Entry entries[kEntries];

Entry& entry_of(const void* map, size_t function) {
  return entries[mix(reinterpret_cast<uintptr_t>(map) + function) % kEntries];
}

void* read_entry(const Entry& entry, const void* map) {
  const uint32_t version = entry.version.load(std::memory_order_acquire);
  void* function = entry.function.load(std::memory_order_relaxed);
  const bool match = entry.map.load(std::memory_order_relaxed) == map &&
                     entry.epoch.load(std::memory_order_relaxed) == module_epoch();
  std::atomic_thread_fence(std::memory_order_acquire);
  const bool stable =
      (version & 1) == 0 && entry.version.load(std::memory_order_relaxed) == version;
  return match && stable ? function : nullptr;
}

void write_entry(Entry& entry, const void* map, void* function, uint32_t epoch) {
  uint32_t version = entry.version.load(std::memory_order_relaxed);
  if ((version & 1) != 0 ||
      !entry.version.compare_exchange_strong(version, version + 1, std::memory_order_acquire))
    return;
  entry.map.store(map, std::memory_order_relaxed);
  entry.epoch.store(epoch, std::memory_order_relaxed);
  entry.function.store(function, std::memory_order_relaxed);
  entry.version.store(version + 2, std::memory_order_release);
}

// What `name` means in the object and what it needs: the rest of the scope that the caller's
// reference would have been bound in. The object is opened once more for the question, since only
// an opened one has a list of what it needs; it is loaded already, so nothing is searched or run.
void* look_up_in(const link_map* map, const char* name) {
  void* handle = dlopen(*map->l_name == '\0' ? nullptr : map->l_name, RTLD_NOLOAD | RTLD_LAZY);
  if (handle == nullptr) return nullptr;
  void* function = dlsym(handle, name);
  real.dlclose(handle);
  return function;
}

[[gnu::noinline]] void* in_callers_scope(size_t function, uintptr_t caller) {
  dl_find_object found;
  if (_dl_find_object == nullptr || _dl_find_object(reinterpret_cast<void*>(caller), &found) != 0)
    return nullptr;
  Entry& entry = entry_of(found.dlfo_link_map, function);
  if (void* known = read_entry(entry, found.dlfo_link_map)) return known;
  const ErrnoGuard keep_errno;
  const Guard guard(Guard::kOwnCalls);
  const uint32_t epoch = module_epoch();
  void* real_function = look_up_in(found.dlfo_link_map, kNames[function]);
  // dlopen(nullptr), for a caller in the program itself, finds this library first.
  if (in_own_library(reinterpret_cast<uintptr_t>(real_function))) return nullptr;
  if (real_function != nullptr) write_entry(entry, found.dlfo_link_map, real_function, epoch);
  return real_function;
}

}  // namespace

// In a C program, the first question that fails is enough. A forked child does not ask the loader,
// whose lock may be taken.
void resolve_new() {
  static std::atomic<bool> asked;
  if (asked.exchange(true)) return;
  if (global_state.load(std::memory_order_relaxed) != kUnknown) return;
  if (dlsym(RTLD_NEXT, kNames[0]) == nullptr) return;
  fill_global();
  found_at_start.store(true, std::memory_order_release);
}

void* real_new_function(NewFunction function, uintptr_t caller) {
  if (global_state.load(std::memory_order_acquire) != kKnown) look_up_global();
  const auto index = static_cast<size_t>(function);
  if (global[index] != nullptr) return global[index];
  // libstdc++'s operator new[] jumps to operator new, which then seems to be called from here: the
  // scope is that of the function that was forwarded to.
  if (in_own_library(caller)) caller = self.forwarded_new;
  void* found = in_callers_scope(index, caller);
  self.forwarded_new = reinterpret_cast<uintptr_t>(found);
  return found;
}

bool is_counted_here(NewFunction function) { return counted_here[static_cast<size_t>(function)]; }

}  // namespace mprof::preload

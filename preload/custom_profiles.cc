// SPDX-License-Identifier: Apache-2.0
#include "preload/custom_profiles.h"

#include <string.h>

#include <atomic>

#include "preload/counts.h"
#include "preload/dump_file.h"
#include "preload/spin.h"
#include "preload/value_table.h"

namespace mprof::preload {

struct CustomProfile {
  char name[kLongestProfileName + 1];
  std::atomic<uint32_t> row;  // row + 1 in this process's dump; 0: not there yet
  std::atomic<uint64_t> values;
};

namespace {

using format::kNoRow;
using format::Lost;
using Outcome = ValueTable::Outcome;

// No constructor: one would empty it after the first values.
constinit CustomProfile profiles[kMostCustomProfiles] = {};
// Release when one more is whole <-> acquire by whoever looks.
std::atomic<uint32_t> profiles_used;
// Held while a profile or its row is made.
std::atomic<bool> making;

// What `mprof pprof -p` would take for one of its own.
constexpr const char* kTakenNames[] = {"all",       "allocs", "block",        "cmdline", "cpu",
                                       "goroutine", "heap",   "mutex",        "peak",    "profile",
                                       "symbol",    "thread", "threadcreate", "threads", "trace"};

bool is_name(const char* name) {
  const size_t bytes = strnlen(name, kLongestProfileName + 1);
  if (bytes == 0 || bytes > kLongestProfileName) return false;
  for (const char* taken : kTakenNames)
    if (strcmp(name, taken) == 0) return false;
  return true;
}

template <class Work>
bool while_making(Work&& work) {
  if (!spin_until([] { return !making.exchange(true, std::memory_order_acquire); })) return false;
  work();
  making.store(false, std::memory_order_release);
  return true;
}

// Stored last, the length tells a reader that the name is there.
uint32_t claim_custom_row(const char* name) {
  const auto bytes = static_cast<uint32_t>(strlen(name));
  const uint32_t text = add_string(name, bytes);
  if (text == kNoRow) return kNoRow;
  const uint32_t row = claim_row(tables.customs, format::TableId::kCustoms);
  if (row == kNoRow) return kNoRow;
  tables.customs.at(row)->name = text;
  tables.customs.at(row)->name_bytes.store(bytes, std::memory_order_release);
  return row;
}

// The profile's row in this dump, made by whoever comes first; kNoRow if it cannot be had.
uint32_t row_of(CustomProfile* profile) {
  uint32_t row = profile->row.load(std::memory_order_acquire);
  if (row != 0) [[likely]]
    return row - 1;
  while_making([&] {
    row = profile->row.load(std::memory_order_relaxed);
    if (row == 0 && value_table.init()) row = claim_custom_row(profile->name) + 1;
    profile->row.store(row, std::memory_order_release);
  });
  return row - 1;  // of 0: kNoRow
}

CustomProfile* place_profile(const char* name) {
  const uint32_t used = profiles_used.load(std::memory_order_relaxed);
  if (used == kMostCustomProfiles) return nullptr;
  memcpy(profiles[used].name, name, strlen(name) + 1);
  profiles_used.store(used + 1, std::memory_order_release);
  return &profiles[used];
}

bool decline() {
  count_lost(Lost::kValueNotAdded);
  return false;
}

format::CountKind kind_of(uint32_t row) {
  return static_cast<format::CountKind>(static_cast<uint32_t>(format::CountKind::kFirstCustom) +
                                        row);
}

uint32_t count_row_here(ThreadBlock* thread, uint32_t profile, CallSite site) {
  const uint32_t stack = capture_stack(thread, site);
  return stack == kNoRow ? kNoRow : find_count(kind_of(profile), stack, kNoRow, thread->row_number);
}

bool count_in(uint32_t profile, const void* value, uint32_t row) {
  if (value_table.add(profile, value, row) != Outcome::kDone) return false;
  if (add_count_only(row, {0, format::kWeightOne})) return true;
  uint32_t same_row;
  value_table.remove(profile, value, &same_row);  // else its removal would be one too many
  return false;
}

}  // namespace

CustomProfile* find_profile(const char* name) {
  const uint32_t used = profiles_used.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < used; ++i)
    if (strcmp(profiles[i].name, name) == 0) return &profiles[i];
  return nullptr;
}

CustomProfile* make_profile(const char* name) {
  CustomProfile* profile = find_profile(name);
  if (profile != nullptr) return profile;
  if (!is_name(name)) return nullptr;
  while_making([&] {
    profile = find_profile(name);
    if (profile == nullptr) profile = place_profile(name);
  });
  if (profile != nullptr) row_of(profile);  // so that an empty one is in the dump as well
  return profile;
}

bool add_value(ThreadBlock* thread, CustomProfile* profile, const void* value, CallSite site) {
  const uint32_t number = row_of(profile);
  if (number == kNoRow) return decline();
  const uint32_t row = count_row_here(thread, number, site);
  if (row == kNoRow) return decline();
  profile->values.fetch_add(1, std::memory_order_relaxed);  // before another thread can remove it
  if (count_in(number, value, row)) return true;
  profile->values.fetch_sub(1, std::memory_order_relaxed);
  return decline();
}

bool remove_value(CustomProfile* profile, const void* value) {
  const uint32_t number = profile->row.load(std::memory_order_acquire) - 1;
  uint32_t row;
  if (number == kNoRow || value_table.remove(number, value, &row) != Outcome::kDone) return false;
  add_removal(row);
  profile->values.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

uint64_t values_in(const CustomProfile* profile) {
  return profile->values.load(std::memory_order_relaxed);
}

const char* name_of(const CustomProfile* profile) { return profile->name; }

uint32_t count_kind_of(const CustomProfile* profile) {
  const uint32_t row = profile->row.load(std::memory_order_acquire);
  return row == 0 ? 0 : static_cast<uint32_t>(kind_of(row - 1));
}

void custom_profiles_forget() {
  value_table.forget();
  making.store(false, std::memory_order_relaxed);
  for (uint32_t i = 0; i < profiles_used.load(std::memory_order_relaxed); ++i) {
    profiles[i].row.store(0, std::memory_order_relaxed);
    profiles[i].values.store(0, std::memory_order_relaxed);
  }
}

}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
// The library's side of mprof.h.
//
// Threads: any. Signals: safe; in a handler that interrupted mprof itself nothing is started or
// changed, and the answer is that of the moment. Allocates: a forked child's dump, rows of it.
// Blocks: no.
#include "preload/api_work.h"
#include "preload/custom_profiles.h"
#include "preload/dump_file.h"
#include "preload/filter.h"
#include "preload/low.h"
#include "preload/profile_text.h"
#include "preload/program_labels.h"
#include "preload/sampled_path.h"
#include "preload/trace.h"

using namespace mprof::preload;  // the functions below are C names, outside any namespace
using mprof::format::kNoRow;

namespace {

bool is_text(const char* text) { return text != nullptr && *text != '\0'; }

// Puts the set in force that `change` makes of the one that is; its answer, false where nothing can
// be changed.
template <class Change>
int change_labels(Change&& change) {
  if (!may_work()) return 0;
  const ErrnoGuard keep_errno;
  const Guard guard(Guard::kAtWork);
  uint32_t set = current_labels();
  if (!change(&set)) return 0;
  set_current_labels(set);
  trace_labels();
  return 1;
}

// A set is as good as the dump whose row it is.
uint32_t set_in_this_dump(uint64_t word) {
  const uint32_t set = LabelsWord::set_of(word);
  return set < tables.labels.used() ? set : kNoRow;
}

CustomProfile* as_profile(const void* profile) {
  return static_cast<CustomProfile*>(const_cast<void*>(profile));
}

template <class Find>
const void* profile_named(const char* name, Find&& find) {
  if (!is_text(name) || !may_work()) return nullptr;
  const ErrnoGuard keep_errno;
  const Guard guard(Guard::kAtWork);
  return find(name);
}

// Under an address of its own; see format/live_table.h.
void* reported(const void* block) {
  return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(block) | uintptr_t{1} << 63);
}

// The slow half, reached by a jump: its caller is the program. Its own last call is none, or its
// frame would be gone when that looks at it.
[[gnu::noinline]] void alloc_sampled(const void* block, size_t bytes) {
  on_alloc(reported(block), bytes, MPROF_CALL_SITE());
  asm volatile("");
}

}  // namespace

extern "C" {

MPROF_EXPORT int mprof_library_active() noexcept {
  if (self.inside != 0) return state.load(std::memory_order_acquire) == State::kOn ? 1 : 0;
  return ready_to_sample() ? 1 : 0;
}

MPROF_EXPORT const char* mprof_library_dump_path() noexcept {
  return mprof_library_active() != 0 ? dump_path() : nullptr;
}

MPROF_EXPORT int mprof_library_label_clear(const char* key) noexcept {
  if (!is_text(key)) return 0;
  return change_labels([=](uint32_t* set) {
    *set = without_label(*set, key);
    return true;
  });
}

MPROF_EXPORT int mprof_library_label_set(const char* key, const char* value) noexcept {
  if (!is_text(key)) return 0;
  if (!is_text(value)) return mprof_library_label_clear(key);
  return change_labels([=](uint32_t* set) { return add_label(set, key, value); });
}

MPROF_EXPORT uint64_t mprof_library_labels() noexcept { return LabelsWord::of(current_labels()); }

MPROF_EXPORT void mprof_library_set_labels(uint64_t labels) noexcept {
  if (self.inside != 0 || !recording()) return;
  set_current_labels(set_in_this_dump(labels));
  trace_labels();
}

MPROF_EXPORT const void* mprof_library_profile_new(const char* name) noexcept {
  return profile_named(name, make_profile);
}

MPROF_EXPORT const void* mprof_library_profile_lookup(const char* name) noexcept {
  return profile_named(name, find_profile);
}

MPROF_EXPORT int mprof_library_profile_add(const void* profile, const void* value) noexcept {
  if (profile == nullptr) return 0;
  if (!may_work()) {
    count_lost(mprof::format::Lost::kValueNotAdded);
    return 0;
  }
  const CallSite site = MPROF_CALL_SITE();
  bool added = false;
  work_on_sample(
      [&](ThreadBlock* thread) { added = add_value(thread, as_profile(profile), value, site); },
      mprof::format::Lost::kValueNotAdded);
  return added ? 1 : 0;
}

MPROF_EXPORT int mprof_library_profile_remove(const void* profile, const void* value) noexcept {
  if (profile == nullptr || !may_work()) return 0;
  bool removed = false;
  work_on_sample([&](ThreadBlock*) { removed = remove_value(as_profile(profile), value); });
  return removed ? 1 : 0;
}

MPROF_EXPORT uint64_t mprof_library_profile_count(const void* profile) noexcept {
  return profile != nullptr && may_work() ? values_in(as_profile(profile)) : 0;
}

MPROF_EXPORT int mprof_library_profile_write(const void* profile, int fd) noexcept {
  if (profile == nullptr) return EINVAL;
  if (!may_work()) return ENOSYS;
  const ErrnoGuard keep_errno;
  const Guard guard(Guard::kAtWork);  // not seen by cuts: the descriptor may block
  return write_profile_text(as_profile(profile), fd);
}

MPROF_EXPORT void mprof_library_alloc(const void* block, size_t bytes) noexcept {
  if (block != nullptr && leaves_piece(bytes)) [[unlikely]]
    alloc_sampled(block, bytes);
}

MPROF_EXPORT void mprof_library_free(const void* block) noexcept {
  if (block != nullptr && may_be_sampled(reported(block))) on_free(reported(block));
}

MPROF_EXPORT void mprof_library_pause() noexcept { ++self.paused; }

MPROF_EXPORT void mprof_library_resume() noexcept {
  if (self.paused != 0) --self.paused;
}

}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
// The malloc family: one TLS test, else a jump to the real function.
//
// The countdown comes before the real call, the sample after it; a free is noted before the real
// call: so a block's address is never in the hands of two threads while mprof knows it. Steps that
// an allocation took and then failed are no bias: the process of sampling points has no memory.
// The block's size is what was asked for. malloc_usable_size is not hooked: a program reaches the
// allocator's own.
#include <errno.h>
#include <cstring>

#include "preload/clock.h"
#include "preload/filter.h"
#include "preload/real.h"
#include "preload/real_calls.h"
#include "preload/sampled_path.h"
#include "preload/sampler.h"
#include "preload/trace.h"

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace

namespace {

// The slow halves. Each is reached by a jump from its hook, with the hook's arguments, so its frame
// stands where the hook's would: its caller is the program. The fast halves have no frame at all.

void* counted(void* block, size_t bytes, CallSite site) {
  on_alloc(block, bytes, site);
  return block;
}

[[gnu::noinline]] void* malloc_sampled(size_t bytes) {
  return counted(real.malloc(bytes), bytes, MPROF_CALL_SITE());
}

[[gnu::noinline]] void* calloc_sampled(size_t count, size_t size) {
  return counted(real.calloc(count, size), count * size, MPROF_CALL_SITE());
}

[[gnu::noinline]] int posix_memalign_sampled(void** out, size_t alignment, size_t bytes) {
  const int error = real.posix_memalign(out, alignment, bytes);
  on_alloc(error == 0 ? *out : nullptr, bytes, MPROF_CALL_SITE());
  return error;
}

[[gnu::noinline]] void* aligned_alloc_sampled(size_t alignment, size_t bytes) {
  return counted(real.aligned_alloc(alignment, bytes), bytes, MPROF_CALL_SITE());
}

[[gnu::noinline]] void* memalign_sampled(size_t alignment, size_t bytes) {
  return counted(real.memalign(alignment, bytes), bytes, MPROF_CALL_SITE());
}

[[gnu::noinline]] void* valloc_sampled(size_t bytes) {
  return counted(real.valloc(bytes), bytes, MPROF_CALL_SITE());
}

[[gnu::noinline]] void* pvalloc_sampled(size_t bytes) {
  return counted(real.pvalloc(bytes), bytes, MPROF_CALL_SITE());
}

// A block of the bootstrap arena moves to the next allocator.
void* leave_arena(void* block, size_t bytes) {
  void* moved = real.malloc(bytes);
  const size_t readable = arena_bytes_behind(block);
  if (moved != nullptr) memcpy(moved, block, bytes < readable ? bytes : readable);
  return moved;
}

void* move_block(void* old, size_t bytes) {
  if (in_arena(old)) return leave_arena(old, bytes);
  const Detached detached = detach(old);
  void* block = real.realloc(old, bytes);
  // realloc(p, 0) frees p and may give null; null otherwise means that p is as it was.
  if (block == nullptr && bytes != 0)
    reattach(old, detached);
  else
    finish_free(detached);
  return block;
}

// The old block may be sampled, or the new one is to be, or both.
void* move_sampled(void* old, size_t bytes, CallSite site) {
  const bool due = leaves_piece(bytes);
  void* block = may_be_sampled(old) ? move_block(old, bytes) : real.realloc(old, bytes);
  if (due) on_alloc(block, bytes, site);
  return block;
}

[[gnu::noinline]] void* realloc_old_sampled(void* old, size_t bytes) {
  return move_sampled(old, bytes, MPROF_CALL_SITE());
}

[[gnu::noinline]] void* realloc_sampled(void* old, size_t bytes) {
  return counted(real.realloc(old, bytes), bytes, MPROF_CALL_SITE());
}

// What the process holds; both numbers miss something: pages given back from within the heap leave
// the break where it is, pages that were never touched are not resident.
struct Held {
  uintptr_t heap_end;
  uint64_t resident_bytes;
};

// statm: all pages, resident ones, ...
uint64_t resident_bytes() {
  char text[128];
  if (read_small_file("/proc/self/statm", text, sizeof text) <= 0) return 0;
  const char* space = strchr(text, ' ');
  return space == nullptr ? 0 : leading_number(space + 1) * mprof::format::kPageBytes;
}

Held held() { return {reinterpret_cast<uintptr_t>(real.sbrk(0)), resident_bytes()}; }

uint64_t given_back(const Held& before, const Held& after) {
  const uint64_t heap = before.heap_end > after.heap_end ? before.heap_end - after.heap_end : 0;
  const uint64_t resident = before.resident_bytes > after.resident_bytes
                                ? before.resident_bytes - after.resident_bytes
                                : 0;
  return heap > resident ? heap : resident;
}

[[gnu::noinline]] int malloc_trim_traced(size_t keep) {
  const Held before = held();
  const uint64_t start_ticks = ticks();
  const int trimmed = real_calls.malloc_trim(keep);
  const uint64_t spent_ticks = ticks() - start_ticks;
  const ErrnoGuard keep_errno;
  trace_event_at(MPROF_CALL_SITE(), mprof::format::TraceKind::kTrim,
                 trimmed != 0 ? given_back(before, held()) : 0, spent_ticks);
  trace_break_is_told();
  return trimmed;
}

[[gnu::always_inline]] inline bool give_back(void* block) {
  return !may_be_sampled(block) || on_free(block);
}

}  // namespace

extern "C" {

MPROF_EXPORT void* malloc(size_t bytes) noexcept {
  if (leaves_piece(bytes)) [[unlikely]]
    return malloc_sampled(bytes);
  return real.malloc(bytes);
}

MPROF_EXPORT void free(void* block) noexcept {
  if (give_back(block)) [[likely]]
    real.free(block);
}

MPROF_EXPORT void cfree(void* block) noexcept {
  if (give_back(block)) [[likely]]
    real.free(block);
}

MPROF_EXPORT void free_sized(void* block, size_t bytes) noexcept {
  if (give_back(block)) [[likely]]
    real.free_sized(block, bytes);
}

MPROF_EXPORT void free_aligned_sized(void* block, size_t alignment, size_t bytes) noexcept {
  if (give_back(block)) [[likely]]
    real.free_aligned_sized(block, alignment, bytes);
}

MPROF_EXPORT void* calloc(size_t count, size_t size) noexcept {
  size_t bytes;  // a product that overflows is the real one's to refuse
  if (!__builtin_mul_overflow(count, size, &bytes) && leaves_piece(bytes)) [[unlikely]]
    return calloc_sampled(count, size);
  return real.calloc(count, size);
}

MPROF_EXPORT void* realloc(void* old, size_t bytes) noexcept {
  if (may_be_sampled(old)) [[unlikely]]
    return realloc_old_sampled(old, bytes);
  if (leaves_piece(bytes)) [[unlikely]]
    return realloc_sampled(old, bytes);
  return real.realloc(old, bytes);
}

MPROF_EXPORT void* reallocarray(void* old, size_t count, size_t size) noexcept {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return real.reallocarray(old, count, size);
  if (may_be_sampled(old)) [[unlikely]]
    return realloc_old_sampled(old, bytes);
  if (leaves_piece(bytes)) [[unlikely]]
    return realloc_sampled(old, bytes);
  return real.reallocarray(old, count, size);
}

MPROF_EXPORT int posix_memalign(void** out, size_t alignment, size_t bytes) noexcept {
  if (leaves_piece(bytes)) [[unlikely]]
    return posix_memalign_sampled(out, alignment, bytes);
  return real.posix_memalign(out, alignment, bytes);
}

MPROF_EXPORT void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  if (leaves_piece(bytes)) [[unlikely]]
    return aligned_alloc_sampled(alignment, bytes);
  return real.aligned_alloc(alignment, bytes);
}

MPROF_EXPORT void* memalign(size_t alignment, size_t bytes) noexcept {
  if (leaves_piece(bytes)) [[unlikely]]
    return memalign_sampled(alignment, bytes);
  return real.memalign(alignment, bytes);
}

MPROF_EXPORT void* valloc(size_t bytes) noexcept {
  if (leaves_piece(bytes)) [[unlikely]]
    return valloc_sampled(bytes);
  return real.valloc(bytes);
}

MPROF_EXPORT void* pvalloc(size_t bytes) noexcept {
  if (leaves_piece(bytes)) [[unlikely]]
    return pvalloc_sampled(bytes);
  return real.pvalloc(bytes);
}

MPROF_EXPORT int malloc_trim(size_t keep) noexcept {
  if (tracing()) [[unlikely]]
    return malloc_trim_traced(keep);
  return real_calls.malloc_trim(keep);
}

}  // extern "C"

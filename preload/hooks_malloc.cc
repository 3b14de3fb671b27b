// SPDX-License-Identifier: Apache-2.0
// The malloc family: one TLS test, else the real call.
//
// An allocation is counted after the real call, a free before it, so that a block's address is
// never in the hands of two threads while mprof knows it. The block's size is what was asked for.
// malloc_usable_size is not hooked: a program reaches the allocator's own.
#include <cerrno>
#include <cstring>

#include "preload/filter.h"
#include "preload/real.h"
#include "preload/sampled_path.h"
#include "preload/sampler.h"

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace

namespace {

[[gnu::always_inline]] inline void* counted(void* block, size_t bytes, CallSite site) {
  if (crosses_sampling_point(bytes)) [[unlikely]] on_alloc(block, bytes, site);
  return block;
}

// A block of the bootstrap arena moves to the next allocator.
void* leave_arena(void* block, size_t bytes) {
  void* moved = real.malloc(bytes);
  const size_t readable = arena_bytes_behind(block);
  if (moved != nullptr) memcpy(moved, block, bytes < readable ? bytes : readable);
  return moved;
}

[[gnu::noinline]] void* realloc_sampled(void* old, size_t bytes, CallSite site) {
  if (in_arena(old)) return counted(leave_arena(old, bytes), bytes, site);
  const Detached detached = detach(old);
  void* block = real.realloc(old, bytes);
  // realloc(p, 0) frees p and may give null; null otherwise means that p is as it was.
  if (block == nullptr && bytes != 0)
    reattach(old, detached);
  else
    finish_free(detached);
  return counted(block, bytes, site);
}

[[gnu::always_inline]] inline bool give_back(void* block) {
  return !may_be_sampled(block) || on_free(block);
}

}  // namespace

extern "C" {

MPROF_EXPORT void* malloc(size_t bytes) noexcept {
  return counted(real.malloc(bytes), bytes, MPROF_CALL_SITE());
}

MPROF_EXPORT void free(void* block) noexcept {
  if (give_back(block)) [[likely]] real.free(block);
}

MPROF_EXPORT void cfree(void* block) noexcept {
  if (give_back(block)) [[likely]] real.free(block);
}

MPROF_EXPORT void free_sized(void* block, size_t bytes) noexcept {
  if (give_back(block)) [[likely]] real.free_sized(block, bytes);
}

MPROF_EXPORT void free_aligned_sized(void* block, size_t alignment, size_t bytes) noexcept {
  if (give_back(block)) [[likely]] real.free_aligned_sized(block, alignment, bytes);
}

MPROF_EXPORT void* calloc(size_t count, size_t size) noexcept {
  size_t bytes;
  void* block = real.calloc(count, size);
  if (__builtin_mul_overflow(count, size, &bytes)) return block;
  return counted(block, bytes, MPROF_CALL_SITE());
}

MPROF_EXPORT void* realloc(void* old, size_t bytes) noexcept {
  if (may_be_sampled(old)) [[unlikely]] return realloc_sampled(old, bytes, MPROF_CALL_SITE());
  return counted(real.realloc(old, bytes), bytes, MPROF_CALL_SITE());
}

MPROF_EXPORT void* reallocarray(void* old, size_t count, size_t size) noexcept {
  size_t bytes;
  // Too large a product: the real one fails without touching the block.
  if (__builtin_mul_overflow(count, size, &bytes)) return real.reallocarray(old, count, size);
  if (may_be_sampled(old)) [[unlikely]] return realloc_sampled(old, bytes, MPROF_CALL_SITE());
  return counted(real.reallocarray(old, count, size), bytes, MPROF_CALL_SITE());
}

MPROF_EXPORT int posix_memalign(void** out, size_t alignment, size_t bytes) noexcept {
  const int error = real.posix_memalign(out, alignment, bytes);
  if (error == 0) counted(*out, bytes, MPROF_CALL_SITE());
  return error;
}

MPROF_EXPORT void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  return counted(real.aligned_alloc(alignment, bytes), bytes, MPROF_CALL_SITE());
}

MPROF_EXPORT void* memalign(size_t alignment, size_t bytes) noexcept {
  return counted(real.memalign(alignment, bytes), bytes, MPROF_CALL_SITE());
}

MPROF_EXPORT void* valloc(size_t bytes) noexcept {
  return counted(real.valloc(bytes), bytes, MPROF_CALL_SITE());
}

MPROF_EXPORT void* pvalloc(size_t bytes) noexcept {
  return counted(real.pvalloc(bytes), bytes, MPROF_CALL_SITE());
}

}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
// operator new and delete. Where the next definition is libstdc++'s or the program's, these only
// forward and the malloc hooks count; where the allocator itself defines them, they count, too, and
// nothing below them does: each block is counted once. No guard is held across the real call, which
// may throw through these frames.
#include "preload/hooks_new.h"

#include <stdlib.h>

#include "preload/filter.h"
#include "preload/real.h"
#include "preload/sampled_path.h"
#include "preload/sampler.h"

using namespace mprof::preload;  // the functions below are the C++ runtime's names

namespace {

// Stand in for std::align_val_t and std::nothrow_t: <new> would bring declarations that clash.
using Alignment = size_t;
using Nothrow = const void*;

// Without any definition the reference would not have been bound at all without this library.
template <class... Rest>
void* forward_new(NewFunction which, CallSite site, size_t bytes, Rest... rest) {
  void* function = real_new_function(which, site.return_address() - 1);
  if (function == nullptr) [[unlikely]]
    return malloc(bytes);
  void* block = reinterpret_cast<void* (*)(size_t, Rest...)>(function)(bytes, rest...);
  if (is_counted_here(which) && leaves_piece(bytes)) [[unlikely]]
    on_alloc(block, bytes, site);
  return block;
}

template <class... Rest>
void forward_delete(NewFunction which, CallSite site, void* block, Rest... rest) {
  void* function = real_new_function(which, site.return_address() - 1);
  if (function == nullptr) [[unlikely]]
    return free(block);
  if (is_counted_here(which) && may_be_sampled(block) && !on_free(block)) return;
  reinterpret_cast<void (*)(void*, Rest...)>(function)(block, rest...);
}

}  // namespace

#define MPROF_NEW(symbol, which, parameters, ...)                           \
  MPROF_EXPORT void* symbol parameters {                                    \
    return forward_new(NewFunction::which, MPROF_CALL_SITE(), __VA_ARGS__); \
  }
#define MPROF_DELETE(symbol, which, parameters, ...)                    \
  MPROF_EXPORT void symbol parameters {                                 \
    forward_delete(NewFunction::which, MPROF_CALL_SITE(), __VA_ARGS__); \
  }

extern "C" {
MPROF_NEW(_Znwm, kNew, (size_t n), n)
MPROF_NEW(_Znam, kNewArray, (size_t n), n)
MPROF_NEW(_ZnwmRKSt9nothrow_t, kNewNothrow, (size_t n, Nothrow t), n, t)
MPROF_NEW(_ZnamRKSt9nothrow_t, kNewArrayNothrow, (size_t n, Nothrow t), n, t)
MPROF_NEW(_ZnwmSt11align_val_t, kNewAligned, (size_t n, Alignment a), n, a)
MPROF_NEW(_ZnamSt11align_val_t, kNewArrayAligned, (size_t n, Alignment a), n, a)
MPROF_NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, kNewAlignedNothrow,
          (size_t n, Alignment a, Nothrow t), n, a, t)
MPROF_NEW(_ZnamSt11align_val_tRKSt9nothrow_t, kNewArrayAlignedNothrow,
          (size_t n, Alignment a, Nothrow t), n, a, t)
MPROF_DELETE(_ZdlPv, kDelete, (void* p), p)
MPROF_DELETE(_ZdaPv, kDeleteArray, (void* p), p)
MPROF_DELETE(_ZdlPvm, kDeleteSized, (void* p, size_t n), p, n)
MPROF_DELETE(_ZdaPvm, kDeleteArraySized, (void* p, size_t n), p, n)
MPROF_DELETE(_ZdlPvRKSt9nothrow_t, kDeleteNothrow, (void* p, Nothrow t), p, t)
MPROF_DELETE(_ZdaPvRKSt9nothrow_t, kDeleteArrayNothrow, (void* p, Nothrow t), p, t)
MPROF_DELETE(_ZdlPvSt11align_val_t, kDeleteAligned, (void* p, Alignment a), p, a)
MPROF_DELETE(_ZdaPvSt11align_val_t, kDeleteArrayAligned, (void* p, Alignment a), p, a)
MPROF_DELETE(_ZdlPvmSt11align_val_t, kDeleteSizedAligned, (void* p, size_t n, Alignment a), p, n, a)
MPROF_DELETE(_ZdaPvmSt11align_val_t, kDeleteArraySizedAligned, (void* p, size_t n, Alignment a), p,
             n, a)
MPROF_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, kDeleteAlignedNothrow,
             (void* p, Alignment a, Nothrow t), p, a, t)
MPROF_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, kDeleteArrayAlignedNothrow,
             (void* p, Alignment a, Nothrow t), p, a, t)
}

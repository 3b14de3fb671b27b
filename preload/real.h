// SPDX-License-Identifier: Apache-2.0
// The next allocator in the chain, and libc's functions: what each hook forwards to.
//
// Every pointer is valid from the first instruction on: it starts at a stand-in that looks the
// real function up (RTLD_NEXT) and, while that look-up itself allocates, serves from a static
// arena. After resolve() the stand-ins are never called again.
//
// Threads: any. Signals: safe once resolved. Allocates: only from the next allocator.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mprof::preload {

struct RealFunctions {
  void* (*malloc)(size_t);
  void (*free)(void*);
  void* (*calloc)(size_t, size_t);
  void* (*realloc)(void*, size_t);
  void* (*reallocarray)(void*, size_t, size_t);
  int (*posix_memalign)(void**, size_t, size_t);
  void* (*aligned_alloc)(size_t, size_t);
  void* (*memalign)(size_t, size_t);
  void* (*valloc)(size_t);
  void* (*pvalloc)(size_t);
  void (*free_sized)(void*, size_t);                  // stand-in: free
  void (*free_aligned_sized)(void*, size_t, size_t);  // stand-in: free
  void* (*mmap)(void*, size_t, int, int, int, long);
  void* (*mmap64)(void*, size_t, int, int, int, long);
  int (*munmap)(void*, size_t);
  void* (*mremap)(void*, size_t, size_t, int, ...);
  int (*brk)(void*);
  void* (*sbrk)(intptr_t);
  int (*dlclose)(void*);
  int (*pthread_create)(unsigned long*, const void*, void* (*)(void*), void*);
};
[[gnu::visibility("hidden")]] extern RealFunctions real;  // read past the offset table

// Looks everything up once, also what real_locks.h, real_calls.h and hooks_new.h have; later calls
// do nothing.
void resolve();

// Whether a block came from the static arena: it is never given to the next allocator.
bool in_arena(const void* block);
// Bytes that may be read behind an arena block.
size_t arena_bytes_behind(const void* block);

// File name of the object that the next allocator's malloc lies in; "" if unknown.
const char* allocator_path();

}  // namespace mprof::preload

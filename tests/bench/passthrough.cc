// SPDX-License-Identifier: Apache-2.0
// passthrough.so: the malloc family forwarded to the next library, and nothing else. What it costs
// is the floor of any LD_PRELOAD profiler; mprof's own cost is what comes on top.
//
// Threads    Pointers are set in the constructor, before the program can have threads.
// Allocates  From a small arena while dlsym() runs, because dlsym() itself may allocate.
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#define MPROF_FORWARD extern "C" __attribute__((visibility("default")))

namespace {

struct Real {
  void* (*malloc)(size_t);
  void (*free)(void*);
  void* (*calloc)(size_t, size_t);
  void* (*realloc)(void*, size_t);
  void* (*reallocarray)(void*, size_t, size_t);
  void* (*memalign)(size_t, size_t);
  void* (*aligned_alloc)(size_t, size_t);
  int (*posix_memalign)(void**, size_t, size_t);
  void* (*valloc)(size_t);
  void* (*pvalloc)(size_t);
};

// Until dlsym() has answered, `real` points at functions that serve from the arena.
alignas(16) char arena[16384];
size_t arena_used_bytes;
bool resolving;
extern Real real;

bool in_arena(const void* block) { return block >= arena && block < arena + sizeof arena; }

void* take(size_t bytes) {
  const size_t rounded = (bytes + 15) & ~size_t{15};
  if (rounded < bytes || rounded > sizeof arena - arena_used_bytes) return nullptr;
  arena_used_bytes += rounded;
  return arena + (arena_used_bytes - rounded);
}

template <class Function>
void find(Function& function, const char* name) {
  if (void* found = dlsym(RTLD_NEXT, name)) function = reinterpret_cast<Function>(found);
}

void resolve() {
  if (resolving) return;
  resolving = true;
  Real found = real;
  find(found.malloc, "malloc");
  find(found.free, "free");
  find(found.calloc, "calloc");
  find(found.realloc, "realloc");
  find(found.reallocarray, "reallocarray");
  find(found.memalign, "memalign");
  find(found.aligned_alloc, "aligned_alloc");
  find(found.posix_memalign, "posix_memalign");
  find(found.valloc, "valloc");
  find(found.pvalloc, "pvalloc");
  real = found;
}

void* early_malloc(size_t bytes) {
  resolve();
  return real.malloc == early_malloc ? take(bytes) : real.malloc(bytes);
}
void early_free(void* block) {
  resolve();
  if (!in_arena(block) && real.free != early_free) real.free(block);
}
void* early_calloc(size_t count, size_t bytes) {
  resolve();
  return real.calloc == early_calloc ? take(count * bytes) : real.calloc(count, bytes);
}
void* early_realloc(void* block, size_t bytes) {
  resolve();
  return real.realloc == early_realloc ? nullptr : real.realloc(block, bytes);
}
void* early_reallocarray(void* block, size_t count, size_t bytes) {
  resolve();
  return real.reallocarray == early_reallocarray ? nullptr : real.reallocarray(block, count, bytes);
}
void* early_memalign(size_t alignment, size_t bytes) {
  resolve();
  return real.memalign == early_memalign ? nullptr : real.memalign(alignment, bytes);
}
void* early_aligned_alloc(size_t alignment, size_t bytes) {
  resolve();
  return real.aligned_alloc == early_aligned_alloc ? nullptr : real.aligned_alloc(alignment, bytes);
}
int early_posix_memalign(void** block, size_t alignment, size_t bytes) {
  resolve();
  return real.posix_memalign == early_posix_memalign ? ENOMEM
                                                     : real.posix_memalign(block, alignment, bytes);
}
void* early_valloc(size_t bytes) {
  resolve();
  return real.valloc == early_valloc ? nullptr : real.valloc(bytes);
}
void* early_pvalloc(size_t bytes) {
  resolve();
  return real.pvalloc == early_pvalloc ? nullptr : real.pvalloc(bytes);
}

Real real = {early_malloc,       early_free,     early_calloc,        early_realloc,
             early_reallocarray, early_memalign, early_aligned_alloc, early_posix_memalign,
             early_valloc,       early_pvalloc};

__attribute__((constructor)) void start() { resolve(); }

}  // namespace

MPROF_FORWARD void* malloc(size_t bytes) { return real.malloc(bytes); }
MPROF_FORWARD void free(void* block) { real.free(block); }
MPROF_FORWARD void* calloc(size_t count, size_t bytes) { return real.calloc(count, bytes); }
MPROF_FORWARD void* realloc(void* block, size_t bytes) { return real.realloc(block, bytes); }
MPROF_FORWARD void* reallocarray(void* block, size_t count, size_t bytes) {
  return real.reallocarray(block, count, bytes);
}
MPROF_FORWARD void* memalign(size_t alignment, size_t bytes) {
  return real.memalign(alignment, bytes);
}
MPROF_FORWARD void* aligned_alloc(size_t alignment, size_t bytes) {
  return real.aligned_alloc(alignment, bytes);
}
MPROF_FORWARD int posix_memalign(void** block, size_t alignment, size_t bytes) {
  return real.posix_memalign(block, alignment, bytes);
}
MPROF_FORWARD void* valloc(size_t bytes) { return real.valloc(bytes); }
MPROF_FORWARD void* pvalloc(size_t bytes) { return real.pvalloc(bytes); }

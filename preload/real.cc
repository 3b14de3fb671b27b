// SPDX-License-Identifier: Apache-2.0
#include "preload/real.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "preload/filter.h"
#include "preload/hooks_new.h"
#include "preload/low.h"
#include "preload/real_calls.h"
#include "preload/real_locks.h"

namespace mprof::preload {
namespace {

constexpr size_t kArenaBytes = 64 * 1024;
constexpr size_t kArenaAlignment = 16;
alignas(4096) char arena[kArenaBytes];
std::atomic<size_t> arena_used;
// While something is looked up that may not be there: what the loader then has to say would stay in
// memory that its next look-up frees. If that look-up is of free itself, by the free() of a library
// before this one, it never ends. Without memory the loader has a constant text.
std::atomic<bool> arena_is_closed;

// Arena blocks are marked in the filter, so that free() finds out that they are not the next
// allocator's; nothing else ever looks at them again.
void* arena_alloc(size_t alignment, size_t bytes) {
  if (alignment < kArenaAlignment) alignment = kArenaAlignment;
  if (bytes > kArenaBytes || arena_is_closed.load(std::memory_order_relaxed)) return nullptr;
  size_t used = arena_used.load(std::memory_order_relaxed);
  size_t begin;
  do {
    begin = (used + alignment - 1) & ~(alignment - 1);
    if (begin + bytes > kArenaBytes) return nullptr;
  } while (!arena_used.compare_exchange_weak(used, begin + (bytes == 0 ? 1 : bytes),
                                             std::memory_order_relaxed));
  filter_mark_forever(arena + begin);
  return arena + begin;
}

bool multiply(size_t a, size_t b, size_t* product) {
  return !__builtin_mul_overflow(a, b, product);
}

void* boot_malloc(size_t bytes);
void boot_free(void* block);
void* boot_calloc(size_t count, size_t size);
void* boot_realloc(void* block, size_t bytes);
void* boot_reallocarray(void* block, size_t count, size_t size);
int boot_posix_memalign(void** out, size_t alignment, size_t bytes);
void* boot_aligned_alloc(size_t alignment, size_t bytes);
void* boot_memalign(size_t alignment, size_t bytes);
void* boot_valloc(size_t bytes);
void* boot_pvalloc(size_t bytes);
void boot_free_sized(void* block, size_t bytes);
void boot_free_aligned_sized(void* block, size_t alignment, size_t bytes);
void* boot_mmap(void* address, size_t bytes, int protection, int flags, int fd, long offset);
int boot_munmap(void* address, size_t bytes);
void* boot_mremap(void* old, size_t old_bytes, size_t bytes, int flags, ...);
int boot_brk(void* address);
void* boot_sbrk(intptr_t increment);
int boot_dlclose(void* handle);
int boot_pthread_create(unsigned long* thread, const void* attributes, void* (*start)(void*),
                        void* argument);

}  // namespace

constinit RealFunctions real = {
    boot_malloc,       boot_free,           boot_calloc,        boot_realloc,
    boot_reallocarray, boot_posix_memalign, boot_aligned_alloc, boot_memalign,
    boot_valloc,       boot_pvalloc,        boot_free_sized,    boot_free_aligned_sized,
    boot_mmap,         boot_mmap,           boot_munmap,        boot_mremap,
    boot_brk,          boot_sbrk,           boot_dlclose,       boot_pthread_create};

namespace {

void* boot_malloc(size_t bytes) {
  resolve();
  return real.malloc == boot_malloc ? arena_alloc(0, bytes) : real.malloc(bytes);
}

void boot_free(void* block) {
  resolve();
  if (real.free != boot_free) real.free(block);
}

void* boot_calloc(size_t count, size_t size) {
  resolve();
  size_t bytes;
  if (real.calloc != boot_calloc) return real.calloc(count, size);
  return multiply(count, size, &bytes) ? arena_alloc(0, bytes) : nullptr;  // zero: never reused
}

void* boot_realloc(void* block, size_t bytes) {
  resolve();
  if (real.realloc != boot_realloc) return real.realloc(block, bytes);
  void* moved = arena_alloc(0, bytes);
  if (moved == nullptr || block == nullptr) return moved;
  const size_t readable = arena_bytes_behind(block);
  memcpy(moved, block, bytes < readable ? bytes : readable);
  return moved;
}

void* boot_reallocarray(void* block, size_t count, size_t size) {
  resolve();
  if (real.reallocarray != boot_reallocarray) return real.reallocarray(block, count, size);
  size_t bytes;
  if (multiply(count, size, &bytes)) return real.realloc(block, bytes);
  errno = ENOMEM;
  return nullptr;
}

int boot_posix_memalign(void** out, size_t alignment, size_t bytes) {
  resolve();
  if (real.posix_memalign != boot_posix_memalign) return real.posix_memalign(out, alignment, bytes);
  *out = arena_alloc(alignment, bytes);
  return *out == nullptr ? ENOMEM : 0;
}

void* boot_memalign(size_t alignment, size_t bytes) {
  resolve();
  return real.memalign == boot_memalign ? arena_alloc(alignment, bytes)
                                        : real.memalign(alignment, bytes);
}

void* boot_aligned_alloc(size_t alignment, size_t bytes) {
  resolve();
  return real.aligned_alloc == boot_aligned_alloc ? arena_alloc(alignment, bytes)
                                                  : real.aligned_alloc(alignment, bytes);
}

void* boot_valloc(size_t bytes) {
  resolve();
  return real.valloc == boot_valloc ? arena_alloc(4096, bytes) : real.valloc(bytes);
}

void* boot_pvalloc(size_t bytes) {
  resolve();
  return real.pvalloc == boot_pvalloc ? arena_alloc(4096, (bytes + 4095) & ~size_t{4095})
                                      : real.pvalloc(bytes);
}

// An allocator older than C23 has neither of these; free() is what they mean.
void boot_free_sized(void* block, size_t) { real.free(block); }
void boot_free_aligned_sized(void* block, size_t, size_t) { real.free(block); }

// An allocator in the program itself may map memory in the middle of the first malloc of all. So
// these look up no more than their own function: a look-up that succeeds does not allocate, one
// that fails (resolve() has some) does.
template <class F>
F look_up_alone(F& into, const char* name) {
  if (void* found = dlsym(RTLD_NEXT, name)) return into = reinterpret_cast<F>(found);
  return nullptr;
}

void* boot_mmap(void* address, size_t bytes, int protection, int flags, int fd, long offset) {
  const auto next = look_up_alone(real.mmap, "mmap");
  if (next != nullptr) return next(address, bytes, protection, flags, fd, offset);
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, bytes, protection, flags, fd, offset));
}

int boot_munmap(void* address, size_t bytes) {
  const auto next = look_up_alone(real.munmap, "munmap");
  return next != nullptr ? next(address, bytes)
                         : static_cast<int>(syscall(SYS_munmap, address, bytes));
}

void* boot_mremap(void* old, size_t old_bytes, size_t bytes, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  void* address = va_arg(rest, void*);  // every caller in this library passes it
  va_end(rest);
  const auto next = look_up_alone(real.mremap, "mremap");
  if (next != nullptr) return next(old, old_bytes, bytes, flags, address);
  return reinterpret_cast<void*>(syscall(SYS_mremap, old, old_bytes, bytes, flags, address));
}

// libc remembers the break: a system call behind its back would make it wrong.
int boot_brk(void* address) {
  const auto next = look_up_alone(real.brk, "brk");
  if (next != nullptr) return next(address);
  errno = ENOMEM;
  return -1;
}

void* boot_sbrk(intptr_t increment) {
  const auto next = look_up_alone(real.sbrk, "sbrk");
  if (next != nullptr) return next(increment);
  errno = ENOMEM;
  return reinterpret_cast<void*>(-1);
}

int boot_dlclose(void* handle) {
  resolve();
  return real.dlclose == boot_dlclose ? 0 : real.dlclose(handle);
}

int boot_pthread_create(unsigned long* thread, const void* attributes, void* (*start)(void*),
                        void* argument) {
  resolve();
  return real.pthread_create == boot_pthread_create
             ? EAGAIN
             : real.pthread_create(thread, attributes, start, argument);
}

template <class F>
void look_up(F*& into, const char* name) {
  if (void* found = dlsym(RTLD_NEXT, name)) into = reinterpret_cast<F*>(found);
}

enum : int { kUnresolved, kResolving, kResolved };
std::atomic<int> resolve_state;

}  // namespace

void resolve() {
  // The first allocation of a process comes before its second thread; a loser of this race can
  // only be the look-up's own allocation (arena) or a signal handler (arena).
  int expected = kUnresolved;
  if (!resolve_state.compare_exchange_strong(expected, kResolving)) return;
  const ErrnoGuard keep_errno;
  RealFunctions found = real;
  arena_is_closed.store(true, std::memory_order_relaxed);
  look_up(found.free_sized, "free_sized");
  look_up(found.free_aligned_sized, "free_aligned_sized");
  resolve_new();
  arena_is_closed.store(false, std::memory_order_relaxed);
  look_up(found.malloc, "malloc");
  look_up(found.free, "free");
  look_up(found.calloc, "calloc");
  look_up(found.realloc, "realloc");
  look_up(found.reallocarray, "reallocarray");
  look_up(found.posix_memalign, "posix_memalign");
  look_up(found.aligned_alloc, "aligned_alloc");
  look_up(found.memalign, "memalign");
  look_up(found.valloc, "valloc");
  look_up(found.pvalloc, "pvalloc");
  look_up(found.mmap, "mmap");
  look_up(found.mmap64, "mmap64");
  look_up(found.munmap, "munmap");
  look_up_alone(found.mremap, "mremap");
  look_up(found.brk, "brk");
  look_up(found.sbrk, "sbrk");
  look_up(found.dlclose, "dlclose");
  look_up(found.pthread_create, "pthread_create");
  // Last, since all of these are there: no message stays behind for dlerror().
  mprof_fill_locks();
  mprof_fill_calls();
  real = found;
  resolve_state.store(kResolved, std::memory_order_release);
}

bool in_arena(const void* block) { return block >= arena && block < arena + kArenaBytes; }

size_t arena_bytes_behind(const void* block) {
  return static_cast<size_t>(arena + kArenaBytes - static_cast<const char*>(block));
}

const char* allocator_path() {
  static const char* path;  // a forked child must not ask the loader, whose lock may be taken
  if (path != nullptr) return path;
  Dl_info info;
  const bool known =
      dladdr(reinterpret_cast<void*>(real.malloc), &info) != 0 && info.dli_fname != nullptr;
  return path = known ? info.dli_fname : "";
}

}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
// MPROF_MMAP=1: anonymous mappings and the program break, counted by address range.
//
// What is counted
//   Every mapping, each exactly (weight one): mappings are few and large, and a sampled one could
//   not be cut exactly. Bytes are address space in whole pages, touched or not, shared or private.
//   munmap, and mmap with MAP_FIXED, end whatever part of a mapping lies in their range; the
//   mapping's object ends with its last byte. mremap that shrinks in place unmaps the tail; one
//   that grows or moves is like realloc: what was there ends, and a new mapping begins at its
//   caller. MREMAP_DONTUNMAP and a duplicate (old size 0) leave the old one as it is.
//   brk and sbrk map and unmap what lies between the old and the new break, in bytes.
// What is not seen
//   Calls that do not go through the PLT: libc's own (malloc's arenas and large blocks, thread
//   stacks), the dynamic loader's, and syscall(2). Calls of the allocator itself are left out by
//   their caller's address, so that its blocks are not counted twice. A mapping that goes unseen
//   is corrected when something else is mapped at its place.
//   Mappings made before the library started: a mapping never starts it, for its caller may be an
//   allocator in the middle of its own first call. A forked child does start at a mapping.
//
// What a call takes away leaves the table before the real call, since another thread may get the
// same addresses right after it; when the call fails it is put back.
//
// Without MPROF_MMAP=1 each hook is one branch and a tail call.
//
// Threads: any. Signals: safe; a handler that interrupted its thread inside mprof is only counted.
// Allocates: rows of the dump. Blocks: see range_table.h. errno: as the real call leaves it.
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format/record.h"
#include "format/weights.h"
#include "preload/buckets.h"
#include "preload/clock.h"
#include "preload/dump_file.h"
#include "preload/lifecycle.h"
#include "preload/modules.h"
#include "preload/range_table.h"
#include "preload/real.h"
#include "preload/stacks.h"

extern "C" __attribute__((weak)) int _dl_find_object(void*, dl_find_object*);

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace

namespace {

namespace format = mprof::format;
using Outcome = RangeTable::Outcome;

// False as soon as it is known that this process does not follow mappings. Relaxed: late is only
// slow.
constinit std::atomic<bool> maybe_followed{true};

[[gnu::always_inline]] inline bool may_follow() {
  return maybe_followed.load(std::memory_order_relaxed);
}

// Where the next allocator lies; the end is stored last, with release.
constinit std::atomic<uintptr_t> allocator_begin{0};
constinit std::atomic<uintptr_t> allocator_end{0};

// Only after a start: `real` is complete then.
void find_allocator() {
  dl_find_object found;
  if (_dl_find_object == nullptr ||
      _dl_find_object(reinterpret_cast<void*>(real.malloc), &found) != 0)
    return;
  allocator_begin.store(reinterpret_cast<uintptr_t>(found.dlfo_map_start),
                        std::memory_order_relaxed);
  allocator_end.store(reinterpret_cast<uintptr_t>(found.dlfo_map_end), std::memory_order_release);
}

bool in_allocator(uintptr_t pc) {
  if (allocator_end.load(std::memory_order_acquire) == 0) find_allocator();
  return pc < allocator_end.load(std::memory_order_acquire) &&
         pc >= allocator_begin.load(std::memory_order_relaxed);
}

bool not_followed_ever() {
  maybe_followed.store(false, std::memory_order_relaxed);
  return false;
}

[[gnu::noinline]] bool followed(CallSite site) {
  const ErrnoGuard keep_errno;
  const uintptr_t pc = site.return_address() - 1;
  if (in_own_library(pc)) return false;
  if (is_off()) return not_followed_ever();
  const bool is_on = recording();
  const bool is_forked_child = process_number > 1;
  if (!is_on && !is_forked_child) return false;
  if (in_allocator(pc) || !(is_on || start_if_new())) return false;
  return header->mmap_profiled != 0 || not_followed_ever();
}

ThreadBlock* usable_block() {
  if (self.inside == 0) {
    ThreadBlock* thread = own_block();
    if (thread == nullptr) count_lost(why_no_block());
    return thread;
  }
  if (self.inside == Guard::kAtWork) count_lost(format::Lost::kReentered);
  return nullptr;
}

// Runs `work` as part of a sample of this thread, if that is possible here and now.
template <class Work>
void at_work(Work&& work) {
  const ErrnoGuard keep_errno;
  if (!recording()) return;  // a signal handler may have forked since the call began
  ThreadBlock* thread = usable_block();
  if (thread == nullptr) return;
  const Guard guard(Guard::kAtWork);
  const ScopedInside inside(thread);
  work(thread);
}

bool done(Outcome outcome, format::Lost when_contended) {
  if (outcome == Outcome::kContended) count_lost(when_contended);
  if (outcome == Outcome::kFull) count_lost(format::Lost::kTableFull);
  return outcome == Outcome::kDone;
}

// What leaves the program, between its leaving the table and its being counted as freed.
struct Leaving {
  RangeTable::Taken taken;
  uint64_t epoch;
};

void bump(std::atomic<uint64_t>& own_counter) {
  own_counter.store(own_counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// The bucket, the event and the thread's counter, or none of them.
bool count_mapped(ThreadBlock* thread, uint32_t bucket, uint64_t bytes, uint64_t epoch,
                  uint64_t now) {
  if (!add_allocation(bucket, {bytes, format::kWeightOne}, epoch)) {
    count_lost(format::Lost::kContended);
    return false;
  }
  const uint64_t record[3] = {format::pack_record_word({format::RecordKind::kAlloc, 3, 0, bucket}),
                              now, bytes};
  write_event(thread, record, 3);
  bump(thread->row->samples);
  return true;
}

void count_piece(ThreadBlock* thread, const RangeTable::Piece& piece, uint64_t epoch) {
  const uint64_t weight = piece.is_last ? format::kWeightOne : format::kBytesOnly;
  if (!add_free(piece.bucket, {piece.bytes, weight}, epoch))
    return count_lost(format::Lost::kContended);
  const uint64_t record[5] = {
      format::pack_record_word({format::RecordKind::kFree, 5, format::kWeighted, piece.bucket}),
      ticks(), piece.bytes, piece.ticks, weight};
  write_event(thread, record, 5);
  bump(thread->row->sampled_frees);
}

void count_left(ThreadBlock* thread, Leaving& leaving) {
  RangeTable::Piece piece;
  bool there_is_one = !leaving.taken.empty();
  while (there_is_one && done(range_table.release(leaving.taken, &piece, &there_is_one),
                              format::Lost::kFreeContended))
    if (there_is_one) count_piece(thread, piece, leaving.epoch);
}

Leaving leave(Range range) {
  Leaving leaving{};
  at_work([&](ThreadBlock*) {
    leaving.epoch = operation_epoch();
    done(range_table.take(range, &leaving.taken), format::Lost::kFreeContended);
  });
  return leaving;
}

// After the real call: it took the ranges away, or it failed and they are where they were.
void settle(Leaving& leaving, bool left) {
  if (leaving.taken.empty()) return;
  at_work([&](ThreadBlock* thread) {
    if (left) return count_left(thread, leaving);
    done(range_table.put_back(leaving.taken), format::Lost::kFreeContended);
  });
}

// As if it had never been followed.
void drop(Range range) {
  RangeTable::Taken taken;
  RangeTable::Piece piece;
  bool there_is_one = true;
  if (range_table.take(range, &taken) != Outcome::kDone) return;
  while (there_is_one && range_table.release(taken, &piece, &there_is_one) == Outcome::kDone) {
  }
}

void add_mapping(ThreadBlock* thread, Range range, CallSite site) {
  const uint64_t epoch = operation_epoch();
  const uint64_t now = ticks();
  const uint32_t stack = capture_stack(thread, site);
  const uint32_t bucket =
      find_bucket(format::BucketKind::kMmap, stack, current_labels(), thread->row_number);
  if (bucket == format::kNoRow) return count_lost(format::Lost::kTableFull);
  if (!done(range_table.add(range, bucket, now), format::Lost::kContended)) return;
  if (!count_mapped(thread, bucket, range.end - range.begin, epoch, now)) drop(range);
}

// Something was mapped: what is followed there has ended, now (MAP_FIXED) or unseen before.
void arrive(Range range, bool anonymous, CallSite site) {
  at_work([&](ThreadBlock* thread) {
    Leaving replaced{{}, operation_epoch()};
    done(range_table.take(range, &replaced.taken), format::Lost::kFreeContended);
    count_left(thread, replaced);
    if (anonymous && self.paused == 0) add_mapping(thread, range, site);
  });
}

// The whole pages that hold [begin, begin + bytes).
Range pages(const void* begin, size_t bytes) {
  constexpr uintptr_t kMask = format::kPageBytes - 1;
  const auto first = reinterpret_cast<uintptr_t>(begin) & ~kMask;
  return {first, (reinterpret_cast<uintptr_t>(begin) + bytes + kMask) & ~kMask};
}

template <class Map>
[[gnu::noinline]] void* follow_map(Map* map, void* address, size_t bytes, int protection, int flags,
                                   int fd, off_t offset, CallSite site) {
  void* memory = map(address, bytes, protection, flags, fd, offset);
  if (memory != MAP_FAILED && followed(site))
    arrive(pages(memory, bytes), (flags & MAP_ANONYMOUS) != 0, site);
  return memory;
}

[[gnu::noinline]] int follow_unmap(void* address, size_t bytes, CallSite site) {
  const Range range = pages(address, bytes);
  if (range.begin >= range.end || !followed(site)) return real.munmap(address, bytes);
  Leaving leaving = leave(range);
  const int result = real.munmap(address, bytes);
  settle(leaving, result == 0);
  return result;
}

struct Remap {
  void* old;
  size_t old_bytes;
  size_t bytes;
  int flags;
  void* address;  // meant only with MREMAP_FIXED; passed on as it came in any case

  [[nodiscard]] void* call() const { return real.mremap(old, old_bytes, bytes, flags, address); }
  [[nodiscard]] bool moves() const { return (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0; }
  [[nodiscard]] bool keeps_old() const { return old_bytes == 0 || (flags & MREMAP_DONTUNMAP) != 0; }
};

void* remap_shrinking(const Remap& remap) {
  const Range whole = pages(remap.old, remap.old_bytes);
  Leaving tail = leave({pages(remap.old, remap.bytes).end, whole.end});
  void* memory = remap.call();
  settle(tail, memory != MAP_FAILED);
  return memory;
}

void* remap_like_realloc(const Remap& remap, CallSite site) {
  const bool kept = remap.keeps_old() && range_table.covers(reinterpret_cast<uintptr_t>(remap.old));
  Leaving old{};
  if (!remap.keeps_old()) old = leave(pages(remap.old, remap.old_bytes));
  const bool is_followed = kept || !old.taken.empty();
  void* memory = remap.call();
  settle(old, memory != MAP_FAILED);
  if (memory != MAP_FAILED) arrive(pages(memory, remap.bytes), is_followed, site);
  return memory;
}

[[gnu::noinline]] void* follow_remap(const Remap& remap, CallSite site) {
  const Range old = pages(remap.old, remap.old_bytes);
  const Range wanted = pages(remap.old, remap.bytes);
  if (old.end < old.begin || wanted.end <= wanted.begin || !followed(site)) return remap.call();
  if (remap.moves() || wanted.end > old.end) return remap_like_realloc(remap, site);
  return wanted.end < old.end ? remap_shrinking(remap) : remap.call();
}

// The break goes from `old` to `wanted`; `call` says whether it did.
template <class Call>
void move_break(uintptr_t old, uintptr_t wanted, CallSite site, Call&& call) {
  Leaving leaving{};
  if (wanted < old) leaving = leave({wanted, old});
  const bool moved = call();
  settle(leaving, moved);
  if (moved && wanted > old) arrive({old, wanted}, true, site);
}

uintptr_t current_break() {
  const ErrnoGuard keep_errno;
  return reinterpret_cast<uintptr_t>(real.sbrk(0));
}

[[gnu::noinline]] int follow_brk(void* address, CallSite site) {
  if (!followed(site)) return real.brk(address);
  int result = 0;
  move_break(current_break(), reinterpret_cast<uintptr_t>(address), site,
             [&] { return (result = real.brk(address)) == 0; });
  return result;
}

[[gnu::noinline]] void* follow_sbrk(intptr_t increment, CallSite site) {
  if (!followed(site)) return real.sbrk(increment);
  const uintptr_t old = current_break();
  void* result = nullptr;
  move_break(old, old + static_cast<uintptr_t>(increment), site, [&] {
    result = real.sbrk(increment);
    return result != reinterpret_cast<void*>(-1);
  });
  return result;
}

}  // namespace

extern "C" {

MPROF_EXPORT void* mmap(void* address, size_t bytes, int protection, int flags, int fd,
                        off_t offset) noexcept {
  if (!may_follow()) [[likely]]
    return real.mmap(address, bytes, protection, flags, fd, offset);
  return follow_map(real.mmap, address, bytes, protection, flags, fd, offset, MPROF_CALL_SITE());
}

MPROF_EXPORT void* mmap64(void* address, size_t bytes, int protection, int flags, int fd,
                          off64_t offset) noexcept {
  if (!may_follow()) [[likely]]
    return real.mmap64(address, bytes, protection, flags, fd, offset);
  return follow_map(real.mmap64, address, bytes, protection, flags, fd, offset, MPROF_CALL_SITE());
}

MPROF_EXPORT int munmap(void* address, size_t bytes) noexcept {
  if (!may_follow()) [[likely]]
    return real.munmap(address, bytes);
  return follow_unmap(address, bytes, MPROF_CALL_SITE());
}

// libc declares the fifth argument as "...": it arrives in the same register, or that register
// holds anything and nobody reads it. Under a name of its own, since declarations may not differ.
MPROF_EXPORT void* mremap_hook(void* old, size_t old_bytes, size_t bytes, int flags,
                               void* address) noexcept __asm__("mremap");
void* mremap_hook(void* old, size_t old_bytes, size_t bytes, int flags, void* address) noexcept {
  if (!may_follow()) [[likely]]
    return real.mremap(old, old_bytes, bytes, flags, address);
  return follow_remap({old, old_bytes, bytes, flags, address}, MPROF_CALL_SITE());
}

MPROF_EXPORT int brk(void* address) noexcept {
  if (!may_follow()) [[likely]]
    return real.brk(address);
  return follow_brk(address, MPROF_CALL_SITE());
}

MPROF_EXPORT void* sbrk(intptr_t increment) noexcept {
  if (!may_follow()) [[likely]]
    return real.sbrk(increment);
  return follow_sbrk(increment, MPROF_CALL_SITE());
}

}  // extern "C"

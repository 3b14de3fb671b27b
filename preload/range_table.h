// SPDX-License-Identifier: Apache-2.0
// The anonymous mappings that are followed: which address ranges they still cover.
//
// A mapping begins as one range. Unmapping a part of it cuts ranges in two; the mapping ends with
// the last byte of its last range. Only the target needs this, to know what an munmap takes away,
// so it lies in its own memory and not in the dump: buckets and events carry the totals.
//
// Layout    A treap of ranges ordered by address. Its nodes come from a fixed pool; a node's
//           priority is a hash of its number, so trees are cut and joined without rotations,
//           recursion or allocation. What is taken out is a tree of the same kind, owned by the
//           taker until it is released or put back.
// Threads   any, one at a time under a spin lock that is held for O(log n) steps. Signals: a
//           handler that interrupted its thread inside mprof never gets here.
// Allocates from the kernel once, in init(): 3.5 MiB, touched as far as used.
// Blocks    waits for another thread's change, asleep after a while, at most some 10 ms.
// Fails     kContended; kFull when kMaxRanges ranges are there (the kernel's own default limit of
//           mappings, vm.max_map_count, is 65530). Both are counted by the caller; what is not
//           taken out then stays until something else is mapped at its place.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace mprof::preload {

struct Range {
  uintptr_t begin;
  uintptr_t end;  // exclusive
};

class RangeTable {
 public:
  static constexpr uint32_t kMaxRanges = 65536;

  enum class Outcome { kDone, kContended, kFull };

  struct Taken {  // zeroed is nothing
    uint32_t tree;
    uint32_t generation;
    [[nodiscard]] bool empty() const { return tree == 0; }
  };
  struct Piece {
    uint64_t bytes;
    uint64_t ticks;  // when its mapping was made
    uint32_t bucket;
    bool is_last;  // of its mapping
  };

  // Empties the table, and gets its memory the first time. False if the kernel has none.
  bool init();
  // A forked child follows nothing of its parent's. Trees taken out before are void.
  void forget();
  [[nodiscard]] size_t bytes() const { return pool_ == nullptr ? 0 : sizeof(Pool); }

  // A new mapping; nothing may be there.
  Outcome add(Range range, uint32_t bucket, uint64_t ticks);
  // Takes out whatever lies in the range, cutting at its ends.
  Outcome take(Range range, Taken* out);
  // Because it was not unmapped after all.
  Outcome put_back(const Taken& taken);
  // Ends one piece of what was taken; kDone without a piece when nothing is left.
  Outcome release(Taken& taken, Piece* piece, bool* there_is_one);
  [[nodiscard]] bool covers(uintptr_t address);

 private:
  struct Node {
    Range range;
    uint32_t mapping;
    uint32_t left;  // in the free list: the next
    uint32_t right;
  };
  struct Mapping {
    uint64_t bytes;  // in all its ranges, those taken out as well
    uint64_t ticks;
    uint32_t bucket;
    uint32_t next_free;
  };
  struct Pool {  // number 0 is nobody
    Node nodes[kMaxRanges + 1];
    Mapping mappings[kMaxRanges + 1];
  };
  class Lock;

  Node& node(uint32_t number) { return pool_->nodes[number]; }
  uint32_t new_node(Range range, uint32_t mapping);
  void free_node(uint32_t number);
  uint32_t new_mapping(uint64_t bytes, uint32_t bucket, uint64_t ticks);
  void free_mapping(uint32_t number);

  void split(uint32_t tree, uintptr_t address, uint32_t* below, uint32_t* rest);
  uint32_t join(uint32_t below, uint32_t above);
  uint32_t pop_root(uint32_t* tree);
  void insert(uint32_t number);
  uint32_t last_below(uintptr_t address);
  bool cut_at(uintptr_t address);

  Pool* pool_ = nullptr;
  uint32_t root_ = 0;
  uint32_t generation_ = 0;
  uint32_t nodes_used_ = 0;
  uint32_t free_nodes_ = 0;
  uint32_t mappings_used_ = 0;
  uint32_t free_mappings_ = 0;
  std::atomic<bool> locked_{false};
};

extern RangeTable range_table;

}  // namespace mprof::preload

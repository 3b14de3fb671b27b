// SPDX-License-Identifier: Apache-2.0
// The stack table: call stacks as a tree, so that stacks share their outer frames.
//
// Layout    A stack is the number of its leaf's row; `parent` leads towards the root. A parent's
//           number is always lower than its child's, so every path ends. Row 0 is the root of
//           complete stacks; rows 1 and 2 are roots that say why the outer frames are missing.
// Insert    find_or_add() walks the chain of hash(parent, pc, module), then claims a row, fills
//           it and pushes it. Two threads that push the same frame at once: the one whose CAS
//           fails looks again; its row stays unused (`pc` 0).
// Ordering  (S) release CAS of the chain head <-> acquire load of it.
// Signals   Lock-free, safe.
// Trust     A reader checks parent < row and counts the steps.
#pragma once

#include "format/table.h"

namespace mprof::format {

// A frame below its caller. `pc` is a return address (look up pc - 1); for a frame that a signal
// interrupted, the exact address plus one, so that one rule serves both.
struct StackNode {
  uint64_t pc;
  uint32_t parent;
  uint32_t module;  // row of the module table, kNoRow if the pc lies in no known module
  uint32_t next;    // in the hash chain, towards older rows; kNoRow ends it
  std::atomic<uint32_t> first_bucket;  // row + 1 of the newest bucket of this stack
};
static_assert(sizeof(StackNode) == 24, "both sides agree");

inline constexpr uint32_t kStackComplete = 0;
inline constexpr uint32_t kStackTruncated = 1;   // deeper than MPROF_STACK_DEPTH
inline constexpr uint32_t kStackIncomplete = 2;  // the walk met a frame it could not pass
inline constexpr uint32_t kStackRoots = 3;
inline constexpr const char* kStackRootNames[kStackRoots] = {"", "[truncated]", "[incomplete]"};

// The target's own index over the rows: chain heads in anonymous memory, zero = empty.
class StackIndex {
 public:
  static constexpr uint32_t kHeads = 1u << 17;
  static constexpr uint64_t kIndexBytes = kHeads * sizeof(std::atomic<uint32_t>);

  void reset(Table<StackNode>* nodes, void* zeroed_heads) {
    nodes_ = nodes;
    heads_ = static_cast<std::atomic<uint32_t>*>(zeroed_heads);
  }

  // The row of the frame `pc` below `parent`, added if new. `is_loaded(module)` says whether a
  // row's module is still the one at its addresses; `module_of()` looks it up; `claim()` gives a
  // new row or kNoRow.
  template <class IsLoaded, class ModuleOf, class Claim>
  [[nodiscard]] uint32_t find_or_add(uint32_t parent, uint64_t pc, IsLoaded&& is_loaded,
                                     ModuleOf&& module_of, Claim&& claim) {
    std::atomic<uint32_t>& head = heads_[hash(parent, pc) & (kHeads - 1)];
    uint32_t newest = head.load(std::memory_order_acquire);  // (S)
    uint32_t row = find(newest, 0, parent, pc, is_loaded);
    if (row != kNoRow) return row;
    const uint32_t module = module_of();
    const auto is_same = [module](uint32_t other) { return other == module; };
    row = find(newest, 0, parent, pc, is_same);
    if (row != kNoRow) return row;
    row = claim();
    if (row == kNoRow) return kNoRow;
    for (;;) {
      fill(row, parent, pc, module, newest);
      const uint32_t looked_until = newest;
      if (head.compare_exchange_strong(newest, row + 1, std::memory_order_release,
                                       std::memory_order_acquire))  // (S)
        return row;
      const uint32_t twin = find(newest, looked_until, parent, pc, is_same);
      if (twin == kNoRow) continue;
      nodes_->at(row)->pc = 0;
      return twin;
    }
  }

 private:
  static uint64_t hash(uint32_t parent, uint64_t pc) {
    uint64_t h = (pc ^ (static_cast<uint64_t>(parent) << 40)) * 0x9e3779b97f4a7c15;
    h ^= parent * 0xc2b2ae3d27d4eb4f;
    return h ^ (h >> 29) ^ (h >> 47);
  }

  // Chain links are row + 1, so that zeroed memory is an empty chain.
  template <class Matches>
  uint32_t find(uint32_t link, uint32_t end_link, uint32_t parent, uint64_t pc,
                Matches&& module_matches) const {
    while (link != end_link) {
      const StackNode* node = nodes_->at(link - 1);
      if (node->pc == pc && node->parent == parent && module_matches(node->module)) return link - 1;
      link = node->next == kNoRow ? 0 : node->next + 1;
    }
    return kNoRow;
  }

  void fill(uint32_t row, uint32_t parent, uint64_t pc, uint32_t module, uint32_t newest) {
    StackNode* node = nodes_->at(row);
    node->pc = pc;
    node->parent = parent;
    node->module = module;
    node->next = newest == 0 ? kNoRow : newest - 1;
  }

  Table<StackNode>* nodes_ = nullptr;
  std::atomic<uint32_t>* heads_ = nullptr;
};

}  // namespace mprof::format

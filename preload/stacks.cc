// SPDX-License-Identifier: Apache-2.0
#include "preload/stacks.h"

#include "format/stack_table.h"
#include "preload/dump_file.h"
#include "preload/modules.h"
#include "preload/unwind.h"

namespace mprof::preload {
namespace {

using format::kNoRow;

constinit format::StackIndex index;

static_assert(static_cast<int>(UnwindMode::kDwarf) == static_cast<int>(format::UnwindMode::kDwarf));

uint32_t claim_node() { return claim_row(tables.stack_nodes, format::TableId::kStackNodes); }

uint32_t find_node(uint32_t parent, uintptr_t pc) {
  return index.find_or_add(
      parent, pc, is_loaded, [pc] { return module_of(pc - 1); }, claim_node);
}

uint32_t root_of(const Walk& walk) {
  switch (walk.end) {
    case WalkEnd::kComplete: return format::kStackComplete;
    case WalkEnd::kTruncated: return format::kStackTruncated;
    case WalkEnd::kNoUnwindInfo:
      return in_loader(walk.frames[walk.count - 1].pc) ? format::kStackComplete
                                                       : format::kStackIncomplete;
    default: return format::kStackIncomplete;
  }
}

void count_cut(format::ThreadRow* row, uint32_t root) {
  if (root == format::kStackComplete) return;
  std::atomic<uint64_t>& counter =
      root == format::kStackTruncated ? row->truncated_stacks : row->incomplete_stacks;
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// How many outermost nodes of the last walk are those of this one, too.
uint32_t nodes_still_valid(const ThreadBlock* block, const Walk& walk, uint32_t root) {
  if (block->walk_root != root) return 0;
  return walk.shared_with_previous < block->walk_nodes_known ? walk.shared_with_previous
                                                             : block->walk_nodes_known;
}

// Interns the walk from the outermost frame inwards; frames of this library are left out.
uint32_t intern(ThreadBlock* block, const Walk& walk) {
  const uint32_t root = root_of(walk);
  uint32_t known = nodes_still_valid(block, walk, root);
  block->walk_root = root;
  uint32_t node = known == 0 ? root : block->walk_nodes[known - 1];
  for (; known < walk.count; ++known) {
    const uintptr_t pc = walk.frames[walk.count - 1 - known].pc;
    if (!in_own_library(pc - 1)) node = find_node(node, pc);
    if (node == kNoRow) break;
    block->walk_nodes[known] = node;
  }
  block->walk_nodes_known = known;
  return node;
}

}  // namespace

bool stacks_init() {
  void* heads = map_anonymous(format::StackIndex::kIndexBytes);
  if (heads == nullptr) return false;
  index.reset(&tables.stack_nodes, heads);
  for (uint32_t i = 0; i < format::kStackRoots; ++i)
    if (claim_node() != i) return false;
  return true;
}

size_t stacks_index_bytes() { return format::StackIndex::kIndexBytes; }

uint32_t capture_stack(ThreadBlock* block, const Registers& start) {
  const uint32_t epoch = module_epoch();
  Walk* previous = &block->walks[block->current_walk];
  Walk* walk = &block->walks[block->current_walk ^ 1];
  if (block->walk_module_epoch != epoch) {
    previous->count = 0;
    previous->end = WalkEnd::kNone;
    block->walk_nodes_known = 0;
    block->walk_module_epoch = epoch;
  }
  const StackBounds bounds{self.stack_low, self.stack_high};
  const auto mode = static_cast<UnwindMode>(header->unwind);
  walk_stack(start, bounds, mode, header->stack_depth_frames, *previous, *walk);
  block->current_walk ^= 1;
  const uint32_t node = intern(block, *walk);
  count_cut(block->row, block->walk_root);
  return node;
}

}  // namespace mprof::preload

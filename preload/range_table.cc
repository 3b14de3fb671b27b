// SPDX-License-Identifier: Apache-2.0
#include "preload/range_table.h"

#include "preload/low.h"
#include "preload/spin.h"

namespace mprof::preload {

constinit RangeTable range_table;

// Acquire on taking pairs with release on giving: all of the table is handed over between them.
class RangeTable::Lock {
 public:
  explicit Lock(RangeTable& table)
      : table_(table), held_(table.pool_ != nullptr && spin_until([&] {
                               return !table.locked_.exchange(true, std::memory_order_acquire);
                             })) {}
  ~Lock() {
    if (held_) table_.locked_.store(false, std::memory_order_release);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  explicit operator bool() const { return held_; }

 private:
  RangeTable& table_;
  bool held_;
};

bool RangeTable::init() {
  if (pool_ == nullptr) pool_ = static_cast<Pool*>(map_anonymous(sizeof(Pool)));
  forget();
  return pool_ != nullptr;
}

void RangeTable::forget() {
  root_ = nodes_used_ = free_nodes_ = mappings_used_ = free_mappings_ = 0;
  ++generation_;
  locked_.store(false, std::memory_order_relaxed);  // its holder may not exist in this process
}

uint32_t RangeTable::new_node(Range range, uint32_t mapping) {
  uint32_t number = free_nodes_;
  if (number != 0)
    free_nodes_ = node(number).left;
  else if (nodes_used_ < kMaxRanges)
    number = ++nodes_used_;
  if (number != 0) node(number) = {range, mapping, 0, 0};
  return number;
}

void RangeTable::free_node(uint32_t number) {
  node(number).left = free_nodes_;
  free_nodes_ = number;
}

uint32_t RangeTable::new_mapping(uint64_t bytes, uint32_t bucket, uint64_t ticks) {
  uint32_t number = free_mappings_;
  if (number != 0)
    free_mappings_ = pool_->mappings[number].next_free;
  else if (mappings_used_ < kMaxRanges)
    number = ++mappings_used_;
  if (number != 0) pool_->mappings[number] = {bytes, ticks, bucket, 0};
  return number;
}

void RangeTable::free_mapping(uint32_t number) {
  pool_->mappings[number].next_free = free_mappings_;
  free_mappings_ = number;
}

// Ranges that begin below `address`, and the others.
void RangeTable::split(uint32_t tree, uintptr_t address, uint32_t* below, uint32_t* rest) {
  while (tree != 0) {
    Node& top = node(tree);
    if (top.range.begin < address) {
      *below = tree;
      below = &top.right;
      tree = top.right;
    } else {
      *rest = tree;
      rest = &top.left;
      tree = top.left;
    }
  }
  *below = *rest = 0;
}

// One tree of two, all of `below` before all of `above`.
uint32_t RangeTable::join(uint32_t below, uint32_t above) {
  uint32_t root = 0;
  uint32_t* link = &root;
  while (below != 0 && above != 0) {
    if (mix(below) > mix(above)) {
      *link = below;
      link = &node(below).right;
      below = *link;
    } else {
      *link = above;
      link = &node(above).left;
      above = *link;
    }
  }
  *link = below != 0 ? below : above;
  return root;
}

uint32_t RangeTable::pop_root(uint32_t* tree) {
  const uint32_t number = *tree;
  if (number == 0) return 0;
  *tree = join(node(number).left, node(number).right);
  node(number).left = node(number).right = 0;
  return number;
}

void RangeTable::insert(uint32_t number) {
  uint32_t below;
  uint32_t rest;
  split(root_, node(number).range.begin, &below, &rest);
  root_ = join(join(below, number), rest);
}

uint32_t RangeTable::last_below(uintptr_t address) {
  uint32_t best = 0;
  for (uint32_t at = root_; at != 0;) {
    const bool is_below = node(at).range.begin < address;
    if (is_below) best = at;
    at = is_below ? node(at).right : node(at).left;
  }
  return best;
}

// Makes two ranges of the one that `address` lies inside of. False when there is no node for it.
bool RangeTable::cut_at(uintptr_t address) {
  const uint32_t number = last_below(address);
  if (number == 0 || node(number).range.end <= address) return true;
  const uint32_t tail = new_node({address, node(number).range.end}, node(number).mapping);
  if (tail == 0) return false;
  node(number).range.end = address;
  insert(tail);
  return true;
}

RangeTable::Outcome RangeTable::add(Range range, uint32_t bucket, uint64_t ticks) {
  const Lock lock(*this);
  if (!lock) return Outcome::kContended;
  const uint32_t mapping = new_mapping(range.end - range.begin, bucket, ticks);
  if (mapping == 0) return Outcome::kFull;
  const uint32_t number = new_node(range, mapping);
  if (number == 0) return free_mapping(mapping), Outcome::kFull;
  insert(number);
  return Outcome::kDone;
}

RangeTable::Outcome RangeTable::take(Range range, Taken* out) {
  *out = {};
  const Lock lock(*this);
  if (!lock) return Outcome::kContended;
  if (!cut_at(range.begin) || !cut_at(range.end)) return Outcome::kFull;
  uint32_t below;
  uint32_t rest;
  uint32_t above;
  split(root_, range.begin, &below, &rest);
  split(rest, range.end, &out->tree, &above);
  out->generation = generation_;
  root_ = join(below, above);
  return Outcome::kDone;
}

// One by one: should another thread have mapped something there meanwhile, the order stays right.
RangeTable::Outcome RangeTable::put_back(const Taken& taken) {
  const Lock lock(*this);
  if (!lock) return Outcome::kContended;
  if (taken.generation != generation_) return Outcome::kDone;
  uint32_t tree = taken.tree;
  while (const uint32_t number = pop_root(&tree)) insert(number);
  return Outcome::kDone;
}

RangeTable::Outcome RangeTable::release(Taken& taken, Piece* piece, bool* there_is_one) {
  *there_is_one = false;
  const Lock lock(*this);
  if (!lock) return Outcome::kContended;
  if (taken.generation != generation_) return Outcome::kDone;
  const uint32_t number = pop_root(&taken.tree);
  if (number == 0) return Outcome::kDone;
  const Node& ended = node(number);
  Mapping& mapping = pool_->mappings[ended.mapping];
  const uint64_t bytes = ended.range.end - ended.range.begin;
  mapping.bytes -= bytes;
  *piece = {bytes, mapping.ticks, mapping.bucket, mapping.bytes == 0};
  *there_is_one = true;
  if (mapping.bytes == 0) free_mapping(ended.mapping);
  free_node(number);
  return Outcome::kDone;
}

bool RangeTable::covers(uintptr_t address) {
  const Lock lock(*this);
  if (!lock) return false;
  const uint32_t number = last_below(address + 1);
  return number != 0 && address < node(number).range.end;
}

}  // namespace mprof::preload

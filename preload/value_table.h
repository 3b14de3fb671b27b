// SPDX-License-Identifier: Apache-2.0
// The values that are in the program's own profiles now, and which row each was counted in.
//
// Only the target needs this, to know what a removal takes away, so it lies in its own memory and
// not in the dump.
//
// Layout    A chain for each hash value; the head's top bit is the chain's lock. Nodes lie in
//           chunks that double, taken from the kernel as they are needed and never given back;
//           free ones in one list.
// Threads   any. Signals: a handler that interrupted its thread inside mprof never gets here.
// Allocates from the kernel: the heads at the first profile, then chunks.
// Blocks    waits for a chain that another thread holds for a few instructions; gives up when that
//           thread does not run for long.
// Ordering  (H) head: acquire CAS that sets the lock bit <-> release store that clears it.
//           (G) free list: release CAS on push <-> acquire CAS on pop; the upper half of the word
//           is a tag that grows, against ABA. (N) a chunk's pointer: release CAS <-> acquire load.
// Fails     kFull with kMostValues values, or without memory; kContended.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace mprof::preload {

class ValueTable {
 public:
  static constexpr uint32_t kMostValues = 1u << 20;

  enum class Outcome { kDone, kThere, kNotThere, kFull, kContended };

  // Gets the heads, the first time. False if the kernel has no memory.
  bool init();
  // A forked child has none of its parent's values.
  void forget();

  Outcome add(uint32_t profile, const void* value, uint32_t row);
  Outcome remove(uint32_t profile, const void* value, uint32_t* row);

 private:
  struct Node {
    uintptr_t value;
    uint32_t profile;
    uint32_t row;
    std::atomic<uint32_t> next;  // in a chain or the free list: number + 1, 0 ends
  };
  static constexpr uint32_t kHeads = 1u << 17;
  static constexpr uint32_t kLocked = 0x80000000;
  static constexpr uint32_t kFirstNodes = 4096;
  static constexpr uint32_t kChunks = 9;
  static_assert(kFirstNodes << (kChunks - 1) == kMostValues);

  class Chain;
  [[nodiscard]] Node& node(uint32_t number) const;
  // Where the link to a value's node is in a locked chain; that of the chain's end if it is in
  // none.
  std::atomic<uint32_t>* find(std::atomic<uint32_t>* link, uint32_t profile, uintptr_t value) const;
  bool take_node(uint32_t* number);
  bool pop_node(uint32_t* number);
  void give_node(uint32_t number);
  bool make_chunk(uint32_t chunk);

  std::atomic<uint32_t>* heads_ = nullptr;
  std::atomic<Node*> chunks_[kChunks]{};
  std::atomic<uint32_t> nodes_used_{0};
  std::atomic<uint64_t> free_{0};  // tag << 32 | number + 1
};

extern ValueTable value_table;

}  // namespace mprof::preload

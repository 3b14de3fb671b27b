// SPDX-License-Identifier: Apache-2.0
#include "preload/value_table.h"

#include "preload/dump_file.h"
#include "preload/low.h"
#include "preload/single_thread.h"
#include "preload/spin.h"
#include "preload/sys.h"

namespace mprof::preload {

constinit ValueTable value_table;

// A chain, locked for as long as this lives; or not, if another thread holds it for too long.
class ValueTable::Chain {
 public:
  Chain(ValueTable& table, uint32_t profile, const void* value)
      : head_(table.heads_[mix(reinterpret_cast<uintptr_t>(value) + profile * 0x9e3779b97f4a7c15) %
                           kHeads]) {
    locked_ = spin_until([&] {  // (H)
      const uint32_t seen = head_.load(std::memory_order_relaxed) & ~kLocked;
      first_.store(seen, std::memory_order_relaxed);
      return take_if(head_, seen, seen | kLocked);
    });
  }
  ~Chain() {
    if (locked_) head_.store(first_.load(std::memory_order_relaxed), std::memory_order_release);
  }
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;

  [[nodiscard]] bool locked() const { return locked_; }
  [[nodiscard]] std::atomic<uint32_t>* first() { return &first_; }

 private:
  std::atomic<uint32_t>& head_;
  std::atomic<uint32_t> first_{0};
  bool locked_;
};

namespace {

void* map_counted(size_t bytes) {
  void* memory = map_anonymous(bytes);
  if (memory != nullptr && header != nullptr)
    std::atomic_ref(header->anonymous_bytes).fetch_add(bytes, std::memory_order_relaxed);
  return memory;
}

}  // namespace

bool ValueTable::init() {
  if (heads_ == nullptr)
    heads_ = static_cast<std::atomic<uint32_t>*>(map_counted(kHeads * sizeof *heads_));
  return heads_ != nullptr;
}

void ValueTable::forget() {
  if (heads_ != nullptr) sys::munmap(heads_, kHeads * sizeof *heads_);
  heads_ = nullptr;
  for (uint32_t i = 0; i < kChunks; ++i) {
    Node* nodes = chunks_[i].exchange(nullptr, std::memory_order_relaxed);
    if (nodes != nullptr) sys::munmap(nodes, format::chunk_rows(kFirstNodes, i) * sizeof(Node));
  }
  nodes_used_.store(0, std::memory_order_relaxed);
  free_.store(0, std::memory_order_relaxed);
}

ValueTable::Outcome ValueTable::add(uint32_t profile, const void* value, uint32_t row) {
  const auto number_value = reinterpret_cast<uintptr_t>(value);
  Chain chain(*this, profile, value);
  if (!chain.locked()) return Outcome::kContended;
  if (find(chain.first(), profile, number_value)->load(std::memory_order_relaxed) != 0)
    return Outcome::kThere;
  uint32_t number;
  if (!take_node(&number)) return Outcome::kFull;
  Node& added = node(number);
  added.value = number_value;
  added.profile = profile;
  added.row = row;
  added.next.store(chain.first()->load(std::memory_order_relaxed), std::memory_order_relaxed);
  chain.first()->store(number + 1, std::memory_order_relaxed);
  return Outcome::kDone;
}

ValueTable::Outcome ValueTable::remove(uint32_t profile, const void* value, uint32_t* row) {
  Chain chain(*this, profile, value);
  if (!chain.locked()) return Outcome::kContended;
  std::atomic<uint32_t>* link = find(chain.first(), profile, reinterpret_cast<uintptr_t>(value));
  const uint32_t found = link->load(std::memory_order_relaxed);
  if (found == 0) return Outcome::kNotThere;
  *row = node(found - 1).row;
  link->store(node(found - 1).next.load(std::memory_order_relaxed), std::memory_order_relaxed);
  give_node(found - 1);
  return Outcome::kDone;
}

std::atomic<uint32_t>* ValueTable::find(std::atomic<uint32_t>* link, uint32_t profile,
                                        uintptr_t value) const {
  for (;;) {
    const uint32_t number = link->load(std::memory_order_relaxed);
    if (number == 0) return link;
    Node& here = node(number - 1);
    if (here.value == value && here.profile == profile) return link;
    link = &here.next;
  }
}

ValueTable::Node& ValueTable::node(uint32_t number) const {
  const format::RowPlace place = format::place_of_row(kFirstNodes, number);
  return chunks_[place.chunk].load(std::memory_order_acquire)[place.row_in_chunk];  // (N)
}

bool ValueTable::take_node(uint32_t* number) {
  if (pop_node(number)) return true;
  uint32_t used = nodes_used_.load(std::memory_order_relaxed);
  do {
    if (used == kMostValues || !make_chunk(format::place_of_row(kFirstNodes, used).chunk))
      return false;
  } while (!nodes_used_.compare_exchange_weak(used, used + 1, std::memory_order_relaxed));
  *number = used;
  return true;
}

bool ValueTable::pop_node(uint32_t* number) {
  uint64_t top = free_.load(std::memory_order_acquire);  // (G)
  uint64_t changed;
  do {
    *number = static_cast<uint32_t>(top) - 1;
    if (static_cast<uint32_t>(top) == 0) return false;
    // Another thread may have taken it meanwhile; then the tag has changed.
    changed = ((top >> 32) + 1) << 32 | node(*number).next.load(std::memory_order_relaxed);
  } while (!free_.compare_exchange_weak(top, changed, std::memory_order_acquire,
                                        std::memory_order_acquire));
  return true;
}

void ValueTable::give_node(uint32_t number) {
  uint64_t top = free_.load(std::memory_order_relaxed);
  uint64_t changed;
  do {
    node(number).next.store(static_cast<uint32_t>(top), std::memory_order_relaxed);
    changed = ((top >> 32) + 1) << 32 | (number + 1);
  } while (!free_.compare_exchange_weak(top, changed, std::memory_order_release,
                                        std::memory_order_relaxed));  // (G)
}

bool ValueTable::make_chunk(uint32_t chunk) {
  if (chunks_[chunk].load(std::memory_order_acquire) != nullptr) return true;  // (N)
  const size_t bytes = format::chunk_rows(kFirstNodes, chunk) * sizeof(Node);
  auto* nodes = static_cast<Node*>(map_counted(bytes));
  Node* none = nullptr;
  if (nodes == nullptr) return false;
  if (!chunks_[chunk].compare_exchange_strong(none, nodes, std::memory_order_release,
                                              std::memory_order_relaxed)) {  // (N)
    std::atomic_ref(header->anonymous_bytes).fetch_sub(bytes, std::memory_order_relaxed);
    sys::munmap(nodes, bytes);
  }
  return true;
}

}  // namespace mprof::preload

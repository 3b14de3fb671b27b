// SPDX-License-Identifier: Apache-2.0
#include "preload/counts.h"

#include "format/record.h"
#include "preload/dump_file.h"
#include "preload/single_thread.h"
#include "preload/spin.h"

namespace mprof::preload {
namespace {

using format::CountRow;
using format::kNoRow;

struct Key {
  uint32_t kind;
  uint32_t stack;
  uint32_t labels;
  uint32_t shard;
};

// Heads of the hash chains, in anonymous memory; a link is row + 1.
constexpr uint32_t kHeads = 1u << 13;
std::atomic<uint32_t>* heads;

// Threads that release one lock after the other would hand the row's cache line around.
constexpr uint32_t kShards = 4;

std::atomic<uint32_t>& head_of(const Key& key) {
  const uint64_t words = (uint64_t{key.stack} << 32 | key.labels) + key.kind * 0x9e3779b1u;
  return heads[(mix(words) + key.shard) & (kHeads - 1)];
}

uint32_t find_in_chain(uint32_t link, const Key& key) {
  while (link != 0) {
    const CountRow* row = tables.counts.at(link - 1);
    if (row->kind.load(std::memory_order_relaxed) == key.kind && row->stack == key.stack &&
        row->labels == key.labels && row->shard == key.shard)
      return link - 1;
    link = row->next;
  }
  return kNoRow;
}

void journal(ThreadBlock* thread, uint32_t row, const format::CountSample& sample, uint64_t now) {
  const bool weighted = sample.weight != format::kWeightOne;
  const auto words = static_cast<uint8_t>(weighted ? 4 : 3);
  const uint64_t record[4] = {
      format::pack_record_word(
          {format::RecordKind::kCounted, words, weighted ? format::kWeighted : uint16_t{0}, row}),
      now, sample.value, sample.weight};
  write_event(thread, record, words);
}

}  // namespace

bool counts_init() {
  heads = static_cast<std::atomic<uint32_t>*>(map_anonymous(counts_index_bytes()));
  return heads != nullptr;
}

size_t counts_index_bytes() { return kHeads * sizeof(uint32_t); }

uint32_t find_count(format::CountKind kind, uint32_t stack, uint32_t labels, uint32_t thread) {
  const Key key{static_cast<uint32_t>(kind), stack, labels, thread % kShards};
  std::atomic<uint32_t>& head = head_of(key);
  uint32_t newest = head.load(std::memory_order_acquire);
  const uint32_t found = find_in_chain(newest, key);
  if (found != kNoRow) return found;
  const uint32_t number = claim_row(tables.counts, format::TableId::kCounts);
  if (number == kNoRow) return kNoRow;
  CountRow* row = tables.counts.at(number);
  row->stack = stack;
  row->labels = labels;
  row->shard = key.shard;
  do {
    // A twin that another thread made meanwhile only splits the sums.
    row->next = newest;
    row->kind.store(key.kind, std::memory_order_release);
  } while (!head.compare_exchange_weak(newest, number + 1, std::memory_order_release,
                                       std::memory_order_acquire));
  return number;
}

bool add_count_only(uint32_t number, const format::CountSample& sample) {
  CountRow* row = tables.counts.at(number);
  if (!spin_until([&] { return take_if(row->lock, 0u, 1u); })) {  // (K)
    count_lost(format::Lost::kNotCounted);
    return false;
  }
  const uint32_t version = row->version.load(std::memory_order_relaxed);
  format::CountTotals& next = row->totals[(version + 1) & 1];
  next = row->totals[version & 1];
  add_to(next, sample);
  row->version.store(version + 1, std::memory_order_release);  // (V)
  row->lock.store(0, std::memory_order_release);
  return true;
}

void add_count(ThreadBlock* thread, uint32_t row, const format::CountSample& sample, uint64_t now) {
  if (add_count_only(row, sample)) journal(thread, row, sample, now);
}

}  // namespace mprof::preload

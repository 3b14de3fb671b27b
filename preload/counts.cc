// SPDX-License-Identifier: Apache-2.0
#include "preload/counts.h"

#include "format/record.h"
#include "preload/dump_file.h"
#include "preload/keyed_rows.h"
#include "preload/single_thread.h"
#include "preload/spin.h"

namespace mprof::preload {
namespace {

using format::CountRow;

// Heads of the hash chains, in anonymous memory; a link is row + 1.
constexpr uint32_t kHeads = 1u << 13;
std::atomic<uint32_t>* heads;

std::atomic<uint32_t>& head_of(const RowKey& key) {
  const uint64_t words = (uint64_t{key.stack} << 32 | key.labels) + key.kind * 0x9e3779b1u;
  return heads[(mix(words) + key.shard) & (kHeads - 1)];
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

template <class Change>
bool change(uint32_t number, Change&& apply) {
  CountRow* row = tables.counts.at(number);
  if (!spin_until([&] { return take_if(row->lock, 0u, 1u); })) {  // (K)
    count_lost(format::Lost::kNotCounted);
    return false;
  }
  const uint32_t version = row->version.load(std::memory_order_relaxed);
  format::CountTotals& next = row->totals[(version + 1) & 1];
  next = row->totals[version & 1];
  apply(next);
  row->version.store(version + 1, std::memory_order_release);  // (V)
  row->lock.store(0, std::memory_order_release);
  return true;
}

}  // namespace

bool counts_init() {
  heads = static_cast<std::atomic<uint32_t>*>(map_anonymous(counts_index_bytes()));
  return heads != nullptr;
}

size_t counts_index_bytes() { return kHeads * sizeof(uint32_t); }

uint32_t find_count(format::CountKind kind, uint32_t stack, uint32_t labels, uint32_t thread) {
  const RowKey key{static_cast<uint32_t>(kind), stack, labels, shard_of(thread)};
  return find_or_make_row(tables.counts, format::TableId::kCounts, head_of(key), key);
}

bool add_count_only(uint32_t number, const format::CountSample& sample) {
  return change(number, [&](format::CountTotals& totals) { add_to(totals, sample); });
}

bool add_removal(uint32_t number) {
  return change(number, [](format::CountTotals& totals) { totals.value += 1; });
}

bool add_count(ThreadBlock* thread, uint32_t row, const format::CountSample& sample, uint64_t now) {
  if (!add_count_only(row, sample)) return false;
  journal(thread, row, sample, now);
  return true;
}

}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
#include "preload/texts.h"

#include <string.h>

#include "preload/dump_file.h"
#include "preload/low.h"

namespace mprof::preload {
namespace {

using format::kNoRow;

// Slots enough that runs stay short when all texts are there.
constexpr uint32_t kSlots = 1u << 17;
static_assert(kMostTexts < kSlots / 3 * 2);
std::atomic<uint64_t>* slots;
std::atomic<uint32_t> texts;
std::atomic<uint64_t> text_bytes;

uint64_t hash_of(const char* text, uint32_t bytes) {
  uint64_t hash = bytes;
  for (; bytes >= sizeof hash; text += sizeof hash, bytes -= sizeof hash) {
    uint64_t word;
    memcpy(&word, text, sizeof word);
    hash = mix(hash ^ word);
  }
  uint64_t rest = 0;
  memcpy(&rest, text, bytes);
  return mix(hash ^ rest ^ 0x9e3779b97f4a7c15);
}

// A slot's word: row (32 bits), length (9), upper bits of the hash (23). Never 0.
constexpr int kLengthShift = 32;
constexpr int kHashShift = 41;
static_assert(kLongestText < 1u << (kHashShift - kLengthShift));
uint64_t word_of(uint64_t hash, uint32_t bytes, uint32_t row) {
  return hash >> kHashShift << kHashShift | uint64_t{bytes} << kLengthShift | row;
}
uint32_t row_of(uint64_t word) { return static_cast<uint32_t>(word); }

bool is_text(uint64_t word, uint64_t hash, const char* text, uint32_t bytes) {
  return word == word_of(hash, bytes, row_of(word)) &&
         memcmp(tables.strings.at(row_of(word)), text, bytes) == 0;
}

uint32_t add(const char* text, uint32_t bytes) {
  char terminated[kLongestText + 1];
  memcpy(terminated, text, bytes);
  terminated[bytes] = '\0';
  if (texts.fetch_add(1, std::memory_order_relaxed) >= kMostTexts) {
    texts.fetch_sub(1, std::memory_order_relaxed);
    return kNoRow;
  }
  if (text_bytes.fetch_add(bytes + 1, std::memory_order_relaxed) + bytes >= kMostTextBytes) {
    text_bytes.fetch_sub(bytes + 1, std::memory_order_relaxed);
    texts.fetch_sub(1, std::memory_order_relaxed);
    return kNoRow;
  }
  return add_string(terminated, bytes + 1);
}

}  // namespace

bool texts_init() {
  slots = static_cast<std::atomic<uint64_t>*>(map_anonymous(texts_index_bytes()));
  texts.store(0, std::memory_order_relaxed);
  text_bytes.store(0, std::memory_order_relaxed);
  return slots != nullptr;
}

size_t texts_index_bytes() { return kSlots * sizeof(uint64_t); }

uint32_t find_or_add_text(const char* text, uint32_t bytes, bool may_add) {
  const uint64_t hash = hash_of(text, bytes);
  uint32_t added = kNoRow;
  for (uint64_t at = hash % kSlots;; at = (at + 1) % kSlots) {
    uint64_t word = slots[at].load(std::memory_order_acquire);  // (X)
    if (word == 0) {
      if (added == kNoRow && may_add) added = add(text, bytes);
      if (added == kNoRow || slots[at].compare_exchange_strong(word, word_of(hash, bytes, added),
                                                               std::memory_order_release,
                                                               std::memory_order_acquire))  // (X)
        return added;
    }
    if (is_text(word, hash, text, bytes)) return row_of(word);
  }
}

}  // namespace mprof::preload

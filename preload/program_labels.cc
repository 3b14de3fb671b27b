// SPDX-License-Identifier: Apache-2.0
#include "preload/program_labels.h"

#include <string.h>

#include "preload/dump_file.h"
#include "preload/low.h"
#include "preload/texts.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::LabelRow;
using format::LabelType;
using format::Lost;

// An index of its own: rows of mprof's own labels are no longer to walk past.
constinit format::LabelIndex index;
std::atomic<uint32_t> rows_used;
std::atomic<uint32_t> trace_names;

struct Text {
  uint32_t row;  // kNoRow: there was no room for it
  uint32_t bytes;
};
Text other;
constexpr char kOther[] = "[other]";

struct TextLabel {
  Text key;
  Text value;
};

// The length of `text` when it is cut to `most` bytes, of which the last three are dots. No
// character of UTF-8 is cut in two.
uint32_t cut(const char* text, uint32_t most, char* out) {
  uint32_t bytes = most - 3;
  while (bytes > 0 && (text[bytes] & 0xc0) == 0x80) --bytes;
  memcpy(out, text, bytes);
  memcpy(out + bytes, "...", 3);
  return bytes + 3;
}

Text intern(const char* text, uint32_t most, bool may_add = true) {
  char shortened[kLongestText];
  auto bytes = static_cast<uint32_t>(strnlen(text, most + 1));
  if (bytes > most) {
    bytes = cut(text, most, shortened);
    text = shortened;
  }
  return {find_or_add_text(text, bytes, may_add), bytes};
}

const LabelRow& row_at(uint32_t row) { return *tables.labels.at(row); }

// `key_bytes` of a row that another thread is adding may still be 0: the text has its own end.
const char* key_of(const LabelRow& row) { return tables.strings.at(row.key); }

TextLabel label_at(uint32_t number) {
  const LabelRow& row = row_at(number);
  return {{row.key, static_cast<uint32_t>(strlen(key_of(row)))},
          {static_cast<uint32_t>(row.value), row.extra}};
}

bool has_other(uint32_t set) {
  for (; set != kNoRow; set = row_at(set).parent)
    if (row_at(set).value == other.row) return true;
  return false;
}

// How many rows may be in use for one more that has this parent.
uint32_t limit_on(uint32_t parent) {
  return has_other(parent) ? kMostLabelRows + kReservedLabelRows : kMostLabelRows;
}

bool has_room_on(uint32_t parent) {
  const uint32_t used = rows_used.load(std::memory_order_relaxed);
  return used < kMostLabelRows || used < limit_on(parent);
}

uint32_t claim_row_below(uint32_t most) {
  if (rows_used.fetch_add(1, std::memory_order_relaxed) < most) {
    const uint32_t row = claim_row(tables.labels, format::TableId::kLabels);
    if (row != kNoRow) return row;
  }
  rows_used.fetch_sub(1, std::memory_order_relaxed);
  return kNoRow;
}

uint32_t find_or_add(uint32_t parent, const Text& key, const Text& value) {
  return index.find_or_add(
      {parent, key.row, key.bytes, LabelType::kText, value.bytes, value.row}, [&] {
        return claim_row_below(value.row == other.row ? kMostLabelRows + kReservedLabelRows
                                                      : limit_on(parent));
      });
}

// `parent` with one more label, whose key comes after all of its own; kNoRow: it is left out.
uint32_t append(uint32_t parent, const TextLabel& label) {
  uint32_t row = kNoRow;
  if (label.value.row != kNoRow) row = find_or_add(parent, label.key, label.value);
  if (row != kNoRow) return row;
  count_lost(Lost::kLabelsFull);
  return find_or_add(parent, label.key, other);
}

// The labels of a set whose keys come after a given one, taken off it and put on another.
class Rest {
 public:
  // `set` without them.
  uint32_t take_from(uint32_t set, uint32_t key) {
    for (; set != kNoRow && row_at(set).key > key; set = row_at(set).parent) rows_[count_++] = set;
    return set;
  }
  uint32_t put_on(uint32_t set) const {
    for (uint32_t i = count_; i > 0; --i) {
      const uint32_t row = append(set, label_at(rows_[i - 1]));
      if (row != kNoRow) set = row;
    }
    return set;
  }

 private:
  uint32_t rows_[kMostLabels];  // the last key first
  uint32_t count_ = 0;
};

uint32_t size_of(uint32_t set) {
  uint32_t size = 0;
  for (; set != kNoRow; set = row_at(set).parent) ++size;
  return size;
}

bool has_key(uint32_t set, uint32_t key) { return set != kNoRow && row_at(set).key == key; }

bool decline() {
  count_lost(Lost::kLabelsFull);
  return false;
}

// Threads that bring the same new name at once take a place each.
bool takes_place_of_name() {
  return trace_names.load(std::memory_order_relaxed) < kMostTraceNames &&
         trace_names.fetch_add(1, std::memory_order_relaxed) < kMostTraceNames;
}

// The row of the set in which a key is; kNoRow if in none.
uint32_t find_key(uint32_t set, const char* key) {
  while (set != kNoRow && strcmp(key_of(row_at(set)), key) != 0) set = row_at(set).parent;
  return set;
}

}  // namespace

bool program_labels_init() {
  void* heads = map_anonymous(format::LabelIndex::kIndexBytes);
  if (heads == nullptr || !texts_init()) return false;
  index.reset(&tables.labels, heads);
  rows_used.store(0, std::memory_order_relaxed);
  trace_names.store(0, std::memory_order_relaxed);
  other = intern(kOther, sizeof kOther);
  return other.row != kNoRow;
}

size_t program_labels_bytes() { return format::LabelIndex::kIndexBytes + texts_index_bytes(); }

bool add_label(uint32_t* set, const char* key, const char* value) {
  const Text key_text = intern(key, kLongestLabelKey);
  if (key_text.row == kNoRow) return decline();
  Rest rest;
  uint32_t below = rest.take_from(*set, key_text.row);
  if (has_key(below, key_text.row))
    below = row_at(below).parent;
  else if (size_of(*set) >= kMostLabels)
    return decline();
  // A text that no row could have must not take the place of one that could.
  const Text value_text = intern(value, kLongestLabelValue, has_room_on(below));
  const uint32_t with_it = append(below, {key_text, value_text});
  if (with_it == kNoRow) return false;
  *set = rest.put_on(with_it);
  return true;
}

uint32_t without_label(uint32_t set, const char* key) {
  char shortened[kLongestLabelKey + 1] = {};
  if (strnlen(key, kLongestLabelKey + 1) > kLongestLabelKey) {
    cut(key, kLongestLabelKey, shortened);
    key = shortened;
  }
  const uint32_t row = find_key(set, key);
  if (row == kNoRow) return set;
  Rest rest;
  rest.take_from(set, row_at(row).key);
  return rest.put_on(row_at(row).parent);
}

uint32_t trace_name(const char* name) {
  Text text = intern(name, kLongestLabelValue, false);
  if (text.row == kNoRow && takes_place_of_name()) text = intern(name, kLongestLabelValue);
  if (text.row != kNoRow) return text.row;
  count_lost(Lost::kLabelsFull);
  return other.row;
}

}  // namespace mprof::preload

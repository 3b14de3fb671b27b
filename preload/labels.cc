// SPDX-License-Identifier: Apache-2.0
#include "preload/labels.h"

#include <string.h>

#include "preload/dump_file.h"
#include "preload/low.h"
#include "preload/modules.h"
#include "preload/thread_state.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::LabelKey;
using format::LabelType;

constinit format::LabelIndex index;

// A text of the string table that is there from the start.
struct Text {
  uint32_t row;
  uint32_t bytes;
};
constexpr auto kNames = static_cast<size_t>(LabelName::kCount);
constexpr auto kWaits = static_cast<size_t>(format::WaitKind::kCount);
Text names[kNames];
Text waits[kWaits];

// A program that makes locks on and on must not fill the disk with their addresses.
constexpr uint64_t kMaxLabels = 1u << 20;

// Nor may the program's own labels, which multiply with mprof's, keep locks from being named.
constexpr uint64_t kMostBelowProgramLabels = 1u << 18;

uint32_t claim_label() {
  if (tables.labels.used() >= kMaxLabels) return kNoRow;
  return claim_row(tables.labels, format::TableId::kLabels);
}

bool add_text(const char* text, Text* out) {
  *out = {0, static_cast<uint32_t>(strlen(text))};
  out->row = add_string(text, out->bytes);
  return out->row != kNoRow;
}

uint32_t add(uint32_t set, LabelName name, LabelType type, uint32_t extra, uint64_t value) {
  const Text& key = names[static_cast<size_t>(name)];
  const uint32_t row =
      index.find_or_add({set, key.row, key.bytes, type, extra, value}, claim_label);
  if (row != kNoRow) return row;
  count_lost(format::Lost::kNotCounted);
  return set;
}

}  // namespace

bool labels_init() {
  void* heads = map_anonymous(labels_index_bytes());
  if (heads == nullptr) return false;
  index.reset(&tables.labels, heads);
  constexpr const char* kTexts[kNames] = {format::kLabelWait, format::kLabelLock,
                                          format::kLabelLockSite, format::kLabelVictim,
                                          format::kLabelStart};
  for (size_t i = 0; i < kNames; ++i)
    if (!add_text(kTexts[i], &names[i])) return false;
  for (size_t i = 0; i < kWaits; ++i)
    if (!add_text(format::kWaitNames[i], &waits[i])) return false;
  return true;
}

size_t labels_index_bytes() { return format::LabelIndex::kIndexBytes; }

uint32_t base_labels() {
  const uint32_t set = current_labels();
  if (set == kNoRow || tables.labels.used() < kMostBelowProgramLabels) return set;
  count_lost(format::Lost::kLabelsFull);
  return kNoRow;
}

uint32_t with_wait(uint32_t set, format::WaitKind kind) {
  const Text& text = waits[static_cast<size_t>(kind)];
  return add(set, LabelName::kWait, LabelType::kText, text.bytes, text.row);
}

uint32_t with_address(uint32_t set, LabelName name, const void* address, bool* in_module) {
  const auto value = reinterpret_cast<uintptr_t>(address);
  const uint32_t module = module_of(value);
  if (in_module != nullptr) *in_module = module != kNoRow;
  return add(set, name, LabelType::kAddress, module, value);
}

uint32_t with_stack(uint32_t set, LabelName name, uint32_t stack) {
  return stack == kNoRow ? set : add(set, name, LabelType::kStack, 0, stack);
}

}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
#include "preload/rule_cache.h"

#include <cstddef>

#include "preload/low.h"

namespace mprof::preload {

RuleCache rule_cache;

namespace {

constexpr size_t kEntries = size_t{kRuleSets} * kRuleWays;
constexpr size_t kMappedBytes = (kEntries + kWideRules) * sizeof(uint64_t);
constexpr uint32_t kMaxProbes = 32;

std::atomic<uint64_t>* entries() { return rule_cache.entries.load(std::memory_order_acquire); }
std::atomic<uint64_t>* wide_rules() { return entries() + kEntries; }

uint32_t hash_of(uint64_t packed) {
  return static_cast<uint32_t>(packed * 0x9e3779b97f4a7c15u >> 52);
}

// True when `slot` holds `packed` afterwards, put there by this thread or another.
bool claim(std::atomic<uint64_t>& slot, uint64_t packed) {
  uint64_t found = slot.load(std::memory_order_relaxed);
  if (found == 0 && slot.compare_exchange_strong(found, packed, std::memory_order_relaxed)) {
    return true;
  }
  return found == packed;
}

// 0: too many different rules, or offsets that do not fit. Slot 0 stays free for that reason.
RuleToken intern_wide_rule(const UnwindRule& rule) {
  const uint64_t packed = pack_rule(rule);
  if (packed == 0) return 0;
  for (uint32_t probe = 0; probe < kMaxProbes; ++probe) {
    const uint32_t index = (hash_of(packed) + probe) % kWideRules;
    if (index != 0 && claim(wide_rules()[index], packed)) return static_cast<RuleToken>(index);
  }
  return 0;
}

}  // namespace

bool rule_cache_init() {
  if (entries() != nullptr) return true;
  void* mapped = map_anonymous(kMappedBytes);
  if (mapped == nullptr) return false;
  // A fresh anonymous page is all zero bits, which is what free entries and rules are.
  rule_cache.entries.store(static_cast<std::atomic<uint64_t>*>(mapped),
                           std::memory_order_release);  // (B)
  return true;
}

void rule_cache_flush() {
  const uint32_t epoch = rule_cache.epoch.fetch_add(1, std::memory_order_relaxed) + 1;
  // Entries hold the epoch modulo 0xffff: before a value comes round again, its entries go.
  if (epoch % 0xffff != 0 || entries() == nullptr) return;
  for (size_t i = 0; i < kEntries; ++i) entries()[i].store(0, std::memory_order_relaxed);
}

void RuleLookup::insert(uintptr_t pc, const UnwindRule& rule) const {
  if (entries_ == nullptr || !is_cacheable(pc)) return;
  RuleToken token = inline_token(rule);
  if (token == 0) token = intern_wide_rule(rule);
  if (token == 0) return;
  std::atomic<uint64_t>* set = entries_ + size_t{rule_set_index(pc)} * kRuleWays;
  // Two threads in one set may lose one of the entries; it is then computed again.
  const uint64_t older = set[0].load(std::memory_order_acquire);  // (A): it is published again
  set[1].store(older, std::memory_order_release);                 // (A)
  set[0].store(key_of(pc) | token, std::memory_order_release);    // (A)
}

UnwindRule rule_cache_wide_rule(RuleToken token) {
  return unpack_rule(wide_rules()[token % kWideRules].load(std::memory_order_relaxed));
}

}  // namespace mprof::preload

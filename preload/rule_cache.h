// SPDX-License-Identifier: Apache-2.0
// Remembers the unwind rule of each pc, for all threads.
//
// Roles     Any thread, also in signal handlers, finds and inserts; nobody waits.
// Layout    One anonymous mapping: 2^15 sets of two entries, then the wide rules. An entry is one
//           word, | tag 32 | epoch 16 | token 16 |; the set and the tag together are the whole
//           pc (47 bits), so a hit is exact. Wide rules are an append-only hash set: one word
//           each, 0 = free, and a token is the index of its word.
// Full      Entries: the older of the set's two goes. Wide rules: the rule is not cached.
// Flush     Bumps the epoch. An entry of another epoch does not match, so a rule that was
//           computed before a flush and inserted after it, under its own epoch, is never found.
// Ordering  Entries and wide rules are relaxed: an entry is whole in itself. (A) a wide rule is
//           published before the entry whose token names it: release store of the entry <->
//           acquire load in find(). (B) the mapping's address: release in init() <-> acquire.
#pragma once

#include <atomic>
#include <cstdint>

#include "preload/unwind_rule.h"

namespace mprof::preload {

inline constexpr unsigned kRuleSetBits = 15;
inline constexpr uint32_t kRuleSets = 1u << kRuleSetBits;
inline constexpr uint32_t kRuleWays = 2;
inline constexpr uint32_t kWideRules = 4096;
static_assert(kWideRules <= kInlineToken, "an index must not look like an inline rule");

struct RuleCache {
  std::atomic<std::atomic<uint64_t>*> entries;  // null until init(): then nothing is cached
  std::atomic<uint32_t> epoch;
};
static_assert(std::atomic<uint64_t>::is_always_lock_free, "usable in signal handlers");

extern RuleCache rule_cache;

// Maps the memory (552 KiB, touched only as far as it is used). False: out of memory, and every
// walk computes its rules. Called once at start.
bool rule_cache_init();

// Forgets all rules. To be called after each dlclose(): other code may get the addresses. 
void rule_cache_flush();

inline uint32_t rule_cache_epoch() { return rule_cache.epoch.load(std::memory_order_relaxed); }

// User addresses have 47 bits; what is above (the vsyscall page, 5-level paging) is not cached.
inline constexpr bool is_cacheable(uintptr_t pc) { return pc >> 47 == 0; }

// An entry without its token. Never 0, so a free entry matches nothing.
inline constexpr uint64_t rule_key(uintptr_t pc, uint32_t epoch) {
  return static_cast<uint64_t>(pc >> kRuleSetBits) << 32 | (epoch % 0xffff + 1) << 16;
}

inline constexpr uint32_t rule_set_index(uintptr_t pc) {
  return static_cast<uint32_t>(pc ^ pc >> kRuleSetBits) & (kRuleSets - 1);
}

// 0: not there. About 4 ns a frame, nearly all of it the chain of two dependent loads.
inline RuleToken rule_cache_find(uintptr_t pc, uint32_t epoch) {
  std::atomic<uint64_t>* entries = rule_cache.entries.load(std::memory_order_acquire);  // (B)
  if (entries == nullptr || !is_cacheable(pc)) [[unlikely]]
    return 0;
  const uint64_t key = rule_key(pc, epoch);
  std::atomic<uint64_t>* set = entries + rule_set_index(pc) * kRuleWays;
  const uint64_t first = set[0].load(std::memory_order_acquire);  // (A)
  if ((first ^ key) <= 0xffff) [[likely]]
    return static_cast<RuleToken>(first);
  const uint64_t second = set[1].load(std::memory_order_acquire);  // (A)
  return (second ^ key) <= 0xffff ? static_cast<RuleToken>(second) : 0;
}

// `epoch` is the one that was read before the rule was computed.
void rule_cache_insert(uintptr_t pc, uint32_t epoch, const UnwindRule& rule);

// The wide rule of a token that is neither 0 nor inline.
UnwindRule rule_cache_wide_rule(RuleToken token);

}  // namespace mprof::preload

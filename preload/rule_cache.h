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
//           acquire load in find(). (B) the mapping's address: release in rule_cache_init() <->
//           acquire.
#pragma once

#include <atomic>
#include <cstddef>
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

// Maps the memory (544 KiB, touched only as far as it is used). False: out of memory, and every
// walk computes its rules. Called once at start.
bool rule_cache_init();

// Forgets all rules. To be called after each dlclose(): other code may get the addresses.
void rule_cache_flush();

inline uint32_t rule_cache_epoch() { return rule_cache.epoch.load(std::memory_order_relaxed); }

// User addresses have 47 bits; what is above (the vsyscall page, 5-level paging) is not cached.
inline constexpr bool is_cacheable(uintptr_t pc) { return pc >> 47 == 0; }

// Return addresses are spread evenly over their low bits: no hash is needed, and its cost would
// be in the one chain of dependent instructions that bounds the speed of a walk.
inline constexpr uint32_t rule_set_index(uintptr_t pc) {
  return static_cast<uint32_t>(pc & (kRuleSets - 1));
}

// The cache as one walk sees it: at one epoch.
class RuleLookup {
 public:
  RuleLookup()
      : epoch_(rule_cache_epoch()),
        // (epoch % 0xffff) + 1: never 0, so that a free entry matches nothing.
        key_((epoch_ % 0xffff + 1) << 16),
        entries_(rule_cache.entries.load(std::memory_order_acquire)) {}  // (B)

  [[nodiscard]] uint32_t epoch() const { return epoch_; }
  [[nodiscard]] bool has_entries() const { return entries_ != nullptr; }

  // 0: not there. Only when has_entries().
  [[nodiscard]] RuleToken find(uintptr_t pc) const {
    const uint64_t key = key_of(pc);
    const std::atomic<uint64_t>* set = entries_ + size_t{rule_set_index(pc)} * kRuleWays;
    const uint64_t first = set[0].load(std::memory_order_acquire);  // (A)
    if ((first ^ key) <= 0xffff && is_cacheable(pc)) [[likely]]
      return static_cast<RuleToken>(first);
    const uint64_t second = set[1].load(std::memory_order_acquire);  // (A)
    return (second ^ key) <= 0xffff && is_cacheable(pc) ? static_cast<RuleToken>(second) : 0;
  }

  void insert(uintptr_t pc, const UnwindRule& rule) const;

 private:
  // An entry without its token.
  [[nodiscard]] uint64_t key_of(uintptr_t pc) const {
    return static_cast<uint64_t>(pc >> kRuleSetBits) << 32 | key_;
  }

  uint32_t epoch_;
  uint64_t key_;
  std::atomic<uint64_t>* entries_;
};

// The wide rule of a token that is neither 0 nor inline.
UnwindRule rule_cache_wide_rule(RuleToken token);

}  // namespace mprof::preload

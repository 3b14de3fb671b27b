// SPDX-License-Identifier: Apache-2.0
// How to get from one frame to its caller: the small subset of call frame information that
// nearly all code uses, and its packings for the rule cache.
//
// On x86-64 a walk needs three things of a frame: the CFA (the caller's stack pointer after the
// return), the return address, which every compiler leaves at CFA-8, and where the caller's rbp
// is. A rule says the first and the third; what does not fit here is interpreted anew each time.
#pragma once

#include <cstdint>

namespace mprof::preload {

enum class RuleKind : uint8_t {
  kNone = 0,
  kCfaFromSp,      // CFA = rsp + cfa_offset
  kCfaFromFp,      // CFA = rbp + cfa_offset
  kCfaStoredAtFp,  // CFA = the word at rbp + cfa_offset: gcc's frames with realigned stack
  kOutermost,      // the return address is undefined: nobody called this
  kSignalFrame,    // the kernel's ucontext_t is at rsp
  kUnsupported,    // there is information, but it needs a register that is not followed
  kNotCovered,     // inside a loaded object, but no information: hand-written assembly
};

enum class FpPlace : uint8_t {
  kSame = 0,  // the function does not touch rbp
  kAtCfa,     // saved at CFA + fp_offset
  kAtFp,      // saved at rbp + fp_offset
  kLost,      // not recoverable
};

struct UnwindRule {
  RuleKind kind = RuleKind::kNone;
  FpPlace fp_place = FpPlace::kSame;
  int32_t cfa_offset = 0;
  int32_t fp_offset = 0;
};

// The wide packing, one word: | fp_offset 28 | cfa_offset 28 | fp_place 4 | kind 4 |. 0: no rule,
// or one whose offsets do not fit.
namespace rule_bits {
inline constexpr int kOffsetBits = 28;
inline constexpr bool fits(int32_t offset) {
  return offset >= -(1 << (kOffsetBits - 1)) && offset < (1 << (kOffsetBits - 1));
}
inline constexpr uint64_t field(int32_t offset) {
  return static_cast<uint32_t>(offset) & ((1u << kOffsetBits) - 1);
}
inline constexpr int32_t value(uint64_t field) {
  return static_cast<int32_t>(static_cast<uint32_t>(field << 4)) >> 4;
}
}  // namespace rule_bits

inline constexpr uint64_t pack_rule(const UnwindRule& rule) {
  if (!rule_bits::fits(rule.cfa_offset) || !rule_bits::fits(rule.fp_offset)) return 0;
  return static_cast<uint64_t>(rule.kind) | static_cast<uint64_t>(rule.fp_place) << 4 |
         rule_bits::field(rule.cfa_offset) << 8 | rule_bits::field(rule.fp_offset) << 36;
}

inline constexpr UnwindRule unpack_rule(uint64_t packed) {
  return {static_cast<RuleKind>(packed & 15), static_cast<FpPlace>(packed >> 4 & 15),
          rule_bits::value(packed >> 8), rule_bits::value(packed >> 36)};
}

// The narrow packing, a token of 16 bits: | 1 | fp slot 3 | cfa_offset / 8 11 | from fp 1 |.
// It holds what compilers emit for frames below 16 KiB (rbp unchanged, or saved at CFA-16 ..
// CFA-64), so that a step needs no second load. Tokens without the top bit index wide rules.
using RuleToken = uint16_t;
inline constexpr RuleToken kInlineToken = 0x8000;

inline constexpr bool is_inline(RuleToken token) { return (token & kInlineToken) != 0; }
inline constexpr bool token_is_from_fp(RuleToken token) { return (token & 1) != 0; }
inline constexpr uint32_t token_cfa_offset(RuleToken token) { return (token & 0xffeu) << 2; }
inline constexpr bool token_saves_fp(RuleToken token) { return (token & 0x7000) != 0; }
// Relative to the CFA; only when token_saves_fp().
inline constexpr int32_t token_fp_offset(RuleToken token) { return -8 * ((token >> 12 & 7) + 1); }

inline constexpr UnwindRule rule_of_token(RuleToken token) {
  const auto kind = token_is_from_fp(token) ? RuleKind::kCfaFromFp : RuleKind::kCfaFromSp;
  const auto cfa_offset = static_cast<int32_t>(token_cfa_offset(token));
  if (!token_saves_fp(token)) return {kind, FpPlace::kSame, cfa_offset, 0};
  return {kind, FpPlace::kAtCfa, cfa_offset, token_fp_offset(token)};
}

// 0 when the rule is none of those.
inline constexpr RuleToken inline_token(const UnwindRule& rule) {
  const bool from_fp = rule.kind == RuleKind::kCfaFromFp;
  if (!from_fp && rule.kind != RuleKind::kCfaFromSp) return 0;
  if (rule.cfa_offset <= 0 || rule.cfa_offset >= 8 << 11 || rule.cfa_offset % 8 != 0) return 0;
  int slot = 0;
  if (rule.fp_place == FpPlace::kAtCfa) {
    if (rule.fp_offset > -16 || rule.fp_offset < -64 || rule.fp_offset % 8 != 0) return 0;
    slot = -rule.fp_offset / 8 - 1;
  } else if (rule.fp_place != FpPlace::kSame) {
    return 0;
  }
  return static_cast<RuleToken>(kInlineToken | slot << 12 | rule.cfa_offset >> 2 |
                                (from_fp ? 1 : 0));
}

}  // namespace mprof::preload

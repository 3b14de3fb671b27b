// SPDX-License-Identifier: Apache-2.0
#if defined(__GNUC__) && !defined(__clang__)
// gcc 12 would pair pc and sp in vector registers, and pays for it with stalled store forwards:
// 11 ns a frame instead of 4.
#pragma GCC optimize("no-tree-slp-vectorize")
#endif

#include "preload/unwind.h"

#include <algorithm>

#include "preload/eh_frame.h"
#include "preload/rule_cache.h"
#include "preload/unwind_expression.h"
#include "preload/unwind_object.h"
#include "preload/unwind_rule.h"

namespace mprof::preload {

namespace {

// The caller of a signal handler may be on another stack, below; so often may a walk go down.
constexpr uint32_t kMaxStackSwitches = 4;
// Outside the known stack, a frame that a frame pointer claims is not larger than this.
constexpr uintptr_t kMaxGuessedFrameBytes = 1 << 20;
constexpr uintptr_t kReturnAddressBytes = 8;
constexpr int32_t kFpSlotBelowCfa = -16;  // of a function with a frame pointer

// The kernel's signal frame on x86-64: a ucontext_t is where rsp points after the handler's
// return; the offsets of gregs[REG_RBP], [REG_RSP], [REG_RIP] in it are ABI.
constexpr uintptr_t kContextFp = 120;
constexpr uintptr_t kContextSp = 160;
constexpr uintptr_t kContextPc = 168;

// What a row of call frame information comes to when it is one of the common shapes; kNone when
// it is not and has to be evaluated.
UnwindRule rule_of(const CfiRow& row);

class Walker {
 public:
  Walker(const StackBounds& bounds, UnwindMode mode, uint32_t max_depth, const Walk& previous,
         Walk& out)
      : memory_(bounds, reinterpret_cast<uintptr_t>(__builtin_frame_address(0)), out.window),
        bounds_(bounds),
        mode_(mode),
        max_depth_(max_depth),
        previous_(previous),
        out_(out) {}

  void run(Registers at);

 private:
  // The fast ways, which take as many steps as they can, and the careful way, one step. Each
  // records the frame at its argument and returns the caller's registers; step() may end the walk.
  Registers repeat_steps(Registers at);
  Registers follow_rules(Registers at);
  Registers follow_frame_pointers(Registers at);
  Registers step(Registers at);
  Registers step_by_rule(Registers at, const UnwindRule& rule);
  Registers step_by_lookup(Registers at);
  Registers step_by_row(Registers at, const CfiRow& row);
  Registers step_by_frame_pointer(Registers at, WalkEnd otherwise);
  Registers step_over_signal(Registers at);
  Registers step_without_information(Registers at);

  Registers advance(Registers at, Registers caller, int32_t fp_slot, StepKind kind);
  Registers finish(Registers at, WalkEnd end);
  Registers complete(Registers at);
  void record(const Registers& at, int32_t fp_slot, StepKind kind);

  bool find_fp(const Registers& at, const UnwindRule& rule, uintptr_t cfa, uintptr_t& fp);
  bool evaluate(const Registers& at, const RowEntry& entry, const uintptr_t* cfa, uintptr_t& value);
  bool register_value(const Registers& at, const RowEntry& entry, uintptr_t cfa, uintptr_t& value);
  bool cfa_of(const Registers& at, const CfiRow& row, uintptr_t& cfa);
  [[nodiscard]] bool may_be_frame(const Registers& at) const;

  bool matches_previous(const Registers& at);
  void count_shared();

  StackMemory memory_;
  const StackBounds& bounds_;
  const UnwindMode mode_;
  const uint32_t max_depth_;
  const Walk& previous_;
  uint32_t previous_count_ = 0;  // 0 when its records must not be used
  uint32_t match_ = 0;           // index into the previous walk: no frame before it is wanted
  uint32_t run_end_ = 0;         // depth and
  uint32_t run_length_ = 0;      // length of the last run of repeated steps, and
  uint32_t run_match_ = 0;       // where it ended in the previous walk
  uint32_t switches_ = 0;
  const RuleLookup rules_;
  uint32_t depth_ = 0;
  WalkEnd end_ = WalkEnd::kNone;
  Walk& out_;
};

void Walker::record(const Registers& at, int32_t fp_slot, StepKind kind) {
  out_.frames[depth_++] = {at.pc, at.sp, at.fp, fp_slot, kind};
}

Registers Walker::finish(Registers at, WalkEnd end) {
  record(at, 0, StepKind::kLast);
  end_ = end;
  return at;
}

// Nobody called the frame's function, which depends on nothing but its pc.
Registers Walker::complete(Registers at) {
  record(at, 0, StepKind::kOutermost);
  end_ = WalkEnd::kComplete;
  return at;
}

Registers Walker::advance(Registers at, Registers caller, int32_t fp_slot, StepKind kind) {
  record(at, fp_slot, kind);
  return caller;
}

// Both walks are sorted by sp but for switches of stack, which at worst cost the reuse.
inline bool Walker::matches_previous(const Registers& at) {
  while (match_ < previous_count_ && previous_.frames[match_].sp < at.sp) ++match_;
  return match_ < previous_count_ && previous_.frames[match_].sp == at.sp &&
         previous_.frames[match_].pc == at.pc;
}

uintptr_t beside(uintptr_t address, int32_t offset) {
  return address + static_cast<uintptr_t>(static_cast<intptr_t>(offset));
}

// The hot loop: where the previous walk was at the same sp and pc, its record says where the
// return address and rbp are saved, without a rule. As each step goes to the sp that the previous
// walk went to, the next frames are compared by pc alone. The loads do not depend on one another,
// which is what makes this fast. What is not plainly the same is left to the other ways.
Registers Walker::repeat_steps(Registers at) {
  if (!matches_previous(at)) return at;
  const DirectRange direct = memory_.direct();
  const WalkedFrame* known = &previous_.frames[match_];
  WalkedFrame* frame = &out_.frames[depth_];
  const WalkedFrame* const end = known + std::min(previous_count_ - match_, max_depth_ - depth_);
  uintptr_t pc = at.pc;
  uintptr_t fp = at.fp;
  for (; known != end && known->pc == pc; ++known, ++frame) {
    const StepKind kind = known->step;
    if (kind < StepKind::kFramePointer || (known->fp != fp && kind != StepKind::kFromSp)) break;
    const uintptr_t cfa = known[1].sp;
    if (!direct.has(cfa - kReturnAddressBytes)) break;
    const uintptr_t caller_pc = load_word(cfa - kReturnAddressBytes);
    uintptr_t caller_fp = fp;
    if (known->fp_slot != 0) {
      const uintptr_t slot = beside(cfa, known->fp_slot);
      if (!direct.has(slot)) break;
      caller_fp = load_word(slot);
    }
    if (kind == StepKind::kFramePointer && (caller_pc != known[1].pc || caller_fp != known[1].fp)) {
      break;
    }
    *frame = {pc, known->sp, fp, known->fp_slot, kind};
    pc = caller_pc;
    fp = caller_fp;
  }
  const auto repeated = static_cast<uint32_t>(frame - &out_.frames[depth_]);
  if (repeated != 0) at = {pc, known->sp, fp};
  match_ += repeated;
  depth_ += repeated;
  run_end_ = depth_;
  run_length_ = repeated;
  run_match_ = match_;
  const bool is_outermost = match_ < previous_count_ && depth_ < max_depth_ && known->pc == pc &&
                            known->step == StepKind::kOutermost;
  return is_outermost ? complete(at) : at;
}

// Steps by the inline rules of the cache, as long as there is one, the stack is readable
// directly, and the previous walk does not know better.
Registers Walker::follow_rules(Registers at) {
  if (mode_ == UnwindMode::kFramePointer) return follow_frame_pointers(at);
  if (!rules_.has_entries()) return at;
  const RuleLookup rules = rules_;
  const DirectRange direct = memory_.direct();
  WalkedFrame* frame = &out_.frames[depth_];
  const WalkedFrame* const end = &out_.frames[max_depth_];
  for (; frame != end && !matches_previous(at); ++frame) {
    const RuleToken token = rules.find(at.pc);
    if (!is_inline(token)) break;
    const bool from_fp = token_is_from_fp(token);
    const uintptr_t cfa = (from_fp ? at.fp : at.sp) + token_cfa_offset(token);
    if (cfa <= at.sp || !direct.has(cfa - kReturnAddressBytes)) break;
    const uintptr_t caller_pc = load_word(cfa - kReturnAddressBytes);
    uintptr_t caller_fp = at.fp;
    int32_t fp_slot = 0;
    if (token_saves_fp(token)) {
      fp_slot = token_fp_offset(token);
      if (!direct.has(beside(cfa, fp_slot))) break;
      caller_fp = load_word(beside(cfa, fp_slot));
    }
    *frame = {at.pc, at.sp, at.fp, fp_slot, from_fp ? StepKind::kFromFp : StepKind::kFromSp};
    at = {caller_pc, cfa, caller_fp};
  }
  depth_ = static_cast<uint32_t>(frame - out_.frames);
  return at;
}

Registers Walker::follow_frame_pointers(Registers at) {
  const DirectRange direct = memory_.direct();
  WalkedFrame* frame = &out_.frames[depth_];
  const WalkedFrame* const end = &out_.frames[max_depth_];
  for (; frame != end && direct.has(at.sp); ++frame) {
    const uintptr_t above = at.fp + kReturnAddressBytes;
    if (at.fp % sizeof(uintptr_t) != 0 || at.fp < at.sp || !direct.has(at.fp)) break;
    if (!direct.has(above)) break;
    const Registers caller = {load_word(above), above + kReturnAddressBytes, load_word(at.fp)};
    if (caller.fp <= at.fp || caller.pc == 0 || !is_cacheable(caller.pc)) break;
    *frame = {at.pc, at.sp, at.fp, kFpSlotBelowCfa, StepKind::kFramePointer};
    at = caller;
  }
  depth_ = static_cast<uint32_t>(frame - out_.frames);
  return at;
}

void Walker::run(Registers at) {
  const bool same_rules = previous_.epoch == rules_.epoch() && previous_.mode == mode_;
  previous_count_ = same_rules ? std::min(previous_.count, kMaxDepth) : 0;
  while (end_ == WalkEnd::kNone) {
    const uint32_t depth_before = depth_;
    at = repeat_steps(at);
    if (end_ != WalkEnd::kNone) break;
    at = follow_rules(at);
    if (depth_ != 0 && at.pc == 0) {
      end_ = WalkEnd::kComplete;  // thread entries of other libcs and of fibers push a 0
    } else if (depth_ == max_depth_) {
      end_ = WalkEnd::kTruncated;
    } else if (depth_ == depth_before) {
      at = step(at);
    }
  }
  out_.frames[depth_] = {at.pc, at.sp, at.fp, 0, StepKind::kLast};
  out_.count = depth_;
  out_.end = end_;
  out_.mode = mode_;
  out_.epoch = rules_.epoch();
  count_shared();
}

void Walker::count_shared() {
  const bool same_end = previous_.end == out_.end && previous_count_ != 0;
  const uint32_t limit = same_end ? std::min(previous_count_, out_.count) : 0;
  const bool run_is_aligned = out_.count - run_end_ == previous_count_ - run_match_;
  uint32_t shared = 0;
  while (shared < limit) {
    // The repeated frames, most of a typical walk, are known to be equal.
    if (run_is_aligned && shared == out_.count - run_end_) shared += run_length_;
    if (shared == limit || out_.frames[out_.count - 1 - shared].pc !=
                               previous_.frames[previous_count_ - 1 - shared].pc) {
      break;
    }
    ++shared;
  }
  out_.shared_with_previous = shared;
}

[[gnu::noinline]] Registers Walker::step(Registers at) {
  if (mode_ == UnwindMode::kFramePointer) {
    return step_by_frame_pointer(at, WalkEnd::kBadFramePointer);
  }
  const RuleToken token = rules_.has_entries() ? rules_.find(at.pc) : RuleToken{0};
  if (token == 0) return step_by_lookup(at);
  return step_by_rule(at, is_inline(token) ? rule_of_token(token) : rule_cache_wide_rule(token));
}

bool Walker::find_fp(const Registers& at, const UnwindRule& rule, uintptr_t cfa, uintptr_t& fp) {
  switch (rule.fp_place) {
    case FpPlace::kSame: fp = at.fp; return true;
    case FpPlace::kAtCfa: return memory_.load(beside(cfa, rule.fp_offset), fp);
    case FpPlace::kAtFp: return memory_.load(beside(at.fp, rule.fp_offset), fp);
    case FpPlace::kLost: break;
  }
  fp = 0;
  return true;
}

// How the next walk may repeat a step by this rule: only when its places follow from sp and fp.
StepKind kind_of(const UnwindRule& rule) {
  if (rule.fp_place == FpPlace::kAtFp || rule.fp_place == FpPlace::kLost) return StepKind::kOther;
  if (rule.fp_place == FpPlace::kAtCfa && rule.fp_offset == 0) return StepKind::kOther;
  if (rule.kind == RuleKind::kCfaFromSp) return StepKind::kFromSp;
  return rule.kind == RuleKind::kCfaFromFp ? StepKind::kFromFp : StepKind::kOther;
}

[[gnu::noinline]] Registers Walker::step_by_rule(Registers at, const UnwindRule& rule) {
  uintptr_t cfa = 0;
  switch (rule.kind) {
    case RuleKind::kCfaFromSp: cfa = beside(at.sp, rule.cfa_offset); break;
    case RuleKind::kCfaFromFp: cfa = beside(at.fp, rule.cfa_offset); break;
    case RuleKind::kCfaStoredAtFp:
      if (!memory_.load(beside(at.fp, rule.cfa_offset), cfa))
        return finish(at, WalkEnd::kUnreadable);
      break;
    case RuleKind::kOutermost: return complete(at);
    case RuleKind::kSignalFrame: return step_over_signal(at);
    case RuleKind::kNotCovered: return step_without_information(at);
    case RuleKind::kUnsupported:
    case RuleKind::kNone: return finish(at, WalkEnd::kUnsupportedRule);
  }
  if (cfa <= at.sp) return finish(at, WalkEnd::kNotAdvancing);
  Registers caller = {0, cfa, 0};
  if (!memory_.load(cfa - kReturnAddressBytes, caller.pc) || !find_fp(at, rule, cfa, caller.fp)) {
    return finish(at, WalkEnd::kUnreadable);
  }
  const StepKind kind = kind_of(rule);
  const bool fp_slot_is_known = kind != StepKind::kOther && rule.fp_place == FpPlace::kAtCfa;
  return advance(at, caller, fp_slot_is_known ? rule.fp_offset : 0, kind);
}

// The interrupted code may be on another stack: the handler then ran on an alternate one.
Registers Walker::step_over_signal(Registers at) {
  Registers caller;
  if (!memory_.load(at.sp + kContextPc, caller.pc) ||
      !memory_.load(at.sp + kContextSp, caller.sp) ||
      !memory_.load(at.sp + kContextFp, caller.fp)) {
    return finish(at, WalkEnd::kUnreadable);
  }
  if (caller.sp <= at.sp && ++switches_ > kMaxStackSwitches) {
    return finish(at, WalkEnd::kNotAdvancing);
  }
  ++caller.pc;  // exact, made like a return address
  return advance(at, caller, 0, StepKind::kOther);
}

Registers Walker::step_without_information(Registers at) {
  if (mode_ == UnwindMode::kDwarf) return finish(at, WalkEnd::kNoUnwindInfo);
  return step_by_frame_pointer(at, WalkEnd::kNoUnwindInfo);
}

// Within the known stack a frame stays in it; on any other stack it stays near.
bool Walker::may_be_frame(const Registers& at) const {
  if (at.fp % sizeof(uintptr_t) != 0 || at.fp < at.sp) return false;
  const bool is_inside = at.sp >= bounds_.low && at.sp < bounds_.high;
  const uintptr_t room = is_inside ? bounds_.high - at.sp : kMaxGuessedFrameBytes;
  return at.fp - at.sp < room && at.fp + 2 * sizeof(uintptr_t) > at.fp;
}

// `otherwise` ends the walk where rbp is not a frame pointer. Without call frame information that
// is a guess about untrusted values, so the return address must be one of a loaded object's; a
// JIT's is in none, then at least the frames must go up.
[[gnu::noinline]] Registers Walker::step_by_frame_pointer(Registers at, WalkEnd otherwise) {
  if (mode_ == UnwindMode::kFramePointer && at.fp == 0) return finish(at, WalkEnd::kComplete);
  if (!may_be_frame(at)) return finish(at, otherwise);
  Registers caller = {0, at.fp + 2 * sizeof(uintptr_t), 0};
  if (!memory_.load(at.fp, caller.fp) || !memory_.load(at.fp + sizeof(uintptr_t), caller.pc)) {
    return finish(at, WalkEnd::kUnreadable);
  }
  const bool goes_up = caller.fp > at.fp && is_cacheable(caller.pc);
  const bool is_last = caller.pc == 0 || (mode_ == UnwindMode::kFramePointer && caller.fp == 0);
  if (!goes_up && !is_last && !is_in_object(caller.pc - 1)) return finish(at, otherwise);
  return advance(at, caller, kFpSlotBelowCfa, StepKind::kFramePointer);
}

// A cold pc: some 150 ns, once for each pc.
[[gnu::cold, gnu::noinline]] Registers Walker::step_by_lookup(Registers at) {
  EhFrameTable table;
  switch (find_eh_frame(at.pc - 1, table)) {
    case ObjectLookup::kNoObject:
    case ObjectLookup::kNoTable: return step_without_information(at);
    case ObjectLookup::kFound: break;
  }
  CfiRow row;
  const CfiStatus status = find_cfi_row(table, at.pc - 1, row);
  if (status == CfiStatus::kMalformed) return finish(at, WalkEnd::kBadUnwindInfo);
  UnwindRule rule;
  rule.kind = RuleKind::kNotCovered;
  if (status == CfiStatus::kFound) rule = rule_of(row);
  if (rule.kind == RuleKind::kNone) return step_by_row(at, row);
  rules_.insert(at.pc, rule);
  return step_by_rule(at, rule);
}

[[gnu::noinline]] bool Walker::evaluate(const Registers& at, const RowEntry& entry,
                                        const uintptr_t* cfa, uintptr_t& value) {
  ExpressionMachine machine(at, memory_);
  if (cfa != nullptr) machine.push(*cfa);
  return machine.evaluate(entry.expression(), entry.expression_bytes, value);
}

bool Walker::cfa_of(const Registers& at, const CfiRow& row, uintptr_t& cfa) {
  switch (row.cfa.place) {
    case Place::kSp: cfa = at.sp + static_cast<uintptr_t>(row.cfa.operand); return true;
    case Place::kFp: cfa = at.fp + static_cast<uintptr_t>(row.cfa.operand); return true;
    case Place::kExpression: return evaluate(at, row.cfa, nullptr, cfa);
    default: return false;
  }
}

// `value` is the register's own before the call, and stays so where the callee left it alone.
bool Walker::register_value(const Registers& at, const RowEntry& entry, uintptr_t cfa,
                            uintptr_t& value) {
  const uintptr_t beside_cfa = cfa + static_cast<uintptr_t>(entry.operand);
  switch (entry.place) {
    case Place::kSame: return true;
    case Place::kAtCfa: return memory_.load(beside_cfa, value);
    case Place::kCfaPlus: value = beside_cfa; return true;
    case Place::kValExpression: return evaluate(at, entry, &cfa, value);
    case Place::kExpression: {
      uintptr_t address = 0;
      return evaluate(at, entry, &cfa, address) && memory_.load(address, value);
    }
    default: value = 0; return true;
  }
}

// The general case: every row that is not a rule.
[[gnu::cold, gnu::noinline]] Registers Walker::step_by_row(Registers at, const CfiRow& row) {
  Registers caller = {0, 0, at.fp};
  if (!cfa_of(at, row, caller.sp)) return finish(at, WalkEnd::kUnsupportedRule);
  if (caller.sp <= at.sp) return finish(at, WalkEnd::kNotAdvancing);
  if (!register_value(at, row.return_address, caller.sp, caller.pc) ||
      !register_value(at, row.fp, caller.sp, caller.fp)) {
    return finish(at, WalkEnd::kUnreadable);
  }
  return advance(at, caller, 0, StepKind::kOther);
}

bool fits_rule(int64_t offset) {
  return offset == static_cast<int32_t>(offset) && rule_bits::fits(static_cast<int32_t>(offset));
}

// Recognizes `DW_OP_breg6 offset`, alone (`then_deref` false) or followed by DW_OP_deref: what gcc
// writes for rbp and for the CFA of a frame whose stack it realigned.
bool is_fp_offset(const RowEntry& entry, bool then_deref, int32_t& offset) {
  ByteCursor cursor(entry.expression(), entry.expression() + entry.expression_bytes);
  if (cursor.read<uint8_t>() != 0x76) return false;
  const int64_t value = cursor.read_sleb128();
  if (then_deref && cursor.read<uint8_t>() != 0x06) return false;
  if (cursor.failed() || !cursor.at_end() || !fits_rule(value)) return false;
  offset = static_cast<int32_t>(value);
  return true;
}

bool set_fp_rule(const RowEntry& entry, UnwindRule& rule) {
  switch (entry.place) {
    case Place::kSame: rule.fp_place = FpPlace::kSame; return true;
    case Place::kUndefined:
    case Place::kUnsupported: rule.fp_place = FpPlace::kLost; return true;
    case Place::kAtCfa:
      rule.fp_place = FpPlace::kAtCfa;
      rule.fp_offset = static_cast<int32_t>(entry.operand);
      return fits_rule(entry.operand);
    case Place::kExpression:
      rule.fp_place = FpPlace::kAtFp;
      return is_fp_offset(entry, false, rule.fp_offset);
    default: return false;
  }
}

bool set_cfa_rule(const RowEntry& entry, UnwindRule& rule) {
  if (entry.place == Place::kExpression) {
    rule.kind = RuleKind::kCfaStoredAtFp;
    return is_fp_offset(entry, true, rule.cfa_offset);
  }
  rule.kind = entry.place == Place::kSp ? RuleKind::kCfaFromSp : RuleKind::kCfaFromFp;
  rule.cfa_offset = static_cast<int32_t>(entry.operand);
  return fits_rule(entry.operand);
}

UnwindRule rule_of(const CfiRow& row) {
  UnwindRule rule;
  const RowEntry& return_address = row.return_address;
  if (return_address.place == Place::kUndefined) {
    rule.kind = RuleKind::kOutermost;
  } else if (row.is_signal_frame) {
    rule.kind = RuleKind::kSignalFrame;
  } else if (row.cfa.place == Place::kUnsupported || row.cfa.place == Place::kSame ||
             return_address.place == Place::kUnsupported || return_address.place == Place::kSame) {
    rule.kind = RuleKind::kUnsupported;
  } else if (return_address.place != Place::kAtCfa ||
             return_address.operand != -static_cast<int64_t>(kReturnAddressBytes) ||
             !set_cfa_rule(row.cfa, rule) || !set_fp_rule(row.fp, rule)) {
    return {};
  }
  return rule;
}

}  // namespace

void walk_stack(const Registers& start, const StackBounds& bounds, UnwindMode mode,
                uint32_t max_depth, const Walk& previous, Walk& out) {
  if (mode == UnwindMode::kAuto && !can_find_objects()) mode = UnwindMode::kFramePointer;
  Walker(bounds, mode, std::clamp(max_depth, 1u, kMaxDepth), previous, out).run(start);
}

}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
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
        epoch_(rule_cache_epoch()),
        out_(out) {}

  void run(Registers at);

 private:
  // A step records the frame at its argument and returns the caller's registers, or ends the
  // walk. The registers go by value so that they stay in registers.
  Registers repeat_steps(Registers at);
  Registers step(Registers at);
  Registers step_by_token(Registers at, RuleToken token);
  Registers step_by_rule(Registers at, const UnwindRule& rule);
  Registers step_by_lookup(Registers at);
  Registers step_by_row(Registers at, const CfiRow& row);
  Registers step_by_frame_pointer(Registers at, WalkEnd otherwise);
  Registers step_over_signal(Registers at);
  Registers step_without_information(Registers at);

  Registers advance(Registers at, Registers caller, int32_t fp_slot, StepKind kind);
  Registers finish(Registers at, WalkEnd end);
  void record(const Registers& at, int32_t fp_slot, StepKind kind);

  bool find_fp(const Registers& at, const UnwindRule& rule, uintptr_t cfa, uintptr_t& fp);
  bool evaluate(const Registers& at, const RowEntry& entry, const uintptr_t* cfa, uintptr_t& value);
  bool register_value(const Registers& at, const RowEntry& entry, uintptr_t cfa, uintptr_t& value);
  bool cfa_of(const Registers& at, const CfiRow& row, uintptr_t& cfa);
  [[nodiscard]] bool may_be_frame(const Registers& at) const;

  bool matches_previous(const Registers& at);
  [[nodiscard]] bool may_repeat(const WalkedFrame& known, const Registers& at) const;
  void count_shared();

  StackMemory memory_;
  const StackBounds& bounds_;
  const UnwindMode mode_;
  const uint32_t max_depth_;
  const Walk& previous_;
  uint32_t previous_count_ = 0;  // 0 when its records must not be used
  uint32_t match_ = 0;           // index into the previous walk: no frame before it is wanted
  uint32_t switches_ = 0;
  const uint32_t epoch_;
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

inline Registers Walker::advance(Registers at, Registers caller, int32_t fp_slot, StepKind kind) {
  record(at, fp_slot, kind);
  if (caller.pc == 0) [[unlikely]]
    end_ = WalkEnd::kComplete;  // thread entries of other libcs and of fibers push a 0
  return caller;
}

// Both walks are sorted by sp but for switches of stack, which at worst cost the reuse.
inline bool Walker::matches_previous(const Registers& at) {
  while (match_ < previous_count_ && previous_.frames[match_].sp < at.sp) ++match_;
  return match_ < previous_count_ && previous_.frames[match_].sp == at.sp &&
         previous_.frames[match_].pc == at.pc;
}

inline bool Walker::may_repeat(const WalkedFrame& known, const Registers& at) const {
  return known.pc == at.pc && known.step >= StepKind::kFromSp &&
         (known.fp == at.fp || known.step == StepKind::kFromSp);
}

// The hot loop: where the previous walk was at the same sp and pc, its record says where the
// return address and rbp are saved, without a rule. `at` matches frames[match_]; as each step
// goes to the sp the previous walk went to, the next frames are compared by pc alone. The loads
// do not depend on one another, which is what makes this fast.
Registers Walker::repeat_steps(Registers at) {
  const WalkedFrame* known = &previous_.frames[match_];
  const WalkedFrame* known_end = &previous_.frames[previous_count_];
  WalkedFrame* frame = &out_.frames[depth_];
  const WalkedFrame* frame_end = &out_.frames[max_depth_];
  for (; known != known_end && frame != frame_end && may_repeat(*known, at); ++known, ++frame) {
    const uintptr_t cfa = known[1].sp;
    const auto fp_at = cfa + static_cast<uintptr_t>(static_cast<intptr_t>(known->fp_slot));
    Registers caller = {0, cfa, at.fp};
    if (!memory_.load(cfa - kReturnAddressBytes, caller.pc)) break;
    if (known->fp_slot != 0 && !memory_.load(fp_at, caller.fp)) break;
    if (known->step == StepKind::kFramePointer &&
        (caller.pc != known[1].pc || caller.fp != known[1].fp)) {
      break;
    }
    *frame = {at.pc, at.sp, at.fp, known->fp_slot, known->step};
    at = caller;
  }
  match_ = static_cast<uint32_t>(known - previous_.frames);
  depth_ = static_cast<uint32_t>(frame - out_.frames);
  if (at.pc == 0) end_ = WalkEnd::kComplete;
  return at;
}

void Walker::run(Registers at) {
  const bool same_rules = previous_.epoch == epoch_ && previous_.mode == mode_;
  previous_count_ = same_rules ? std::min(previous_.count, kMaxDepth) : 0;
  while (end_ == WalkEnd::kNone) {
    if (matches_previous(at)) at = repeat_steps(at);
    if (end_ != WalkEnd::kNone) break;
    if (depth_ == max_depth_) {
      end_ = WalkEnd::kTruncated;
      break;
    }
    at = step(at);
  }
  out_.frames[depth_] = {at.pc, at.sp, at.fp, 0, StepKind::kLast};
  out_.count = depth_;
  out_.end = end_;
  out_.mode = mode_;
  out_.epoch = epoch_;
  count_shared();
}

void Walker::count_shared() {
  const bool same_end = previous_.end == out_.end && previous_count_ != 0;
  const uint32_t limit = same_end ? std::min(previous_count_, out_.count) : 0;
  const WalkedFrame* ours = &out_.frames[out_.count];
  const WalkedFrame* theirs = &previous_.frames[previous_count_];
  uint32_t shared = 0;
  while (shared < limit && (--ours)->pc == (--theirs)->pc) ++shared;
  out_.shared_with_previous = shared;
}

inline Registers Walker::step(Registers at) {
  if (mode_ == UnwindMode::kFramePointer) {
    return step_by_frame_pointer(at, WalkEnd::kBadFramePointer);
  }
  const RuleToken token = rule_cache_find(at.pc, epoch_);
  if (is_inline(token)) [[likely]]
    return step_by_token(at, token);
  return token != 0 ? step_by_rule(at, rule_cache_wide_rule(token)) : step_by_lookup(at);
}

inline Registers Walker::step_by_token(Registers at, RuleToken token) {
  const bool from_fp = token_is_from_fp(token);
  const uintptr_t cfa = (from_fp ? at.fp : at.sp) + token_cfa_offset(token);
  const int32_t fp_offset = token_fp_offset(token);
  const bool fp_is_saved = fp_offset != -static_cast<int32_t>(kReturnAddressBytes);
  if (cfa <= at.sp) [[unlikely]]
    return finish(at, WalkEnd::kNotAdvancing);
  Registers caller = {0, cfa, at.fp};
  if (!memory_.load(cfa - kReturnAddressBytes, caller.pc) ||
      (fp_is_saved && !memory_.load(cfa + static_cast<uintptr_t>(intptr_t{fp_offset}), caller.fp)))
      [[unlikely]] {
    return finish(at, WalkEnd::kUnreadable);
  }
  return advance(at, caller, fp_is_saved ? fp_offset : 0,
                 from_fp ? StepKind::kFromFp : StepKind::kFromSp);
}

bool Walker::find_fp(const Registers& at, const UnwindRule& rule, uintptr_t cfa, uintptr_t& fp) {
  const auto offset = static_cast<uintptr_t>(static_cast<intptr_t>(rule.fp_offset));
  switch (rule.fp_place) {
    case FpPlace::kSame: fp = at.fp; return true;
    case FpPlace::kAtCfa: return memory_.load(cfa + offset, fp);
    case FpPlace::kAtFp: return memory_.load(at.fp + offset, fp);
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
  const auto offset = static_cast<uintptr_t>(static_cast<intptr_t>(rule.cfa_offset));
  uintptr_t cfa = 0;
  switch (rule.kind) {
    case RuleKind::kCfaFromSp: cfa = at.sp + offset; break;
    case RuleKind::kCfaFromFp: cfa = at.fp + offset; break;
    case RuleKind::kCfaStoredAtFp:
      if (!memory_.load(at.fp + offset, cfa)) return finish(at, WalkEnd::kUnreadable);
      break;
    case RuleKind::kOutermost: return finish(at, WalkEnd::kComplete);
    case RuleKind::kSignalFrame: return step_over_signal(at);
    case RuleKind::kNotCovered: return step_without_information(at);
    case RuleKind::kUnsupported:
    case RuleKind::kNone: return finish(at, WalkEnd::kUnsupportedRule);
  }
  if (cfa <= at.sp) return finish(at, WalkEnd::kNotAdvancing);
  Registers caller = {0, cfa, 0};
  if (!memory_.load(cfa - kReturnAddressBytes, caller.pc) ||
      !find_fp(at, rule, cfa, caller.fp)) {
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
  return advance(at, caller, -2 * static_cast<int32_t>(sizeof(uintptr_t)),
                 StepKind::kFramePointer);
}

// A cold pc: some 300 ns, once for each pc.
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
  rule_cache_insert(at.pc, epoch_, rule);
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
             return_address.place == Place::kUnsupported ||
             return_address.place == Place::kSame) {
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

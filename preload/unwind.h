// SPDX-License-Identifier: Apache-2.0
// Walks the calling thread's stack in place, without locks, allocation or libunwind.
//
// A frame's caller is found, in this order: by the record of the thread's previous walk (most
// samples of a thread share nearly all their frames); by the rule cache; by interpreting
// .eh_frame; and for code without call frame information by a checked frame-pointer step.
//
// Called by the sampled path and the signal-driven samplers. Threads: any; each walk has its own
// `Walk`s. Signals: safe. Allocates: no. Blocks: no. errno: kept. Stack: 0.6 KiB with
// warm rules, 1.2 KiB for a cold pc.
// Fails: never; a walk says how it ended.
#pragma once

#include <cstdint>

#include "preload/stack_memory.h"

namespace mprof::preload {

inline constexpr uint32_t kMaxDepth = 256;

// Where a walk starts: in the CALLER of a hook, so pc is the hook's return address, sp the stack
// pointer after that return, fp the caller's rbp. For a context that a signal interrupted:
// its registers, with pc + 1.
struct Registers {
  uintptr_t pc = 0;
  uintptr_t sp = 0;
  uintptr_t fp = 0;
};

enum class UnwindMode : uint8_t {
  kAuto,          // call frame information; a frame-pointer step where there is none
  kFramePointer,  // frame pointers only
  kDwarf,         // call frame information only
};

enum class WalkEnd : uint8_t {
  kNone,             // no walk yet: what a zeroed Walk says
  kComplete,         // the outermost frame was reached
  kTruncated,        // max_depth frames, and there are more
  kNoUnwindInfo,     // no information for the last frame's pc, and no usable frame pointer
  kUnsupportedRule,  // the last frame's rule needs a register that is not followed
  kBadUnwindInfo,    // the last frame's information is malformed
  kBadFramePointer,  // kFramePointer only: rbp does not lead to a frame
  kUnreadable,       // the caller's return address is not in readable memory
  kNotAdvancing,     // the caller would not be above the last frame
};
inline constexpr int kWalkEnds = 9;

// How a frame's caller was found, which decides when the next walk may repeat the step.
enum class StepKind : uint32_t {
  kLast = 0,      // it was not: the walk ended here
  kOther,         // a rule that depends on memory: to be evaluated each time
  kOutermost,     // there is none, by the rule of its pc
  kFramePointer,  // a frame-pointer step that was checked: its result must be the same, too
  kFromSp,        // the same pc and sp lead to the same place
  kFromFp,        // the same pc, sp and fp do
};

// One frame. All pcs are "like a return address": the instruction is the one that ends at pc, so
// that lookups always use pc - 1. The exact pc of a frame that a signal interrupted is stored as
// pc + 1.
struct WalkedFrame {
  uintptr_t pc;
  uintptr_t sp;  // the CFA of this frame is the next frame's sp, the return address just below
  uintptr_t fp;
  int32_t fp_slot;  // the caller's rbp is saved at the next frame's sp + fp_slot; 0: unchanged
  StepKind step;
};
static_assert(sizeof(WalkedFrame) == 32, "two frames in a cache line");

// A finished walk, innermost frame first. Zeroed is valid and empty. Keep two for each thread
// (8 KiB each, touched only as deep as the stacks are) and swap them.
struct Walk {
  uint32_t count;
  WalkEnd end;
  UnwindMode mode;
  uint32_t epoch;  // the rule cache's, when the walk started
  // So many outermost frames have the pcs that they had in the previous walk, and both walks end
  // the same way. What was computed for that prefix, from the outermost frame on, holds again.
  uint32_t shared_with_previous;
  StackWindow window;                 // the walker's scratch
  WalkedFrame frames[kMaxDepth + 1];  // and one more, whose sp is the last frame's CFA
};

// Walks from `start`, at most `max_depth` (clamped to 1 .. kMaxDepth) frames. `previous` is the
// thread's last walk, or empty; it only makes the walk faster, never different.
void walk_stack(const Registers& start, const StackBounds& bounds, UnwindMode mode,
                uint32_t max_depth, const Walk& previous, Walk& out);

}  // namespace mprof::preload

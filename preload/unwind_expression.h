// SPDX-License-Identifier: Apache-2.0
// Evaluates the DWARF expressions of call frame information: PLT stubs, realigned frames, and
// what hand-written assembly says. Untrusted bytes: bounded steps, bounded stack, checked reads.
#pragma once

#include <cstdint>

#include "preload/stack_memory.h"
#include "preload/unwind.h"

namespace mprof::preload {

// `at.pc` is a return address, as everywhere in a walk; DW_OP_breg16 gives the address before it,
// which is the exact one where it matters: in a PLT stub that a signal interrupted.
class ExpressionMachine {
 public:
  ExpressionMachine(const Registers& at, StackMemory& memory) : at_(at), memory_(memory) {}

  void push(uintptr_t value);
  // False: malformed, an operation or a register that is not known here, or unreadable memory.
  bool evaluate(const uint8_t* expression, uint32_t bytes, uintptr_t& result);

 private:
  static constexpr uint32_t kMaxStack = 16;
  static constexpr uint32_t kMaxSteps = 256;

  struct Code;
  bool step(Code& code);
  bool step_constant(Code& code, uint8_t opcode);
  bool step_stack(Code& code, uint8_t opcode);
  bool step_unary(Code& code, uint8_t opcode);
  bool step_binary(uint8_t opcode);
  bool step_branch(Code& code, uint8_t opcode);
  void push_register(uint64_t reg, int64_t offset);
  void push_dereferenced(uint8_t bytes);
  void pick(uint32_t depth);
  uintptr_t pop();

  const Registers& at_;
  StackMemory& memory_;
  bool failed_ = false;
  uint32_t count_ = 0;
  uintptr_t stack_[kMaxStack];
};

}  // namespace mprof::preload

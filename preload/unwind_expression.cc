// SPDX-License-Identifier: Apache-2.0
#include "preload/unwind_expression.h"

#include "preload/eh_frame.h"

namespace mprof::preload {

struct ExpressionMachine::Code {
  ByteCursor cursor;
  const uint8_t* begin;
};

void ExpressionMachine::push(uintptr_t value) {
  if (count_ == kMaxStack) {
    failed_ = true;
    return;
  }
  stack_[count_++] = value;
}

uintptr_t ExpressionMachine::pop() {
  if (count_ == 0) {
    failed_ = true;
    return 0;
  }
  return stack_[--count_];
}

void ExpressionMachine::pick(uint32_t depth) {
  if (depth >= count_) {
    failed_ = true;
    return;
  }
  push(stack_[count_ - 1 - depth]);
}

void ExpressionMachine::push_register(uint64_t reg, int64_t offset) {
  uintptr_t value = 0;
  switch (reg) {
    case 6: value = at_.fp; break;
    case 7: value = at_.sp; break;
    case 16: value = at_.pc - 1; break;
    default: failed_ = true; return;
  }
  push(value + static_cast<uintptr_t>(offset));
}

void ExpressionMachine::push_dereferenced(uint8_t bytes) {
  uintptr_t value = 0;
  if (bytes == 0 || bytes > sizeof(value) || !memory_.load(pop(), value)) {
    failed_ = true;
    return;
  }
  push(bytes == sizeof(value) ? value : value & ((uintptr_t{1} << bytes * 8) - 1));
}

bool ExpressionMachine::step_constant(Code& code, uint8_t opcode) {
  ByteCursor& cursor = code.cursor;
  if (opcode >= 0x30 && opcode <= 0x4f) return push(opcode - 0x30u), true;  // lit0 .. lit31
  if (opcode >= 0x70 && opcode <= 0x8f) {                                   // breg0 .. breg31
    push_register(opcode - 0x70u, cursor.read_sleb128());
    return true;
  }
  switch (opcode) {
    case 0x03: push(cursor.read<uintptr_t>()); return true;
    case 0x08: push(cursor.read<uint8_t>()); return true;
    case 0x09: push(static_cast<uintptr_t>(intptr_t{cursor.read<int8_t>()})); return true;
    case 0x0a: push(cursor.read<uint16_t>()); return true;
    case 0x0b: push(static_cast<uintptr_t>(intptr_t{cursor.read<int16_t>()})); return true;
    case 0x0c: push(cursor.read<uint32_t>()); return true;
    case 0x0d: push(static_cast<uintptr_t>(intptr_t{cursor.read<int32_t>()})); return true;
    case 0x0e:
    case 0x0f: push(cursor.read<uint64_t>()); return true;
    case 0x10: push(cursor.read_uleb128()); return true;
    case 0x11: push(static_cast<uintptr_t>(cursor.read_sleb128())); return true;
    case 0x92: {  // bregx
      const uint64_t reg = cursor.read_uleb128();
      push_register(reg, cursor.read_sleb128());
      return true;
    }
    default: return false;
  }
}

bool ExpressionMachine::step_stack(Code& code, uint8_t opcode) {
  switch (opcode) {
    case 0x12: pick(0); return true;                            // dup
    case 0x13: pop(); return true;                              // drop
    case 0x14: pick(1); return true;                            // over
    case 0x15: pick(code.cursor.read<uint8_t>()); return true;  // pick
    case 0x16: {                                                // swap
      const uintptr_t top = pop();
      const uintptr_t second = pop();
      push(top);
      push(second);
      return true;
    }
    case 0x17: {  // rot: the top goes below the next two
      const uintptr_t top = pop();
      const uintptr_t second = pop();
      const uintptr_t third = pop();
      push(top);
      push(third);
      push(second);
      return true;
    }
    default: return false;
  }
}

bool ExpressionMachine::step_unary(Code& code, uint8_t opcode) {
  switch (opcode) {
    case 0x96: return true;  // nop
    case 0x06: push_dereferenced(sizeof(uintptr_t)); return true;
    case 0x94: push_dereferenced(code.cursor.read<uint8_t>()); return true;
    case 0x19: {  // abs
      const uintptr_t value = pop();
      push(static_cast<intptr_t>(value) < 0 ? -value : value);
      return true;
    }
    case 0x1f: push(-pop()); return true;
    case 0x20: push(~pop()); return true;
    case 0x23: push(pop() + code.cursor.read_uleb128()); return true;  // plus_uconst
    default: return false;
  }
}

namespace {

intptr_t as_signed(uintptr_t value) { return static_cast<intptr_t>(value); }

uintptr_t shifted(uint8_t opcode, uintptr_t value, uintptr_t by) {
  if (by >= 64) return opcode == 0x26 && as_signed(value) < 0 ? ~uintptr_t{0} : 0;
  switch (opcode) {
    case 0x24: return value << by;
    case 0x25: return value >> by;
    default: return static_cast<uintptr_t>(as_signed(value) >> by);
  }
}

// Division by zero, and the one quotient that does not fit, have no value.
bool divide(uint8_t opcode, uintptr_t left, uintptr_t right, uintptr_t& result) {
  if (right == 0) return false;
  if (opcode == 0x1d) return result = left % right, true;
  if (as_signed(right) == -1) return result = -left, true;
  result = static_cast<uintptr_t>(as_signed(left) / as_signed(right));
  return true;
}

bool compare(uint8_t opcode, intptr_t left, intptr_t right) {
  switch (opcode) {
    case 0x29: return left == right;
    case 0x2a: return left >= right;
    case 0x2b: return left > right;
    case 0x2c: return left <= right;
    case 0x2d: return left < right;
    default: return left != right;
  }
}

}  // namespace

bool ExpressionMachine::step_binary(uint8_t opcode) {
  const bool known = (opcode >= 0x1a && opcode <= 0x1e) || opcode == 0x21 || opcode == 0x22 ||
                     (opcode >= 0x24 && opcode <= 0x27) || (opcode >= 0x29 && opcode <= 0x2e);
  if (!known) return false;
  const uintptr_t right = pop();
  const uintptr_t left = pop();
  uintptr_t result = 0;
  switch (opcode) {
    case 0x1a: result = left & right; break;
    case 0x1b:
    case 0x1d: failed_ |= !divide(opcode, left, right, result); break;
    case 0x1c: result = left - right; break;
    case 0x1e: result = left * right; break;
    case 0x21: result = left | right; break;
    case 0x22: result = left + right; break;
    case 0x24:
    case 0x25:
    case 0x26: result = shifted(opcode, left, right); break;
    case 0x27: result = left ^ right; break;
    default: result = compare(opcode, as_signed(left), as_signed(right)) ? 1 : 0; break;
  }
  push(result);
  return true;
}

bool ExpressionMachine::step_branch(Code& code, uint8_t opcode) {
  if (opcode != 0x28 && opcode != 0x2f) return false;  // bra, skip
  const auto distance = code.cursor.read<int16_t>();
  if (opcode == 0x28 && pop() == 0) return true;
  const auto position = code.cursor.at() - code.begin + distance;
  if (position < 0 || position > code.cursor.end() - code.begin) {
    failed_ = true;
    return true;
  }
  code.cursor = ByteCursor(code.begin + position, code.cursor.end());
  return true;
}

bool ExpressionMachine::step(Code& code) {
  const auto opcode = code.cursor.read<uint8_t>();
  const bool known = step_constant(code, opcode) || step_stack(code, opcode) ||
                     step_unary(code, opcode) || step_binary(opcode) || step_branch(code, opcode);
  return known && !failed_ && !code.cursor.failed();
}

bool ExpressionMachine::evaluate(const uint8_t* expression, uint32_t bytes, uintptr_t& result) {
  Code code{ByteCursor(expression, expression + bytes), expression};
  uint32_t steps = 0;
  while (!code.cursor.at_end()) {
    if (++steps > kMaxSteps || !step(code)) return false;
  }
  result = pop();
  return !failed_;
}

}  // namespace mprof::preload

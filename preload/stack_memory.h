// SPDX-License-Identifier: Apache-2.0
// Reads words of the walked stack, and never faults.
//
// Addresses come from registers and stack words of somebody else's program, so any of them may
// be garbage. Between the walker's own frame and the end of this thread's stack everything is
// mapped: those are plain loads. All else is asked of the kernel (process_vm_readv on ourselves:
// it answers EFAULT where a load would fault), one small window at a time.
//
// Threads: one reader each. Signals: safe. Allocates: no. Blocks: no. errno: kept.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mprof::preload {

// The addresses of a thread's stack, guard pages not included. {0, 0}: not known.
struct StackBounds {
  uintptr_t low = 0;
  uintptr_t high = 0;
};

// What was last read through the kernel. It belongs to the caller of a walk, who has room for it:
// a signal stack may be 2 KiB in all.
struct StackWindow {
  int32_t pid;  // ours, once it was needed in this walk; getpid() is a system call
  uintptr_t low;
  size_t size_bytes;
  unsigned char bytes[2024];
};

// The addresses at which a word may be loaded directly.
struct DirectRange {
  uintptr_t low = 0;
  size_t count = 0;

  [[nodiscard]] bool has(uintptr_t address) const { return address - low < count; }
};

// Loads the word at an address that a DirectRange has. The sanitizer's red zones on the stack
// are legal to read here, and the words there need not be aligned.
[[gnu::no_sanitize_address]] inline uintptr_t load_word(uintptr_t address) {
  struct [[gnu::packed, gnu::may_alias]] Word {
    uintptr_t value;
  };
  return reinterpret_cast<const Word*>(address)->value;
}

class StackMemory {
 public:
  // `own_frame` is an address in the walker's own frame. Below it, a main thread's stack may not
  // be mapped yet; and when it is outside the bounds, this code runs on another stack (a fiber's,
  // a signal's) and the bounds say nothing about that.
  StackMemory(const StackBounds& bounds, uintptr_t own_frame, StackWindow& window);

  // False: not readable.
  bool load(uintptr_t address, uintptr_t& value) {
    if (!direct_.has(address)) [[unlikely]]
      return load_from_window(address, value);
    value = load_word(address);
    return true;
  }

  [[nodiscard]] const DirectRange& direct() const { return direct_; }

 private:
  [[gnu::cold, gnu::noinline]] bool load_from_window(uintptr_t address, uintptr_t& value);
  bool fill_window(uintptr_t address);

  DirectRange direct_;
  StackWindow& window_;
};

}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
#include "preload/stack_memory.h"

#include <algorithm>
#include <cstring>

#include "preload/sys.h"

namespace mprof::preload {

namespace {
constexpr uintptr_t kPageBytes = 4096;
constexpr size_t kWordBytes = sizeof(uintptr_t);
}  // namespace

StackMemory::StackMemory(const StackBounds& bounds, uintptr_t own_frame, StackWindow& window)
    : window_(window) {
  window_.size_bytes = 0;  // what it holds is from another walk
  window_.pid = 0;
  if (own_frame < bounds.low || own_frame >= bounds.high) return;
  if (bounds.high - own_frame < kWordBytes) return;
  direct_ = {own_frame, bounds.high - own_frame - (kWordBytes - 1)};
}

bool StackMemory::load_from_window(uintptr_t address, uintptr_t& value) {
  const bool is_inside =
      window_.size_bytes >= kWordBytes && address - window_.low <= window_.size_bytes - kWordBytes;
  if (!is_inside && !fill_window(address)) return false;
  memcpy(&value, window_.bytes + (address - window_.low), kWordBytes);
  return true;
}

// A window ends at its page's end: the next page may be unreadable, or may cost a page fault.
bool StackMemory::fill_window(uintptr_t address) {
  const size_t to_page_end = kPageBytes - address % kPageBytes;
  const size_t wanted = std::max(std::min(sizeof(window_.bytes), to_page_end), kWordBytes);
  if (address + wanted < address) return false;
  if (window_.pid == 0) window_.pid = sys::getpid();
  const iovec to = {window_.bytes, wanted};
  const iovec from = {reinterpret_cast<void*>(address), wanted};
  const long got = sys::process_vm_readv(window_.pid, &to, &from);
  window_.low = address;
  window_.size_bytes = got > 0 ? static_cast<size_t>(got) : 0;
  return window_.size_bytes >= kWordBytes;
}

}  // namespace mprof::preload

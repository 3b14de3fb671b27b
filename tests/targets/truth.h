// SPDX-License-Identifier: Apache-2.0
// What a program that knows its own truth is made of: allocation sites that count themselves.
//
// A site is one function and one size, so that a profile names it by function. Counting and
// printing use no memory of the heap: the truth holds nothing but what the sites took.
#pragma once

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

namespace truth {

struct SiteCounts {
  uint64_t allocated;
  uint64_t freed;
  uint64_t at_peak;
};

// Blocks of one site that are still allocated, linked through their own first word.
struct Block {
  Block* next;
};
struct Chain {
  Block* first = nullptr;
  void push(void* memory) {
    auto* block = static_cast<Block*>(memory);
    block->next = first;
    first = block;
  }
  void* pop() {
    Block* block = first;
    first = block->next;
    return block;
  }
};

template <size_t size_bytes>
[[gnu::noinline]] void* site() {
  void* block = malloc(size_bytes);
  // Not a tail call, or the site would not be on the stack.
  asm volatile("" : : "r"(block) : "memory");
  return block;
}

// Text for stdout, without stdio's buffer, which would come from the heap.
class Output {
 public:
  ~Output() {
    for (size_t done = 0; done < used_;) {
      const ssize_t wrote = ::write(1, text_ + done, used_ - done);
      if (wrote <= 0) _exit(9);
      done += static_cast<size_t>(wrote);
    }
  }
  [[gnu::format(printf, 2, 3)]] void add(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    used_ += static_cast<size_t>(vsnprintf(text_ + used_, sizeof text_ - used_, format, arguments));
    va_end(arguments);
  }

 private:
  char text_[8192];
  size_t used_ = 0;
};

inline void print_site(Output& out, size_t size_bytes, const SiteCounts& counts, bool last) {
  const auto bytes = [size_bytes](uint64_t objects) {
    return static_cast<unsigned long long>(objects * size_bytes);
  };
  const uint64_t live = counts.allocated - counts.freed;
  out.add(
      "\"%zu\": {\"alloc_objects\": %llu, \"alloc_bytes\": %llu, \"inuse_objects\": %llu, "
      "\"inuse_bytes\": %llu, \"peak_objects\": %llu, \"peak_bytes\": %llu}%s\n",
      size_bytes, static_cast<unsigned long long>(counts.allocated), bytes(counts.allocated),
      static_cast<unsigned long long>(live), bytes(live),
      static_cast<unsigned long long>(counts.at_peak), bytes(counts.at_peak), last ? "" : ",");
}

}  // namespace truth

// SPDX-License-Identifier: Apache-2.0
// An allocation three inlined functions deep: a profile must show all of them.
#include <stdlib.h>

namespace shop {

[[gnu::always_inline]] inline void* innermost_inline(size_t bytes) {
  void* block = malloc(bytes);
  asm volatile("" : : "r"(block) : "memory");
  return block;
}
[[gnu::always_inline]] inline void* middle_inline(size_t bytes) {
  return innermost_inline(bytes * 2);
}

struct Shelf {
  template <typename Item>
  [[gnu::noinline]] void* store(size_t count) {
    return middle_inline(count * sizeof(Item));
  }
};

}  // namespace shop

int main() {
  shop::Shelf shelf;
  return shelf.store<double>(100) == nullptr ? 1 : 0;
}

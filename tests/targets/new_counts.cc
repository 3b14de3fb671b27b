// SPDX-License-Identifier: Apache-2.0
// Each form of operator new and delete once, from a function of its own, and prints what a profile
// must say about it: name, allocated objects and bytes, objects and bytes still in use.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <new>

namespace {

constexpr auto kAlignment = std::align_val_t(64);

void says(const char* site, int objects, int bytes, int live_objects, int live_bytes) {
  printf("%s %d %d %d %d\n", site, objects, bytes, live_objects, live_bytes);
}
void keep(void* block) { asm volatile("" : : "r"(block) : "memory"); }

}  // namespace

#define SITE extern "C" [[gnu::noinline]] void

SITE new_plain() { keep(::operator new(101)); }
SITE new_array() { keep(::operator new[](202)); }
SITE new_nothrow() { keep(::operator new(303, std::nothrow)); }
SITE new_array_nothrow() { keep(::operator new[](404, std::nothrow)); }
SITE new_aligned() { keep(::operator new(512, kAlignment)); }
SITE new_array_aligned() { keep(::operator new[](640, kAlignment)); }
SITE new_aligned_nothrow() { keep(::operator new(704, kAlignment, std::nothrow)); }
SITE new_array_aligned_nothrow() { keep(::operator new[](832, kAlignment, std::nothrow)); }

SITE delete_plain() { ::operator delete(::operator new(1001)); }
SITE delete_array() { ::operator delete[](::operator new[](1002)); }
SITE delete_sized() { ::operator delete(::operator new(1003), size_t(1003)); }
SITE delete_array_sized() { ::operator delete[](::operator new[](1004), size_t(1004)); }
SITE delete_nothrow() { ::operator delete(::operator new(1005, std::nothrow), std::nothrow); }
SITE delete_array_nothrow() {
  ::operator delete[](::operator new[](1006, std::nothrow), std::nothrow);
}
SITE delete_aligned() { ::operator delete(::operator new(1024, kAlignment), kAlignment); }
SITE delete_array_aligned() { ::operator delete[](::operator new[](1088, kAlignment), kAlignment); }
SITE delete_sized_aligned() {
  ::operator delete(::operator new(1152, kAlignment), size_t(1152), kAlignment);
}
SITE delete_array_sized_aligned() {
  ::operator delete[](::operator new[](1216, kAlignment), size_t(1216), kAlignment);
}
SITE new_failing() {
  volatile size_t too_much = PTRDIFF_MAX;
  try {
    keep(::operator new(too_much));
    __builtin_abort();
  } catch (const std::bad_alloc&) {
  }
}
SITE new_failing_nothrow() {
  volatile size_t too_much = PTRDIFF_MAX;
  if (::operator new(too_much, std::nothrow) != nullptr) __builtin_abort();
}
SITE new_expression() {
  struct Point {
    double x, y, z;
  };
  keep(new Point{1, 2, 3});
}

// mimalloc as the distributions build it cannot throw: it aborts, with and without a profiler.
// So only when asked: new_counts failing
int main(int argc, char** argv) {
  // The exception object itself is a block too, allocated and freed below new_failing.
  if (argc > 1 && strcmp(argv[1], "failing") == 0) new_failing();
  new_plain(), says("new_plain", 1, 101, 1, 101);
  new_array(), says("new_array", 1, 202, 1, 202);
  new_nothrow(), says("new_nothrow", 1, 303, 1, 303);
  new_array_nothrow(), says("new_array_nothrow", 1, 404, 1, 404);
  new_aligned(), says("new_aligned", 1, 512, 1, 512);
  new_array_aligned(), says("new_array_aligned", 1, 640, 1, 640);
  new_aligned_nothrow(), says("new_aligned_nothrow", 1, 704, 1, 704);
  new_array_aligned_nothrow(), says("new_array_aligned_nothrow", 1, 832, 1, 832);
  delete_plain(), says("delete_plain", 1, 1001, 0, 0);
  delete_array(), says("delete_array", 1, 1002, 0, 0);
  delete_sized(), says("delete_sized", 1, 1003, 0, 0);
  delete_array_sized(), says("delete_array_sized", 1, 1004, 0, 0);
  delete_nothrow(), says("delete_nothrow", 1, 1005, 0, 0);
  delete_array_nothrow(), says("delete_array_nothrow", 1, 1006, 0, 0);
  delete_aligned(), says("delete_aligned", 1, 1024, 0, 0);
  delete_array_aligned(), says("delete_array_aligned", 1, 1088, 0, 0);
  delete_sized_aligned(), says("delete_sized_aligned", 1, 1152, 0, 0);
  delete_array_sized_aligned(), says("delete_array_sized_aligned", 1, 1216, 0, 0);
  new_failing_nothrow(), says("new_failing_nothrow", 0, 0, 0, 0);
  new_expression(), says("new_expression", 1, 24, 1, 24);
}

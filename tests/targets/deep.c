// SPDX-License-Identifier: Apache-2.0
// Allocates at a known depth of recursion: deep DEPTH. Built with and without frame pointers.
#include <stdlib.h>

__attribute__((noinline, noclone, used)) void deep_leaf(void) {
  void* block = malloc(5000);
  __asm__ volatile("" : : "r"(block) : "memory");
}

__attribute__((noinline, noclone, used)) void deep_step(volatile int* left) {
  if (--*left > 0)
    deep_step(left);
  else
    deep_leaf();
  __asm__ volatile("");  // no tail call
}

int main(int argc, char** argv) {
  volatile int left = argc > 1 ? atoi(argv[1]) : 10;
  deep_step(&left);
  return 0;
}

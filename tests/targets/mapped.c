// SPDX-License-Identifier: Apache-2.0
// Maps and unmaps anonymous memory, in parts too: what MPROF_MMAP=1 must follow.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { kMiB = 1 << 20 };

static void* map(size_t bytes) {
  void* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  return memory;
}

__attribute__((noinline, used)) void maps_and_keeps(void) { *(char*)map(3 * kMiB) = 1; }
__attribute__((noinline, used)) void maps_and_unmaps(void) { munmap(map(5 * kMiB), 5 * kMiB); }
// A hole in the middle: 8 MiB less 2 MiB stay, in two pieces.
__attribute__((noinline, used)) void maps_and_cuts(void) {
  munmap((char*)map(8 * kMiB) + 2 * kMiB, 2 * kMiB);
}
__attribute__((noinline, used)) void maps_and_remaps(void) {
  if (mremap(map(4 * kMiB), 4 * kMiB, 16 * kMiB, MREMAP_MAYMOVE) == MAP_FAILED) abort();
}

int main(void) {
  maps_and_keeps();
  maps_and_unmaps();
  maps_and_cuts();
  maps_and_remaps();
  return 0;
}

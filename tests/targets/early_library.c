// SPDX-License-Identifier: Apache-2.0
// A library whose constructor and destructor allocate. Its constructor runs before the one of a
// preloaded library when the loader orders it so, its destructor after main.
#include <stdlib.h>
#include <string.h>

char* early_block;

__attribute__((noinline, used)) void from_library_constructor(void) {
  early_block = malloc(2001);
  strcpy(early_block, "made early");
  free(malloc(2002));
}

__attribute__((noinline, used)) void from_library_destructor(void) {
  void* block = malloc(2003);
  __asm__ volatile("" : : "r"(block) : "memory");
}

__attribute__((constructor(101))) static void construct(void) {
  from_library_constructor();
  __asm__ volatile("");
}

__attribute__((destructor)) static void destruct(void) {
  from_library_destructor();
  free(early_block);
}

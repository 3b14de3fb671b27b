// SPDX-License-Identifier: Apache-2.0
// Compiled twice, as two plug-ins of the same layout whose functions have different names.
#include <stdlib.h>

__attribute__((noinline, used)) void SITE_NAME(void) {
  void* block = malloc(SITE_BYTES);
  __asm__ volatile("" : : "r"(block) : "memory");
}

void plugin_call(void) {
  SITE_NAME();
  __asm__ volatile("");
}

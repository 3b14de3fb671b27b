// SPDX-License-Identifier: Apache-2.0
// Linked statically: no preloaded library can see its allocations.
#include <stdio.h>
#include <stdlib.h>

int main(void) {
  void* block = malloc(1000);
  printf("%s\n", block == NULL ? "no memory" : "static");
  free(block);
  return 0;
}

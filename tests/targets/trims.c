// SPDX-License-Identifier: Apache-2.0
// Gives memory back while a trace is on: first nothing, then 32 MiB from within the heap, then as
// much from its end. Prints what malloc_trim answered.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "preload/mprof.h"

enum { kBlocks = 512, kBlockBytes = 65536 };
static char* blocks[kBlocks];

static void* grow(void) {
  for (int i = 0; i < kBlocks; ++i) {
    blocks[i] = malloc(kBlockBytes);
    if (blocks[i] == NULL) exit(2);
    memset(blocks[i], i, kBlockBytes);
  }
  return malloc(1000);
}
static void shrink(void) {
  for (int i = 0; i < kBlocks; ++i) free(blocks[i]);
}

int main(void) {
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  malloc_trim(0);
  if (mprof_trace_start() != 0) return 1;
  printf("%d", malloc_trim(0));
  void* at_the_end = grow();
  shrink();
  printf("%d", malloc_trim(0));
  grow();
  free(at_the_end);
  shrink();
  printf("%d\n", malloc_trim(0));
  return mprof_trace_stop();
}

// SPDX-License-Identifier: Apache-2.0
// An executable with an allocator of its own, as with a statically linked jemalloc: it answers its
// own calls, whatever is preloaded.
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static _Alignas(16) char arena[1 << 20];
static size_t used;

void* malloc(size_t bytes) {
  const size_t rounded = (bytes + 15) & ~(size_t)15;
  if (bytes > sizeof arena || rounded > sizeof arena - used) return NULL;
  void* block = arena + used;
  used += rounded;
  return block;
}
void free(void* block) { (void)block; }
void* calloc(size_t count, size_t bytes) { return malloc(count * bytes); }
void* realloc(void* block, size_t bytes) {
  void* grown = malloc(bytes);
  if (block != NULL && grown != NULL) memcpy(grown, block, bytes);
  return grown;
}

int main(void) {
  void* volatile block = malloc(1000);
  printf("%s\n", (char*)block >= arena && (char*)block < arena + sizeof arena ? "own" : "other");
  free(block);
  return 0;
}

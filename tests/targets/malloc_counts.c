// SPDX-License-Identifier: Apache-2.0
// Each function of the malloc family once, from a function of its own, and prints what a profile
// must say about it: name, allocated objects and bytes, objects and bytes still in use.
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define SITE __attribute__((noinline, noclone, used)) static void
// Stops the compiler from turning the call into a tail call or removing it.
#define USE(block) __asm__ volatile("" : : "r"(block) : "memory")

static volatile size_t zero = 0;
static void* kept[64];
static int kept_count;
static void keep(void* block) { kept[kept_count++] = block; }

static void says(const char* site, int objects, int bytes, int live_objects, int live_bytes) {
  printf("%s %d %d %d %d\n", site, objects, bytes, live_objects, live_bytes);
}

SITE via_malloc(void) { keep(malloc(101)); }
SITE via_malloc_zero(void) { keep(malloc(zero)); }
SITE via_calloc(void) { keep(calloc(7, 13)); }
SITE via_realloc_fresh(void) { keep(realloc(NULL, 303)); }
SITE via_realloc_grow(void) {
  void* block = malloc(400);
  USE(block);
  keep(realloc(block, 40000));
}
SITE via_realloc_shrink(void) {
  void* block = malloc(50000);
  USE(block);
  keep(realloc(block, 50));
}
SITE via_realloc_zero(void) {
  void* block = malloc(606);
  USE(block);
  free(realloc(block, zero));
}
SITE via_realloc_failing(void) {
  void* block = malloc(707);
  USE(block);
  if (realloc(block, (size_t)-1 - zero) != NULL) abort();
  keep(block);
}
SITE via_reallocarray(void) {
  void* block = reallocarray(NULL, 11, 70);
  USE(block);
  keep(reallocarray(block, 11, 80));
}
SITE via_memalign(void) { keep(memalign(64, 909)); }
SITE via_aligned_alloc(void) { keep(aligned_alloc(128, 1024)); }
SITE via_posix_memalign(void) {
  void* block = NULL;
  if (posix_memalign(&block, 256, 1111) != 0) abort();
  keep(block);
}
SITE via_valloc(void) { keep(valloc(1212)); }
SITE via_malloc_failing(void) {
  void* block = malloc((size_t)-1 - zero);
  if (block != NULL) abort();
}
SITE via_calloc_failing(void) {
  void* block = calloc((size_t)-1 - zero, 8);
  if (block != NULL) abort();
}
SITE via_free(void) {
  void* block = malloc(1515);
  USE(block);
  free(block);
}

typedef void FreeSized(void*, size_t);
typedef void FreeAlignedSized(void*, size_t, size_t);
typedef void Free(void*);

// Functions that a C library may or may not have: looked up, as a program would that works with
// both.
SITE via_free_sized(void* function) {
  void* block = malloc(1616);
  USE(block);
  ((FreeSized*)function)(block, 1616);
}
SITE via_free_aligned_sized(void* function) {
  void* block = aligned_alloc(64, 1728);
  USE(block);
  ((FreeAlignedSized*)function)(block, 64, 1728);
}
SITE via_cfree(void* function) {
  void* block = malloc(1818);
  USE(block);
  ((Free*)function)(block);
}
// Whole pages are what pvalloc gives, and so what it is asked for.
SITE via_pvalloc(void) { keep(pvalloc(4096)); }

static void optional_functions(void) {
  void* function = dlsym(RTLD_DEFAULT, "free_sized");
  if (function != NULL) via_free_sized(function), says("via_free_sized", 1, 1616, 0, 0);
  function = dlsym(RTLD_DEFAULT, "free_aligned_sized");
  if (function != NULL)
    via_free_aligned_sized(function), says("via_free_aligned_sized", 1, 1728, 0, 0);
  function = dlsym(RTLD_DEFAULT, "cfree");
  if (function != NULL) via_cfree(function), says("via_cfree", 1, 1818, 0, 0);
}

int main(void) {
  via_malloc(), says("via_malloc", 1, 101, 1, 101);
  via_malloc_zero(), says("via_malloc_zero", 1, 0, 1, 0);
  via_calloc(), says("via_calloc", 1, 91, 1, 91);
  via_realloc_fresh(), says("via_realloc_fresh", 1, 303, 1, 303);
  via_realloc_grow(), says("via_realloc_grow", 2, 40400, 1, 40000);
  via_realloc_shrink(), says("via_realloc_shrink", 2, 50050, 1, 50);
  via_realloc_failing(), says("via_realloc_failing", 1, 707, 1, 707);
  via_reallocarray(), says("via_reallocarray", 2, 770 + 880, 1, 880);
  via_memalign(), says("via_memalign", 1, 909, 1, 909);
  via_aligned_alloc(), says("via_aligned_alloc", 1, 1024, 1, 1024);
  via_posix_memalign(), says("via_posix_memalign", 1, 1111, 1, 1111);
  via_valloc(), says("via_valloc", 1, 1212, 1, 1212);
  via_pvalloc(), says("via_pvalloc", 1, 4096, 1, 4096);
  via_malloc_failing(), says("via_malloc_failing", 0, 0, 0, 0);
  via_calloc_failing(), says("via_calloc_failing", 0, 0, 0, 0);
  via_free(), says("via_free", 1, 1515, 0, 0);
  optional_functions();
  // What realloc(p, 0) returns differs between allocators, and so does its number of allocations;
  // that nothing stays in use does not.
  via_realloc_zero(), says("via_realloc_zero", -1, 606, 0, 0);
  return 0;
}

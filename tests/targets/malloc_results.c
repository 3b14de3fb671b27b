// SPDX-License-Identifier: Apache-2.0
// Calls every function of the malloc family with good, odd and impossible arguments, and prints
// what a program can see of the answer. The output must be the same under the library.
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Read at run time: the compiler must neither warn about nor fold an impossible size.
static volatile size_t zero = 0, one = 1, small = 100, huge = SIZE_MAX, half = SIZE_MAX / 2 + 1;

static void show(const char* call, void* block, size_t size, size_t alignment) {
  const int error = errno;
  const int aligned = alignment == 0 || (uintptr_t)block % alignment == 0;
  if (block == NULL) {
    printf("%-44s NULL errno=%d\n", call, error);
  } else {
    memset(block, 0x5a, size);
    printf("%-44s block errno=%d aligned=%d usable=%zu\n", call, error, aligned,
           malloc_usable_size(block));
  }
  errno = 0;
}

#define SHOW(call, size, alignment)      \
  do {                                   \
    errno = 0;                           \
    void* block = (call);                \
    show(#call, block, size, alignment); \
    free(block);                         \
  } while (0)

static void show_posix_memalign(size_t alignment, size_t size) {
  void* const untouched = (void*)0x10;
  void* block = untouched;
  errno = 0;
  const int result = posix_memalign(&block, alignment, size);
  printf("posix_memalign(%zu, %zu) = %d errno=%d pointer %s\n", alignment, size, result, errno,
         block == untouched ? "untouched" : "set");
  if (result == 0) {
    printf("  aligned=%d usable=%zu\n", (uintptr_t)block % alignment == 0,
           malloc_usable_size(block));
    free(block);
  }
}

static int holds(const unsigned char* block, size_t size, unsigned char value) {
  for (size_t i = 0; i < size; i++)
    if (block[i] != value) return 0;
  return 1;
}

static void show_calloc_is_zeroed(void) {
  unsigned char* block = malloc(small * 10);
  memset(block, 0x5a, small * 10);
  free(block);
  block = calloc(small, 10 * one);
  printf("calloc after a dirty free: zeroed=%d\n", holds(block, small * 10, 0));
  free(block);
}

static void show_realloc(void) {
  unsigned char* block = malloc(small);
  memset(block, 7, small);
  errno = 0;
  printf("realloc to the impossible: %s", realloc(block, half) == NULL ? "NULL" : "block");
  printf(" errno=%d\n", errno);
  errno = 0;
  printf("reallocarray that overflows: %s",
         reallocarray(block, half, 4) == NULL ? "NULL" : "block");
  printf(" errno=%d\n", errno);
  printf("the old block after both: kept=%d\n", holds(block, small, 7));
  block = realloc(block, small * 1000);
  printf("realloc larger: kept=%d\n", holds(block, small, 7));
  block = realloc(block, small / 2);
  printf("realloc smaller: kept=%d\n", holds(block, small / 2, 7));
  block = reallocarray(block, small, 5);
  printf("reallocarray: kept=%d\n", holds(block, small / 2, 7));
  errno = 0;
  void* nothing = realloc(block, zero);
  printf("realloc to 0: %s errno=%d\n", nothing == NULL ? "NULL" : "block", errno);
  free(nothing);
}

static void show_errno_is_kept(void) {
  errno = 4242;
  void* block = malloc(small);
  block = realloc(block, small * 3);
  printf("errno after malloc and realloc: %d\n", errno);
  free(block);
  printf("errno after free: %d\n", errno);
  free(NULL);
  printf("errno after free(NULL): %d usable_size(NULL)=%zu\n", errno, malloc_usable_size(NULL));
}

// no-pvalloc: for an allocator that has none, whose free() would get a block of glibc's.
int main(int argc, char** argv) {
  SHOW(malloc(zero), 0, 16);
  SHOW(malloc(one), 1, 16);
  SHOW(malloc(small), 100, 16);
  SHOW(malloc(5000000 * one), 5000000, 16);
  SHOW(malloc(huge), 0, 16);
  SHOW(malloc(half), 0, 16);
  SHOW(malloc(half - 1), 0, 16);
  SHOW(calloc(zero, small), 0, 16);
  SHOW(calloc(small, zero), 0, 16);
  SHOW(calloc(small, small), 10000, 16);
  SHOW(calloc(half, 2 * one), 0, 16);
  SHOW(calloc(huge, huge), 0, 16);
  SHOW(realloc(NULL, zero), 0, 16);
  SHOW(realloc(NULL, small), 100, 16);
  SHOW(realloc(NULL, huge), 0, 16);
  SHOW(reallocarray(NULL, small, small), 10000, 16);
  SHOW(reallocarray(NULL, half, small), 0, 16);
  SHOW(memalign(64 * one, small), 100, 64);
  SHOW(memalign(4096 * one, small), 100, 4096);
  SHOW(memalign(48 * one, small), 100, 16);
  SHOW(memalign(64 * one, huge), 0, 64);
  SHOW(aligned_alloc(256 * one, 512 * one), 512, 256);
  SHOW(aligned_alloc(256 * one, half), 0, 256);
  SHOW(valloc(small), 100, 4096);
  SHOW(valloc(huge), 0, 4096);
  if (argc > 1 && strcmp(argv[1], "no-pvalloc") != 0) return 2;
  if (argc == 1) {
    SHOW(pvalloc(small), 4096, 4096);
    SHOW(pvalloc(huge), 0, 4096);
  }
  show_posix_memalign(64, small);
  show_posix_memalign(8192, small);
  show_posix_memalign(zero, small);
  show_posix_memalign(3, small);
  show_posix_memalign(24, small);
  show_posix_memalign(64, zero + SIZE_MAX);
  show_calloc_is_zeroed();
  show_realloc();
  show_errno_is_kept();
  return 0;
}

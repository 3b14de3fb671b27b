// SPDX-License-Identifier: Apache-2.0
// Prints its own backtrace() from several places, as names and offsets: the profiler must neither
// replace backtrace() nor show up in its answer.
#include <dlfcn.h>
#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline, used)) void print_backtrace(const char* from) {
  void* frames[64];
  const int count = backtrace(frames, 64);
  printf("%s: %d frames\n", from, count);
  for (int i = 0; i < count; i++) {
    Dl_info where = {0};
    if (dladdr(frames[i], &where) == 0) continue;
    // Offsets in the loader and the C library change with nothing here, addresses do.
    printf("  %s %s+%#zx\n", where.dli_fname, where.dli_sname == NULL ? "?" : where.dli_sname,
           (size_t)((char*)frames[i] - (char*)where.dli_fbase));
  }
}

static int compare(const void* left, const void* right) {
  static int once;
  if (once++ == 0) print_backtrace("qsort");
  return *(const int*)left - *(const int*)right;
}

int main(void) {
  int numbers[100];
  for (int i = 0; i < 100; i++) numbers[i] = (i * 37) % 100;
  free(malloc(1000));
  print_backtrace("main");
  // From below a function of the C library that calls back.
  qsort(numbers, 100, sizeof numbers[0], compare);
  Dl_info where = {0};
  if (dladdr((void*)&backtrace, &where) != 0) printf("backtrace is in %s\n", where.dli_fname);
  return 0;
}

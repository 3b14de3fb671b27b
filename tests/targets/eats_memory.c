// SPDX-License-Identifier: Apache-2.0
// Takes memory until somebody ends it: eats_memory COUNTERS. Where there is none left for it, it
// ends itself as the kernel would. COUNTERS is as that of storm.cc.
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kBytes = 100000 };

struct Counters {
  _Atomic uint64_t allocs_begun, allocs_ended, frees_begun, frees_ended, bytes_begun, bytes_ended;
  uint64_t unused[2];
};

__attribute__((noinline, used)) static void* eat(void) {
  void* block = malloc(kBytes);
  __asm__ volatile("" : : "r"(block) : "memory");
  return block;
}

int main(int argc, char** argv) {
  const int fd = open(argc > 1 ? argv[1] : "", O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(struct Counters)) != 0) return 2;
  struct Counters* counters =
      mmap(NULL, sizeof(struct Counters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (counters == MAP_FAILED) return 2;
  for (;;) {
    atomic_fetch_add(&counters->allocs_begun, 1);
    atomic_fetch_add(&counters->bytes_begun, kBytes);
    void* block = eat();
    if (block == NULL) {
      atomic_fetch_sub(&counters->allocs_begun, 1);
      atomic_fetch_sub(&counters->bytes_begun, kBytes);
      kill(getpid(), SIGKILL);
    }
    atomic_fetch_add(&counters->allocs_ended, 1);
    atomic_fetch_add(&counters->bytes_ended, kBytes);
    memset(block, 1, kBytes);
  }
}

// SPDX-License-Identifier: Apache-2.0
// Maps, cuts, moves and unmaps anonymous memory in every way there is; each site is a function of
// its own, whose totals the test knows. What the calls returned is printed, without addresses.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum { kKiB = 1 << 10, kMiB = 1 << 20 };

#define SITE __attribute__((noinline, used)) static
// A part of its site in the profile, but not a frame whose name is looked for.
#define map_at(address, bytes, flags) \
  checked(mmap(address, bytes, PROT_READ | PROT_WRITE, (flags) | MAP_ANONYMOUS, -1, 0))
#define map(bytes) map_at(NULL, bytes, MAP_PRIVATE)

static char* checked(void* memory) {
  if (memory == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  return memory;
}

static void unmap(void* memory, size_t bytes) {
  errno = 77;  // a call that succeeds leaves it alone
  const int result = munmap(memory, bytes);
  printf("munmap %d errno %d\n", result, errno);
}

SITE void keeps_private(void) { map(3 * kMiB)[0] = 1; }
SITE void keeps_shared(void) { map_at(NULL, 2 * kMiB, MAP_SHARED)[0] = 1; }
SITE void rounds_to_pages(void) { map(5000)[0] = 1; }
SITE void uses_mmap64(void) {
  checked(mmap64(NULL, kMiB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}
SITE void cuts_head(void) { unmap(map(8 * kMiB), kMiB); }
SITE void cuts_tail(void) { unmap(map(8 * kMiB) + 6 * kMiB, 2 * kMiB); }
SITE void cuts_middle(void) { unmap(map(8 * kMiB) + 2 * kMiB, 3 * kMiB); }

SITE void cuts_until_nothing_is_left(void) {
  static const int kOrder[] = {2, 0, 3, 1};
  char* memory = map(4 * kMiB);
  for (int i = 0; i < 4; i++) unmap(memory + kOrder[i] * kMiB, kMiB);
}

SITE char* reserves(void) { return map(16 * kMiB); }
SITE void commits(char* at) { map_at(at, 2 * kMiB, MAP_PRIVATE | MAP_FIXED)[0] = 1; }
static void unmaps_several_at_once(void) {
  char* memory = reserves();
  for (int i = 1; i <= 3; i++) commits(memory + i * 2 * kMiB);
  unmap(memory + kMiB, 8 * kMiB);
}

SITE void maps_a_file(void) {
  const int fd = open("/proc/self/exe", O_RDONLY);
  checked(mmap(NULL, kMiB, PROT_READ, MAP_PRIVATE, fd, 0));
  close(fd);
}

SITE void loses_a_part_to_a_file(void) {
  char* memory = map(4 * kMiB);
  const int fd = open("/proc/self/exe", O_RDONLY);
  checked(mmap(memory + kMiB, kMiB, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0));
  close(fd);
}

SITE void remaps_larger(void) {
  checked(mremap(map(4 * kMiB), 4 * kMiB, 16 * kMiB, MREMAP_MAYMOVE))[15 * kMiB] = 1;
}
SITE void remaps_smaller(void) {
  checked(mremap(map(8 * kMiB), 8 * kMiB, 3 * kMiB, MREMAP_MAYMOVE))[0] = 1;
}
SITE void remaps_to_a_fixed_place(void) {
  char* place = map(2 * kMiB);
  char* memory = map(2 * kMiB);
  memory[kMiB] = 42;
  void* moved = checked(mremap(memory, 2 * kMiB, 2 * kMiB, MREMAP_MAYMOVE | MREMAP_FIXED, place));
  printf("moved %d content %d\n", moved == place, place[kMiB]);
}
SITE void remaps_a_part(void) {
  char* memory = map(6 * kMiB);
  checked(mremap(memory + 2 * kMiB, kMiB, 3 * kMiB, MREMAP_MAYMOVE));
}
SITE void remaps_and_leaves_it_mapped(void) {
  checked(mremap(map(2 * kMiB), 2 * kMiB, 2 * kMiB, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
}
SITE void duplicates_a_shared_one(void) {
  checked(mremap(map_at(NULL, kMiB, MAP_SHARED), 0, kMiB, MREMAP_MAYMOVE));
}
SITE void remaps_a_file(void) {
  const int fd = open("/proc/self/exe", O_RDONLY);
  void* memory = checked(mmap(NULL, kMiB, PROT_READ, MAP_PRIVATE, fd, 0));
  checked(mremap(memory, kMiB, 2 * kMiB, MREMAP_MAYMOVE));
  close(fd);
}

// Nothing of this may change what is counted.
SITE void fails(void) {
  char* memory = map(8 * kMiB);
  unmap(memory + 1, kMiB);
  unmap(memory, 0);
  unmap(memory, SIZE_MAX);
  void* grown = mremap(memory, 4 * kMiB, 6 * kMiB, 0);  // the rest of the mapping is in the way
  printf("mremap %d errno %d\n", grown == MAP_FAILED, errno);
  void* nothing = mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  printf("mmap %d errno %d\n", nothing == MAP_FAILED, errno);
}

SITE void maps_by_syscall(void) {
  syscall(SYS_mmap, NULL, kMiB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
}

SITE void moves_the_break_by_sbrk(void) {
  char* begin = sbrk(kMiB);
  begin[0] = 1;
  printf("sbrk %d\n", sbrk(-256 * kKiB) == begin + kMiB);
  printf("break %d\n", sbrk(0) == begin + 768 * kKiB);
}
SITE void moves_the_break_by_brk(void) {
  char* begin = sbrk(0);
  const int up = brk(begin + 512 * kKiB);
  const int down = brk(begin + 128 * kKiB);
  printf("brk %d %d\n", up, down);
  printf("break %d\n", sbrk(0) == begin + 128 * kKiB);
}

SITE void maps_in_a_handler(int signal) {
  (void)signal;
  map(kMiB)[0] = 1;
}

SITE void* maps_in_a_thread(void* unused) {
  (void)unused;
  return map(5 * kMiB);
}
static void unmaps_what_a_thread_mapped(void) {
  pthread_t thread;
  void* memory = NULL;
  if (pthread_create(&thread, NULL, maps_in_a_thread, NULL) != 0) abort();
  pthread_join(thread, &memory);
  unmap(memory, 4 * kMiB);
}

SITE void loses_it_to_a_vfork_child(void) {
  char* memory = map(2 * kMiB);
  const pid_t child = vfork();
  if (child == 0) {
    munmap(memory, 2 * kMiB);
    _exit(0);
  }
  waitpid(child, NULL, 0);
}

SITE void maps_in_the_child(void) { map(2 * kMiB)[0] = 1; }
SITE char* maps_in_the_parent(void) { return map(6 * kMiB); }
static int forks(void) {
  char* memory = maps_in_the_parent();
  const pid_t child = fork();
  if (child == 0) {
    maps_in_the_child();
    munmap(memory, kMiB);  // the parent's still has it
    exit(0);
  }
  int status = 1;
  waitpid(child, &status, 0);
  munmap(memory, 2 * kMiB);
  return status;
}

// Many threads at the same few places: what they mapped they unmap, in parts and out of order.
enum { kRounds = 2000, kThreads = 4 };
SITE void* storms(void* unused) {
  (void)unused;
  for (int i = 0; i < kRounds; i++) {
    char* memory = map(64 * kKiB);
    munmap(memory + 16 * kKiB, 16 * kKiB);
    char* larger = checked(mremap(memory + 32 * kKiB, 32 * kKiB, 48 * kKiB, MREMAP_MAYMOVE));
    munmap(larger, 48 * kKiB);
    munmap(memory, 16 * kKiB);
  }
  return NULL;
}
static int storm(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++)
    if (pthread_create(&threads[i], NULL, storms, NULL) != 0) abort();
  for (int i = 0; i < kThreads; i++) pthread_join(threads[i], NULL);
  return 0;
}

int main(int argc, char** argv) {
  static char output[1 << 16];  // nothing is to allocate between moves of the break
  setvbuf(stdout, output, _IOFBF, sizeof output);
  if (argc > 1 && strcmp(argv[1], "fork") == 0) return forks();
  if (argc > 1 && strcmp(argv[1], "storm") == 0) return storm();
  keeps_private();
  keeps_shared();
  rounds_to_pages();
  uses_mmap64();
  cuts_head();
  cuts_tail();
  cuts_middle();
  cuts_until_nothing_is_left();
  unmaps_several_at_once();
  maps_a_file();
  loses_a_part_to_a_file();
  remaps_larger();
  remaps_smaller();
  remaps_to_a_fixed_place();
  remaps_a_part();
  remaps_and_leaves_it_mapped();
  duplicates_a_shared_one();
  remaps_a_file();
  fails();
  maps_by_syscall();
  moves_the_break_by_sbrk();
  moves_the_break_by_brk();
  signal(SIGUSR1, maps_in_a_handler);
  raise(SIGUSR1);
  unmaps_what_a_thread_mapped();
  loses_it_to_a_vfork_child();
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// What programs ask of the kernel for all of their memory: memory_ways WHAT
#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void* allocate_some(void* unused) {
  for (int i = 0; i < 2000; i++) {
    void* volatile block = malloc((size_t)i * 40);
    free(block);
  }
  return unused;
}
static void run_threads(void) {
  for (int i = 0; i < 20; i++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, allocate_some, NULL) != 0) abort();
    pthread_join(thread, NULL);
  }
}
static void* map(size_t bytes) {
  void* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  return memory;
}

static int locked(void) {
  printf("mlockall: %d\n", mlockall(MCL_CURRENT | MCL_FUTURE));
  run_threads();
  void* block = malloc(10 << 20);
  printf("10 MB: %d\n", block != NULL);
  free(block);
  printf("munlockall: %d\n", munlockall());
  return 0;
}

static int locked_on_fault(void) {
  printf("mlockall: %d\n", mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT));
  run_threads();
  return munlockall();
}

static int huge_pages(void) {
  char* memory = map(8 << 20);
  printf("huge: %d\n", madvise(memory, 8 << 20, MADV_HUGEPAGE));
  memset(memory, 1, 8 << 20);
  printf("none: %d\n", prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
  run_threads();
  printf("disabled: %d\n", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
  return munmap(memory, 8 << 20);
}

static int not_forked(void) {
  volatile char* memory = map(8192);
  memory[0] = memory[4096] = 1;
  printf("%d %d\n", madvise((void*)memory, 4096, MADV_DONTFORK),
         madvise((void*)(memory + 4096), 4096, MADV_WIPEONFORK));
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    // At once: what is mapped next, by whomever, may lie there.
    if (memory[4096] != 0) _exit(1);
    memory[0] = 2;
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  printf("child: %s\n", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "no signal");
  return 0;
}

static int barriers(void) {
  const long known = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  if ((known & MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE) == 0) return 1;
  // Not registered for yet: refused.
  printf("%ld", syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0));
  printf(" %s", strerrorname_np(errno));
  printf(" %ld",
         syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0));
  printf(" %ld\n", syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0));
  run_threads();
  return 0;
}

// Memory that is closed but in some places: signal handlers begin with all keys but 0 closed.
static int protection_keys(void) {
  const int key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
  if (key < 0) {
    puts("no protection keys");
    return 0;
  }
  char* memory = map(1 << 20);
  pkey_mprotect(memory, 1 << 20, PROT_READ | PROT_WRITE, key);
  for (int i = 0; i < 20; i++) {
    pkey_set(key, 0);
    memory[i] = (char)i;
    for (volatile int turn = 0; turn < 300000; turn++) memory[turn] = memory[i];
    pkey_set(key, PKEY_DISABLE_ACCESS);
    allocate_some(NULL);
  }
  printf("rights: %d\n", pkey_get(key));
  return pkey_free(key);
}

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    int (*run)(void);
  } kWays[] = {
      {"locked", locked},         {"locked_on_fault", locked_on_fault},
      {"huge_pages", huge_pages}, {"not_forked", not_forked},
      {"barriers", barriers},     {"protection_keys", protection_keys},
  };
  for (size_t i = 0; i < sizeof kWays / sizeof kWays[0]; i++)
    if (argc > 1 && strcmp(argv[1], kWays[i].name) == 0) return kWays[i].run();
  fprintf(stderr, "memory_ways: what?\n");
  return 2;
}

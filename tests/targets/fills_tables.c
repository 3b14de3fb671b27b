// SPDX-License-Identifier: Apache-2.0
// Makes tables of the dump grow, each by a stage of its own: fills_tables FOLDER STAGE...
//
// FOLDER has copies of one library, 0.so and so on, for the stage "modules". Each stage waits for a
// byte on standard input before it begins, and prints a line when it is done. The last line has the
// truth: how many blocks fill() allocated, and their bytes.
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "preload/mprof.h"

enum {
  kLabels = 3000,
  kProfiles = 500,
  kThreads = 300,
  kAtOnce = 60,
  kLive = 8000,
  kModules = 140
};

static atomic_long blocks;
static atomic_long bytes;
static const char* folder;

__attribute__((noinline, used)) static void fill(size_t size) {
  void* block = malloc(size);
  __asm__ volatile("" : : "r"(block) : "memory");
  atomic_fetch_add(&blocks, 1);
  atomic_fetch_add(&bytes, (long)size);
}

// A stack of its own for each pattern of bits.
__attribute__((noinline, used)) static void at_new_stack(int bits, int depth, void (*work)(void)) {
  if (depth == 0) {
    work();
    __asm__ volatile("# leaf" ::: "memory");
  } else if (bits & 1) {
    at_new_stack(bits >> 1, depth - 1, work);
    __asm__ volatile("# odd" ::: "memory");
  } else {
    at_new_stack(bits >> 1, depth - 1, work);
    __asm__ volatile("# even" ::: "memory");
  }
}

static void fill_64(void) { fill(64); }

static void stacks(void) {
  for (int bits = 0; bits < 8192; bits++) at_new_stack(bits, 13, fill_64);
}

static void live(void) {
  for (int i = 0; i < kLive; i++) fill(32);
}

static void labels(void) {
  char text[100];
  for (int i = 0; i < kLabels; i++) {
    snprintf(text, sizeof text, "a value long enough to fill the table of strings, number %d", i);
    mprof_label_set("number", text);
    fill(48);
  }
  mprof_label_clear("number");
}

static mprof_profile_t profile;

static void add_value(void) {
  static char values[8192];
  static int added;
  mprof_profile_add(profile, &values[added++]);
}

static void profiles(void) {
  char name[40];
  for (int i = 0; i < kProfiles; i++) {
    snprintf(name, sizeof name, "things of sort %d", i);
    profile = mprof_profile_new(name);
    add_value();
  }
  for (int bits = 0; bits < 4096; bits++) at_new_stack(bits, 12, add_value);
}

static void* short_life(void* nothing) {
  fill(80);
  return nothing;
}

static void threads(void) {
  for (int i = 0; i < kThreads; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, short_life, NULL);
    pthread_join(thread, NULL);
  }
}

static pthread_barrier_t all_there;

static void* with_ring(void* nothing) {
  fill(96);
  mprof_log(0, "stage", "rings");
  pthread_barrier_wait(&all_there);
  munmap(mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
  return nothing;
}

static void rings(void) {
  pthread_t all[kAtOnce];
  pthread_barrier_init(&all_there, NULL, kAtOnce);
  for (int i = 0; i < kAtOnce; i++) pthread_create(&all[i], NULL, with_ring, NULL);
  for (int i = 0; i < kAtOnce; i++) pthread_join(all[i], NULL);
}

static void modules(void) {
  for (int i = 0; i < kModules; i++) {
    char path[500];
    snprintf(path, sizeof path, "%s/%d.so", folder, i);
    void* library = dlopen(path, RTLD_NOW);
    void (*site)(void) = library == NULL ? NULL : (void (*)(void))dlsym(library, "alpha_site");
    if (site == NULL)
      printf("no %s: %s\n", path, dlerror());
    else
      site();
  }
}

// Whether it could be taken is not said: without the library there is none.
static void snapshot(void) { mprof_snapshot("own"); }

static const struct {
  const char* name;
  void (*run)(void);
} kStages[] = {{"stacks", stacks},     {"live", live},        {"labels", labels},
               {"profiles", profiles}, {"threads", threads},  {"rings", rings},
               {"modules", modules},   {"snapshot", snapshot}};

static void run_stage(const char* name) {
  for (size_t i = 0; i < sizeof kStages / sizeof kStages[0]; i++)
    if (strcmp(kStages[i].name, name) == 0) kStages[i].run();
}

int main(int argc, char** argv) {
  char byte;
  setvbuf(stdout, NULL, _IONBF, 0);
  folder = argc > 1 ? argv[1] : ".";
  printf("begins\n");
  for (int i = 2; i < argc; i++) {
    if (read(0, &byte, 1) != 1) return 3;
    run_stage(argv[i]);
    printf("%s\n", argv[i]);
  }
  printf("%ld blocks %ld bytes\n", atomic_load(&blocks), atomic_load(&bytes));
  return 7;
}

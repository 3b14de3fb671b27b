// SPDX-License-Identifier: Apache-2.0
// Allocates at every odd time of a process: before any constructor, in constructors, in TLS
// destructors of both kinds, in atexit and on_exit handlers, in static destructors. One block of a
// known size stays allocated from each.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SITE extern "C" [[gnu::noinline]] void

extern "C" char* early_block;

namespace {

char* preinit_block;

void keep(void* block) { asm volatile("" : : "r"(block) : "memory"); }

}  // namespace

SITE from_preinit() {
  preinit_block = static_cast<char*>(malloc(3001));
  strcpy(preinit_block, "made before all");
  void* grown = realloc(calloc(3, 1000), 4000);
  free(grown);
}
SITE from_constructor() { keep(malloc(3002)); }
SITE from_main() { keep(malloc(3003)); }
SITE from_key_destructor() { keep(malloc(3004)); }
SITE from_thread_local_destructor() { keep(malloc(3005)); }
SITE from_atexit() { keep(malloc(3006)); }
SITE from_on_exit() { keep(malloc(3007)); }
SITE from_static_destructor() { keep(malloc(3008)); }
SITE from_quick_churn_after_main() {
  for (int i = 0; i < 1000; i++) free(malloc(3009));
}

namespace {

struct Static {
  Static() { from_constructor(); }
  ~Static() {
    from_static_destructor();
    from_quick_churn_after_main();
  }
} static_object;

struct PerThread {
  void* block = malloc(10);
  ~PerThread() {
    free(block);
    from_thread_local_destructor();
  }
};
thread_local PerThread per_thread;

pthread_key_t key;

void* thread_body(void*) {
  keep(per_thread.block);
  pthread_setspecific(key, malloc(20));
  return nullptr;
}

void run_thread() {
  pthread_key_create(&key, [](void* value) {
    free(value);
    from_key_destructor();
  });
  pthread_t thread;
  pthread_create(&thread, nullptr, thread_body, nullptr);
  pthread_join(thread, nullptr);
}

}  // namespace

__attribute__((section(".preinit_array"), used)) static void (*preinit_entry)() = from_preinit;

int main() {
  atexit(from_atexit);
  on_exit([](int, void*) { from_on_exit(); }, nullptr);
  from_main();
  run_thread();
  printf("%s, %s\n", preinit_block, early_block);
  free(preinit_block);
}

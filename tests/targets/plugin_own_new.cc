// SPDX-License-Identifier: Apache-2.0
// A plug-in that brings its own operator new, on top of malloc: it must stay the one that is used,
// and its blocks must be counted once.
#include <stdio.h>
#include <stdlib.h>

#include <new>

namespace {
int own_news;
int own_deletes;
}  // namespace

void* operator new(size_t bytes) {
  own_news++;
  void* block = malloc(bytes);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}
void operator delete(void* block) noexcept {
  own_deletes++;
  free(block);
}
void operator delete(void* block, size_t) noexcept { operator delete(block); }

struct Thing {
  char text[700];
};

extern "C" [[gnu::noinline]] void plugin_makes_things() {
  for (int i = 0; i < 10; i++) {
    auto* thing = new Thing;
    asm volatile("" : : "r"(thing) : "memory");
    if (i >= 4) delete thing;
  }
}

extern "C" int plugin_run() {
  plugin_makes_things();
  printf("own operator new: %d calls, delete: %d calls\n", own_news, own_deletes);
  return own_news == 10 && own_deletes == 6 ? 0 : 1;
}

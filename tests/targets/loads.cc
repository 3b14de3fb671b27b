// SPDX-License-Identifier: Apache-2.0
// Loads libraries in every way: loads WHAT. They lie in ./plugins, see loads_plugin.cc: outer.so
// has $ORIGIN/deep as its run path, inner.so is there and nowhere else.
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

// Chosen by a function that allocates, while the program is relocated.
extern "C" {
static int allocated_early() { return 1; }
__attribute__((used)) static int (*choose())() {
  void* volatile block = malloc(1000);
  void* volatile second = realloc(block, 300000);
  free(second);
  return allocated_early;
}
int chosen_early() __attribute__((ifunc("choose")));
}

namespace {

std::atomic<bool> stop;
std::atomic<long> wrong;

struct Flags {
  int value;
  const char* name;
};
constexpr Flags kFlags[] = {
    {RTLD_LAZY, "lazy"},
    {RTLD_NOW, "now"},
    {RTLD_NOW | RTLD_GLOBAL, "global"},
    {RTLD_LAZY | RTLD_DEEPBIND, "deepbind"},
    {RTLD_NOW | RTLD_DEEPBIND | RTLD_GLOBAL, "global deepbind"},
};

void* open_or_say(const char* path, int flags) {
  void* library = dlopen(path, flags);
  if (library == nullptr) printf("dlopen: %s\n", dlerror());
  return library;
}
template <class Function>
Function* find(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

void call_all(void* library) {
  if (find<int(int)>(library, "plugin_works")(20) != 20) wrong++;
  // From its allocator to ours, and back.
  free(find<void*()>(library, "plugin_allocates")());
  find<void(void*)>(library, "plugin_frees")(malloc(5000));
  if (find<int()>(library, "plugin_makes_thread")() != 7) wrong++;
}

int loops() {
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; i++)
    threads.emplace_back([] {
      while (!stop) {
        void* volatile block = malloc(700);
        free(block);
      }
    });
  for (const Flags& flags : kFlags) {
    for (int i = 0; i < 60; i++) {
      void* library = open_or_say("./plugins/outer.so", flags.value);
      if (library == nullptr) return 1;
      call_all(library);
      if (dlclose(library) != 0) wrong++;
    }
    printf("%s: %ld wrong, gone: %d\n", flags.name, wrong.load(),
           dlopen("./plugins/outer.so", RTLD_NOW | RTLD_NOLOAD) == nullptr);
  }
  void* kept = open_or_say("./plugins/outer.so", RTLD_NOW | RTLD_NODELETE);
  call_all(kept);
  dlclose(kept);
  kept = dlopen("./plugins/outer.so", RTLD_NOW | RTLD_NOLOAD);
  printf("nodelete: %ld wrong, gone: %d\n", wrong.load(), kept == nullptr);
  call_all(kept);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  return 0;
}

// By a name without a folder: it is the caller's run path that counts.
int run_paths() {
  void* outer = open_or_say("./plugins/outer.so", RTLD_NOW);
  if (outer == nullptr) return 1;
  printf("inner by its name, from the program: %d\n", dlopen("inner.so", RTLD_NOW) != nullptr);
  for (int i = 0; i < 20; i++)
    if (find<int()>(outer, "plugin_loads_inner")() != 40) wrong++;
  printf("from the plug-in: %ld wrong\n", wrong.load());
  Dl_serinfo size;
  dlinfo(outer, RTLD_DI_SERINFOSIZE, &size);
  char origin[4096];
  dlinfo(outer, RTLD_DI_ORIGIN, origin);
  printf("%u folders, origin %s\n", size.dls_cnt, strrchr(origin, '/'));
  return dlclose(outer);
}

// A namespace of its own, with a libc of its own.
int namespaces() {
  for (int i = 0; i < 5; i++) {
    void* library = dlmopen(LM_ID_NEWLM, "./plugins/outer.so", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      printf("dlmopen: %s\n", dlerror());
      return 1;
    }
    if (find<int(int)>(library, "plugin_works")(20) != 20) wrong++;
    void* block = find<void*()>(library, "plugin_allocates")();
    find<void(void*)>(library, "plugin_frees")(block);
    Lmid_t space;
    dlinfo(library, RTLD_DI_LMID, &space);
    int preloaded = 0;
    link_map* map;
    dlinfo(library, RTLD_DI_LINKMAP, &map);
    while (map->l_prev != nullptr) map = map->l_prev;
    for (; map != nullptr; map = map->l_next)
      preloaded += strstr(map->l_name, "libmprof") != nullptr;
    printf("namespace %ld: %ld wrong, preloaded there: %d\n", static_cast<long>(space),
           wrong.load(), preloaded);
    dlclose(library);
  }
  return 0;
}

// Exceptions through frames of a library that is gone soon afterwards; each has another type.
int exceptions() {
  for (int i = 0; i < 100; i++) {
    void* outer = open_or_say("./plugins/outer.so", RTLD_NOW | RTLD_GLOBAL);
    if (outer == nullptr) return 1;
    try {
      find<void(int)>(outer, "plugin_throws")(20);
    } catch (const std::runtime_error& error) {
      wrong += strcmp(error.what(), "thrown by a plug-in") != 0;
    }
    // Back through the plug-in's frames, which catch, destroy and throw on.
    try {
      find<void(void (*)())>(
          outer, "plugin_calls_back")([] { throw std::invalid_argument("thrown by the program"); });
    } catch (const std::invalid_argument& error) {
      wrong += strcmp(error.what(), "thrown by the program") != 0;
    }
    dlclose(outer);
  }
  printf("exceptions: %ld wrong\n", wrong.load());
  return 0;
}

// By several threads at once, each its own copy of the time.
int many_threads() {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++)
    threads.emplace_back([] {
      for (int turn = 0; turn < 100; turn++) {
        void* library = dlopen("./plugins/outer.so", RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr || find<int(int)>(library, "plugin_works")(20) != 20) wrong++;
        if (library != nullptr) dlclose(library);
      }
    });
  for (std::thread& thread : threads) thread.join();
  printf("many threads: %ld wrong\n", wrong.load());
  return 0;
}

int early() {
  printf("resolver: %d\n", chosen_early());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  static const struct {
    const char* name;
    int (*run)();
  } kWays[] = {
      {"loops", loops},           {"run_paths", run_paths},       {"namespaces", namespaces},
      {"exceptions", exceptions}, {"many_threads", many_threads}, {"early", early},
  };
  for (const auto& way : kWays)
    if (argc > 1 && strcmp(argv[1], way.name) == 0) return way.run();
  fprintf(stderr, "loads: what?\n");
  return 2;
}

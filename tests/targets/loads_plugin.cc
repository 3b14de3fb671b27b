// SPDX-License-Identifier: Apache-2.0
// A library with all that one may bring: constructors that allocate and make threads, destructors,
// thread-local objects, exceptions. The same source makes plugins/outer.so and
// plugins/deep/inner.so.
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct Object {
  std::vector<std::string> kept;
  Object() { kept.emplace_back(200, 'x'); }
  ~Object() { kept.emplace_back(300, 'y'); }
};
Object at_load;
thread_local Object of_thread;

void* answer(void*) {
  void* volatile block = malloc(900);
  free(block);
  of_thread.kept.emplace_back(6, 'x');
  return reinterpret_cast<void*>(of_thread.kept.back().size() + of_thread.kept.size() - 1);
}

void* allocate(void*) { return malloc(800); }

int run_thread() {
  pthread_t thread;
  void* result = nullptr;
  if (pthread_create(&thread, nullptr, answer, nullptr) != 0) return 0;
  pthread_join(thread, &result);
  return static_cast<int>(reinterpret_cast<long>(result));
}

// Without thread-local storage: the loader is busy.
__attribute__((constructor)) void begin() {
  pthread_t thread;
  void* block = nullptr;
  if (pthread_create(&thread, nullptr, allocate, nullptr) == 0) pthread_join(thread, &block);
  free(block);
}
__attribute__((destructor)) void end() {
  void* volatile block = malloc(123456);
  free(block);
}

struct Destroyed {
  int& count;
  std::string text = std::string(80, 'x');
  ~Destroyed() { ++count; }
};

[[gnu::noinline]] void throw_at(int depth, int& destroyed) {
  const Destroyed passed{destroyed};
  if (depth == 0) throw std::runtime_error("thrown by a plug-in");
  throw_at(depth - 1, destroyed);
}

}  // namespace

extern "C" {
int plugin_works(int depth) {
  int destroyed = -1;
  try {
    throw_at(depth, destroyed);
  } catch (const std::exception&) {
  }
  return destroyed;
}
void* plugin_allocates() { return malloc(4321); }
void plugin_frees(void* block) { free(block); }
int plugin_makes_thread() { return run_thread(); }
void plugin_throws(int depth) {
  int destroyed = 0;
  throw_at(depth, destroyed);
}
void plugin_calls_back(void (*back)()) {
  int destroyed = 0;
  const Destroyed passed{destroyed};
  try {
    back();
  } catch (const std::logic_error&) {
    throw;
  }
}
int plugin_loads_inner() {
  void* inner = dlopen("inner.so", RTLD_NOW | RTLD_LOCAL);
  if (inner == nullptr) return 0;
  const auto works = reinterpret_cast<int (*)(int)>(dlsym(inner, "plugin_works"));
  const int both = works(20) + plugin_works(20);
  dlclose(inner);
  return both;
}
}

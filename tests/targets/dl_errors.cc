// SPDX-License-Identifier: Apache-2.0
// What dlerror() says at the start, and after a failed dlopen and dlsym with the process's first
// C++ allocations in between.
#include <dlfcn.h>
#include <stdio.h>

#include <new>

namespace {

struct alignas(128) Aligned {
  char bytes[256];
};

void say(const char* when) {
  const char* text = dlerror();
  printf("%s: %s\n", when, text == nullptr ? "nothing" : text);
}

void allocate() {
  auto* text = new (std::nothrow) char[100];
  asm volatile("" : : "r"(text) : "memory");
  delete[] text;
  auto* aligned = new Aligned;
  asm volatile("" : : "r"(aligned) : "memory");
  delete aligned;
}

}  // namespace

int main() {
  say("start");
  dlopen("no-such-library.so", RTLD_NOW);
  allocate();
  say("dlopen");
  dlsym(RTLD_DEFAULT, "no_such_function");
  allocate();
  say("dlsym");
  say("then");
}

// SPDX-License-Identifier: Apache-2.0
// A plug-in in C++ that allocates and throws: every exception must arrive where it is caught.
#include <stdint.h>
#include <stdio.h>

#include <new>
#include <stdexcept>
#include <string>

extern "C" [[gnu::noinline]] int plugin_leaks_new() {
  int* kept = new int[1000];
  asm volatile("" : : "r"(kept) : "memory");
  return kept[0] = 0;
}

namespace {

[[gnu::noinline]] void throw_deep(int depth) {
  const std::string text(100, 'x');  // something to unwind over
  if (depth == 0) throw std::runtime_error("deep: " + text.substr(0, 3));
  throw_deep(depth - 1);
  asm volatile("" : : "r"(text.data()) : "memory");
}

bool catches_deep() {
  try {
    throw_deep(40);
  } catch (const std::runtime_error& error) {
    return std::string(error.what()) == "deep: xxx";
  }
  return false;
}

bool catches_bad_alloc() {
  volatile size_t too_much = PTRDIFF_MAX;
  try {
    ::operator delete(::operator new(too_much));
  } catch (const std::bad_alloc&) {
    return true;
  }
  return false;
}

bool rethrows() {
  try {
    try {
      throw 42;
    } catch (int) {
      throw;
    }
  } catch (int value) {
    return value == 42;
  }
  return false;
}

}  // namespace

extern "C" int plugin_run() {
  int caught = 0;
  for (int i = 0; i < 300; i++)
    caught += static_cast<int>(catches_deep()) + catches_bad_alloc() + rethrows();
  printf("caught %d of 900\n", caught);
  return plugin_leaks_new() + (caught == 900 ? 0 : 1);
}

// SPDX-License-Identifier: Apache-2.0
// passthrough_locks.so: what libmprof.so takes over for its block, mutex and threadcreate profiles,
// forwarded to the next library, and nothing else. Its cost is the floor of any LD_PRELOAD lock
// profiler; mprof's own cost is what comes on top.
//
// Threads    Any. A pointer is found at its function's first call; two threads that both look it up
//            find the same one.
// Unwinding  A thread may be cancelled inside a wait. Each call is a tail call: no frame of ours is
//            on the stack then.
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <threads.h>
#include <time.h>

#include <algorithm>

#define MPROF_FORWARD extern "C" __attribute__((visibility("default")))

namespace {

// A function's name as a template argument.
template <size_t size>
struct Name {
  consteval Name(const char (&from)[size]) { std::copy_n(from, size, text); }
  char text[size];
};

// The version that programs are linked with; without it glibc may answer with the condition
// variables of before 2003, which are laid out differently.
void* find(const char* name, const char* version) {
  void* found = version ? dlvsym(RTLD_NEXT, name, version) : dlsym(RTLD_NEXT, name);
  if (found == nullptr) __builtin_trap();
  return found;
}

template <Name name, class Function>
struct Next;

// `call` is the next library's function, with the type that its header gives it.
template <Name name, class Result, class... Arguments>
struct Next<name, Result(Arguments...)> {
  static Result first_call(Arguments... arguments) {
    constexpr bool is_cond = std::equal(name.text, name.text + 13, "pthread_cond_") &&
                             name.text[13] != 'c';  // clockwait is younger
    void* found = find(name.text, is_cond ? "GLIBC_2.3.2" : nullptr);
    __atomic_store_n(&call, reinterpret_cast<Result (*)(Arguments...)>(found), __ATOMIC_RELAXED);
    return call(arguments...);
  }
  static inline Result (*call)(Arguments...) = first_call;
};

template <Name name, class Result, class... Arguments>
struct Next<name, Result(Arguments...) noexcept> : Next<name, Result(Arguments...)> {};

}  // namespace

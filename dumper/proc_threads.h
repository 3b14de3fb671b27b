// SPDX-License-Identifier: Apache-2.0
// The threads of a running process as the kernel tells of them, and words of its memory.
//
// Called by signal_thread.cc, thread_profile.cc, outside_stack.cc
// Fails     Never: a thread that ends meanwhile is left out, what may not be read is not known.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mprof::dumper {

// The system call that a thread sleeps in.
struct SystemCall {
  long number = -1;  // -1: it sleeps in none, on a page fault for one
  uint64_t arguments[6] = {};
};

struct ProcThread {
  uint32_t tid = 0;
  char state = 0;  // R running, S sleeping, D, T, t, Z, I; 0: not known
  std::string name;
  uint64_t blocked = 0;  // signals, bit n - 1 for signal n
  uint64_t caught = 0;
  bool call_known = false;  // false: it runs, or this user may not know
  SystemCall call;
};

// In the order of their ids.
[[nodiscard]] std::vector<ProcThread> threads_of_process(uint32_t pid);
[[nodiscard]] std::optional<ProcThread> thread_of_process(uint32_t pid, uint32_t tid);

// What a call is that fails with EINTR whenever a handler runs, even with SA_RESTART: its name, or
// a clause; nullptr for any other. `is_libcs`: a futex that libc waits for goes on by itself.
[[nodiscard]] const char* call_without_restart(uint32_t pid, const SystemCall& call, bool is_libcs);

// How many bytes from `address` on could be read.
[[nodiscard]] size_t read_memory(uint32_t pid, uint64_t address, void* out, size_t bytes);

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
// When this process is recorded: start, fork, clean end.
//
// States    unstarted -> starting -> on, or off for good. The first allocation starts it (libc's
//           own and constructors of other libraries come before ours), at the latest the
//           constructor of this library. A forked child goes back to unstarted, without touching
//           the parent's dump, and makes its own at its first sample; it notices by a word that
//           the kernel wipes in children (MADV_WIPEONFORK), so no fork goes unseen that copies
//           memory. A vfork child shares the parent's memory, and what it allocates is in the
//           parent's heap and in the parent's profile.
// Threads   any. Signals: safe. Blocks: no.
#pragma once

#include <atomic>

namespace mprof::preload {

enum class State : int { kUnstarted, kStarting, kOn, kOff };
extern std::atomic<State> state;
extern const std::atomic<uint32_t>* process_mark;  // 0 after a fork

bool leave_parents_dump();
bool start_if_new();

// Off for good: this program is not to be, or cannot be, profiled.
inline bool is_off() { return state.load(std::memory_order_relaxed) == State::kOff; }

// While there is a dump: whether it is this process's. In a forked child, which notices here at the
// latest, it is left.
inline bool owns_dump() {
  return process_mark->load(std::memory_order_relaxed) != 0 || leave_parents_dump();
}

// True while this process has a dump to record in.
inline bool recording() {
  return state.load(std::memory_order_acquire) == State::kOn && owns_dump();
}

// The same, but starts what has not been started.
inline bool ready_to_sample() { return recording() || start_if_new(); }

}  // namespace mprof::preload

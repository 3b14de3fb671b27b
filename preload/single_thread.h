// SPDX-License-Identifier: Apache-2.0
// Locked instructions only where there is somebody to lock out.
//
// A locked instruction costs 4 to 5 ns; an exact profile would spend six of them on each block.
// glibc tells when the process has one thread (`__libc_single_threaded`) and itself leaves its
// atomics out then. It goes to false before a second thread starts and never comes back while one
// runs. Readers in other processes only load these words.
//
// Signals: what interrupts its own thread inside mprof never gets to these words (Guard).
#pragma once

#include <sys/single_threaded.h>

#include <atomic>

namespace mprof::preload {

inline bool single_threaded() { return __libc_single_threaded != 0; }

template <class T>
inline T add_and_get(std::atomic<T>& word, T value) {
  if (!single_threaded()) return word.fetch_add(value, std::memory_order_relaxed) + value;
  const T result = word.load(std::memory_order_relaxed) + value;
  word.store(result, std::memory_order_relaxed);
  return result;
}

// compare_exchange: on failure `seen` is what was there.
template <class T>
inline bool replace(std::atomic<T>& word, T& seen, T desired) {
  if (!single_threaded())
    return word.compare_exchange_weak(seen, desired, std::memory_order_relaxed);
  word.store(desired, std::memory_order_relaxed);
  return true;
}

// Takes a lock: compare_exchange with acquire on success.
template <class T>
inline bool take_if(std::atomic<T>& word, T expected, T desired) {
  if (!single_threaded())
    return word.compare_exchange_weak(expected, desired, std::memory_order_acquire,
                                      std::memory_order_relaxed);
  if (word.load(std::memory_order_relaxed) != expected) return false;
  word.store(desired, std::memory_order_relaxed);
  return true;
}

}  // namespace mprof::preload

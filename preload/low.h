// SPDX-License-Identifier: Apache-2.0
// Own libc bits, for code that runs before main, inside malloc and in signal handlers.
//
// Threads: any. Signals: safe. Allocates: no. Blocks: no (a write to fd 2 may).
#pragma once

#include <errno.h>
#include <cstddef>
#include <cstdint>

#define MPROF_EXPORT __attribute__((visibility("default")))
#define MPROF_INITIAL_EXEC __attribute__((tls_model("initial-exec")))

namespace mprof::preload {

// Keeps errno as the program had it, whatever mprof calls.
class ErrnoGuard {
 public:
  ErrnoGuard() : saved_(errno) {}
  ~ErrnoGuard() { errno = saved_; }
  ErrnoGuard(const ErrnoGuard&) = delete;
  ErrnoGuard& operator=(const ErrnoGuard&) = delete;

 private:
  int saved_;
};

// Text of bounded length; what does not fit is cut.
class Line {
 public:
  static constexpr size_t kMax = 1536;
  Line& operator<<(const char* text);
  Line& operator<<(uint64_t number);
  [[nodiscard]] const char* text() const { return text_; }
  [[nodiscard]] size_t size() const { return size_; }
  // To fd 2, behind "mprof: ", with a newline, in one write. What forked children say is said once
  // by all of them together, unless by each, and only where fd 2 is the file that it was.
  enum Speaker { kOnceByForked, kEach };
  void say(Speaker speaker = kOnceByForked) const;

 private:
  char text_[kMax + 1] = {};
  size_t size_ = 0;
};

// The value of an environment variable; works before libc has set `environ` up (then nullptr).
const char* environment(const char* name);

// This process and those that it will fork are a family, for what they say.
void begin_family();

// Zeroed private memory, or nullptr.
void* map_anonymous(size_t bytes);

// Reads at most `size - 1` bytes of a file and terminates them; the number read, or -1.
long read_small_file(const char* path, char* out, size_t size);

// The decimal number that a text begins with; 0 if it begins with none.
uint64_t leading_number(const char* text);

// Field `number` of /proc/self/stat, from 3 on, as proc(5) counts them; 0 if it cannot be had.
uint64_t own_stat_field(int number);

constexpr uint64_t mix(uint64_t x) {  // splitmix64's finalizer
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

inline void pause_cpu() { __builtin_ia32_pause(); }

}  // namespace mprof::preload

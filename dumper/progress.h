// SPDX-License-Identifier: Apache-2.0
// One line on a terminal about work that takes longer than half a second. Says nothing where
// stderr is not a terminal.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace mprof::dumper {

class Progress {
 public:
  Progress(std::string what, size_t total);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();
  void step() { reach(done_ + 1); }
  void reach(size_t done);

 private:
  void draw() const;

  std::string what_;
  size_t total_;
  size_t done_ = 0;
  bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point next_draw_;
};

}  // namespace mprof::dumper

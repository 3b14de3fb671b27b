// SPDX-License-Identifier: Apache-2.0
#include "dumper/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace mprof::dumper {
namespace {
constexpr auto kQuietTime = std::chrono::milliseconds(500);
constexpr auto kDrawInterval = std::chrono::milliseconds(100);
}  // namespace

Progress::Progress(std::string what, size_t total)
    : what_(std::move(what)),
      total_(total),
      terminal_(isatty(STDERR_FILENO) == 1),
      next_draw_(std::chrono::steady_clock::now() + kQuietTime) {}

Progress::~Progress() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
}

void Progress::reach(size_t done) {
  done_ = done;
  if (!terminal_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_draw_) return;
  next_draw_ = now + kDrawInterval;
  drawn_ = true;
  draw();
}

void Progress::draw() const {
  fmt::print(stderr, "\r{}: {} of {} ({}%)\x1b[K", what_, done_, total_,
             total_ == 0 ? 100 : done_ * 100 / total_);
  std::fflush(stderr);
}

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/control_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

namespace mprof::dumper {
namespace {

using std::chrono::steady_clock;
constexpr auto kLongestWait = std::chrono::seconds(2);
constexpr auto kPoll = std::chrono::microseconds(200);

}  // namespace

ControlLock::ControlLock(const Dump& dump)
    : fd_(open(dump.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)) {
  if (fd_ < 0) throw DumpError(fmt::format("{}: {}", dump.path(), strerror(errno)));
  const auto deadline = steady_clock::now() + kLongestWait;
  while (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (steady_clock::now() >= deadline) {
      close(fd_);
      throw DumpError(dump.path() + ": another mprof keeps it locked");
    }
    std::this_thread::sleep_for(kPoll);
  }
}

ControlLock::~ControlLock() { close(fd_); }

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
// The lock by which one controller at a time changes the control words of a dump.
//
// Blocks    for some seconds at most.
// Fails     DumpError, one line: the file cannot be opened, or another one keeps it locked.
#pragma once

#include "dumper/dump_reader.h"

namespace mprof::dumper {

class ControlLock {
 public:
  explicit ControlLock(const Dump& dump);
  ~ControlLock();
  ControlLock(const ControlLock&) = delete;
  ControlLock& operator=(const ControlLock&) = delete;

 private:
  int fd_;
};

}  // namespace mprof::dumper

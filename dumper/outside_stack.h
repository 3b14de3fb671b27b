// SPDX-License-Identifier: Apache-2.0
// Stacks of threads that stand still, read from outside by the call frame information of their
// program's files. Nothing is attached to, nobody is stopped.
//
// Called by thread_profile.cc
// Threads   One at a time.
// Fails     Never: no stack, and problem() says why in one clause.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dumper/dump_reader.h"

namespace mprof::dumper {

// Of the caller of the function that the thread waits in; pc is where that will return to.
struct StandingRegisters {
  uint64_t pc = 0;
  uint64_t sp = 0;
  uint64_t fp = 0;
};

struct OutsideWalk {
  std::vector<uint64_t> pcs;  // as format/stack_table.h has them: return addresses, leaf first
  bool complete = false;      // the outermost frame was reached
  bool truncated = false;     // there are more frames than were asked for
};

class OutsideStacks {
 public:
  explicit OutsideStacks(uint32_t pid);
  ~OutsideStacks();
  OutsideStacks(const OutsideStacks&) = delete;
  OutsideStacks& operator=(const OutsideStacks&) = delete;

  // `stands_still` is asked once the stack's memory has been copied.
  [[nodiscard]] std::optional<OutsideWalk> walk(uint32_t tid, const StandingRegisters& start,
                                                size_t most_frames,
                                                const std::function<bool()>& stands_still);
  [[nodiscard]] const std::string& problem() const;
  // What is loaded at an address; nothing for code without a file.
  [[nodiscard]] std::optional<ModuleCopy> module_at(uint64_t address) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mprof::dumper

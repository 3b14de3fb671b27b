// SPDX-License-Identifier: Apache-2.0
// `mprof locks`: which locks threads waited for, who held them meanwhile, and who waited.
//
// Called by main.cc
// Numbers   Of holders and their victims from the mutex profile: wall time during which somebody
//           waited, charged to the release that ended it. Of waiters from the block profile: the
//           time of each waiter, so three that wait at once count three times.
// Threads   One at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dumper/count_profile.h"
#include "dumper/dump_reader.h"
#include "dumper/estimate.h"
#include "dumper/symbolize.h"

namespace mprof::dumper {

struct LockTally {
  Estimate count;
  Estimate delay_ns;
  uint64_t longest_ns = 0;  // of a single event
};

struct LockWaiter {
  std::string site;  // "function file:line" of the acquire call
  std::string wait;  // what was asked for: "mutex", "rwlock read", "cond relock"
  LockTally tally;
};

struct LockHolder {
  std::string site;  // of the release
  LockTally tally;
  std::vector<LockWaiter> victims;
};

struct LockRow {
  std::string name;  // symbol or address
  uint64_t address = 0;
  std::string site;          // where the block it lies in was allocated; empty when not known
  std::string kind;          // "mutex", "rwlock", "spin"
  LockTally contended;       // mutex profile
  LockTally waited;          // block profile
  double share_of_time = 0;  // of the run, during which somebody waited
  std::vector<LockHolder> holders;  // worst first, here and below
  std::vector<LockWaiter> waiters;  // block profile
};

struct LockReport {
  std::string program;
  uint32_t pid = 0;
  bool running = false;
  uint64_t duration_ns = 0;
  std::vector<LockRow> locks;
  LockTally contended;    // of all locks
  LockTally waited;       // of all locks
  LockTally other_waits;  // for what is no lock: conditions, semaphores, barriers, threads
  // How the values came about, and what is missing from them.
  std::vector<std::string> notes;
};

[[nodiscard]] LockReport compute_locks(const Dump& dump, const CountReading& reading,
                                       Symbolizer& symbolizer, SymbolDetail detail);
// The worst `rows` locks, all for 0; `width_columns` 0: lines as long as they are.
[[nodiscard]] std::string locks_table(const LockReport& report, size_t rows, size_t width_columns);
// All of them.
[[nodiscard]] std::string locks_json(const LockReport& report);

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
// `mprof run`: a program under libmprof.so, with its signals, its exit code, and its dumps.
//
// Signals   Those sent to mprof by another process go on to the program. Those of the terminal
//           reach the program by themselves, as both are in the foreground process group.
// Blocks    until the program has ended.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace mprof::dumper {

struct LaunchOptions {
  std::vector<std::string> command;
  std::map<std::string, std::string> environment;  // MPROF_* for the program
  std::string directory;                           // where the dumps go; must exist
  bool drain = true;
};

struct LaunchResult {
  int exit_code = 0;    // the program's, 128 + n after signal n, 126 or 127 as in a shell
  std::string failure;  // why the program could not be started
  std::vector<std::string> dumps;       // of the program and what it started, by start time
  std::vector<std::string> complaints;  // of the drainer
};

// The library to preload. Throws std::runtime_error that lists where it was looked for.
[[nodiscard]] std::string find_library();
[[nodiscard]] LaunchResult launch(const LaunchOptions& options);

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
// Why a profile is empty or partial: what a program is, and what that means for a preloaded
// library.
//
// Fails     never: what cannot be looked at is a finding.
#pragma once

#include <string>
#include <vector>

namespace mprof::dumper {

struct Finding {
  bool is_problem = false;
  std::string text;
};

// What the file at `path` says: kind, allocator, unwind tables, special rights.
[[nodiscard]] std::vector<Finding> examine_program(const std::string& path);
// Of a program that a dump names: nothing is said of a file that is no ELF program, nor shown of
// it.
[[nodiscard]] std::vector<Finding> examine_executable(const std::string& path);
// The same, and what MPROF_* in the environment would do to it.
[[nodiscard]] std::vector<Finding> examine_settings(const std::string& path);
// Where the shell would find `command`; empty if nowhere.
[[nodiscard]] std::string find_in_path(const std::string& command);

// `mprof doctor -- cmd`: examines, then runs it for once and looks at the dumps. The exit code.
[[nodiscard]] int run_doctor(const std::vector<std::string>& command, bool run_it);

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
// The profiled processes of this machine, as far as this user may see them.
//
// How       A process has its dump mapped, so /proc/PID/maps names it; the dump says the rest.
// Fails     Never: a process that ends meanwhile, or that may not be looked at, is not listed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mprof::dumper {

struct ProfiledProcess {
  uint32_t pid = 0;
  std::string executable;
  std::vector<std::string> command;
  uint64_t started_realtime_ns = 0;
  std::string dump;  // a path at which it can be opened
  uint64_t heap_rate_bytes = 0;
  uint64_t block_rate_ns = 0;
  uint32_t mutex_fraction = 0;
  uint32_t cpu_hz = 0;
  bool trace_on = false;
};

struct ProcessFilter {
  std::vector<std::filesystem::path> directories;  // their dumps lie in or below; empty: anywhere
  bool own_only = false;                           // processes of this user only
};

// Throws std::runtime_error for what is no directory.
[[nodiscard]] ProcessFilter make_filter(const std::vector<std::string>& directories);

// By pid.
[[nodiscard]] std::vector<ProfiledProcess> list_processes(const ProcessFilter& filter);
[[nodiscard]] std::optional<ProfiledProcess> find_process(uint32_t pid,
                                                          const ProcessFilter& filter);

// Digits only, and a pid that there can be.
[[nodiscard]] std::optional<uint32_t> parse_pid(std::string_view text);
// Does the path lie in the directory, or below it? Both absolute, without "." and "..".
[[nodiscard]] bool is_within(const std::filesystem::path& path,
                             const std::filesystem::path& directory);

[[nodiscard]] std::string processes_table(const std::vector<ProfiledProcess>& processes);
[[nodiscard]] std::string processes_json(const std::vector<ProfiledProcess>& processes);

}  // namespace mprof::dumper

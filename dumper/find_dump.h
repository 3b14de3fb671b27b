// SPDX-License-Identifier: Apache-2.0
// From a process to its dump, and back, through /proc.
//
// Fails     DumpError with one line that says why there is none.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mprof::dumper {

// One line of /proc/PID/maps.
struct MapsLine {
  std::string range;
  std::string offset;
  unsigned device_major = 0;
  unsigned device_minor = 0;
  ino_t inode = 0;
  std::string path;
};
[[nodiscard]] std::optional<MapsLine> parse_maps_line(const std::string& line);

// Field 22 of /proc/PID/stat; nothing if there is no such process.
[[nodiscard]] std::optional<uint64_t> process_start_ticks(uint32_t pid);

// Is `pid` the process that began at `start_ticks`, and does it still have the file mapped? exec
// keeps pid and start time but not the mapping. Where the mappings may not be read, the start
// time decides.
[[nodiscard]] bool is_process_of(uint32_t pid, uint64_t start_ticks, dev_t device, ino_t inode);

// A path at which the dump of a running process can be opened.
[[nodiscard]] std::string dump_of_process(uint32_t pid);

// Those that a process has mapped, each by a path at which it can be opened: its own, and shortly
// after a fork that of its parent. Empty if there is none, or if its mappings may not be read.
[[nodiscard]] std::vector<std::string> mapped_dumps(uint32_t pid);
// Does it begin as a dump does?
[[nodiscard]] bool is_dump_file(const std::string& path);

// The argument of `mprof pprof`, `top`, `info`: a file, else all digits is a pid.
[[nodiscard]] std::string resolve_dump(const std::string& argument);

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/find_dump.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <vector>

#include "dumper/dump_reader.h"

namespace mprof::dumper {
namespace {

std::vector<MapsLine> maps_of(uint32_t pid, bool* readable) {
  std::ifstream in(fmt::format("/proc/{}/maps", pid));
  std::vector<MapsLine> lines;
  std::string line;
  while (std::getline(in, line))
    if (auto parsed = parse_maps_line(line)) lines.push_back(std::move(*parsed));
  *readable = !lines.empty();
  return lines;
}

// Overlay file systems show another device in maps than stat() does, so the inode decides alone.
bool maps_file(const std::vector<MapsLine>& lines, ino_t inode) {
  return std::any_of(lines.begin(), lines.end(),
                     [inode](const MapsLine& line) { return line.inode == inode; });
}

// A deleted dump, or one behind a chroot, is reached through /proc.
std::optional<std::string> openable_path(uint32_t pid, const MapsLine& line) {
  const std::string candidates[] = {line.path, fmt::format("/proc/{}/root{}", pid, line.path),
                                    fmt::format("/proc/{}/map_files/{}", pid, line.range)};
  for (const std::string& path : candidates) {
    struct stat status {};
    if (stat(path.c_str(), &status) == 0 && status.st_ino == line.inode && is_dump_file(path))
      return path;
  }
  return std::nullopt;
}

bool may_be_dump(const MapsLine& line) {
  return line.inode != 0 && line.path.starts_with('/') &&
         line.path.find(".so") == std::string::npos &&
         line.offset.find_first_not_of('0') == std::string::npos;
}

// "7f12…-7f13… rw-s …": a dump is mapped shared, as hardly anything else is.
bool is_shared(const std::string& maps_line) {
  const size_t blank = maps_line.find(' ');
  return blank != std::string::npos && maps_line.size() > blank + 4 && maps_line[blank + 4] == 's';
}

[[noreturn]] void no_dump(uint32_t pid, const std::vector<MapsLine>& lines) {
  const bool has_library = std::any_of(lines.begin(), lines.end(), [](const MapsLine& line) {
    return line.path.find("libmprof.so") != std::string::npos;
  });
  throw DumpError(fmt::format(
      "process {}: {}", pid,
      has_library ? "libmprof.so is loaded but has no dump open: it could not make one (it said "
                    "why on stderr), or MPROF_ONLY, MPROF_SKIP or MPROF_HEAP_RATE=0 turn it off"
                  : "not running under mprof: libmprof.so is not loaded"));
}

}  // namespace

std::optional<MapsLine> parse_maps_line(const std::string& line) {
  std::istringstream in(line);
  std::string permissions;
  std::string device;
  MapsLine parsed;
  if (!(in >> parsed.range >> permissions >> parsed.offset >> device >> parsed.inode)) return {};
  if (sscanf(device.c_str(), "%x:%x", &parsed.device_major, &parsed.device_minor) != 2) return {};
  std::getline(in >> std::ws, parsed.path);
  return parsed;
}

std::optional<uint64_t> process_start_ticks(uint32_t pid) {
  std::ifstream in(fmt::format("/proc/{}/stat", pid));
  std::string text;
  if (!std::getline(in, text)) return std::nullopt;
  // The name in field 2 may hold blanks and parentheses.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int number = 3; number < 22; ++number) fields >> field;
  uint64_t ticks = 0;
  if (!(fields >> ticks)) return std::nullopt;
  return ticks;
}

bool is_process_of(uint32_t pid, uint64_t start_ticks, dev_t /*device*/, ino_t inode) {
  if (pid == 0 || process_start_ticks(pid) != start_ticks) return false;
  bool readable = false;
  const auto lines = maps_of(pid, &readable);
  if (!readable) return access(fmt::format("/proc/{}/maps", pid).c_str(), R_OK) != 0;
  return maps_file(lines, inode);
}

std::string dump_of_process(uint32_t pid) {
  if (!process_start_ticks(pid)) throw DumpError(fmt::format("process {}: no such process", pid));
  bool readable = false;
  const auto lines = maps_of(pid, &readable);
  if (!readable)
    throw DumpError(
        fmt::format("process {}: /proc/{}/maps cannot be read: another user's process "
                    "or one that is ending",
                    pid, pid));
  for (const MapsLine& line : lines)
    if (may_be_dump(line))
      if (auto path = openable_path(pid, line)) return *path;
  no_dump(pid, lines);
}

std::vector<std::string> mapped_dumps(uint32_t pid) {
  std::ifstream in(fmt::format("/proc/{}/maps", pid));
  std::vector<std::string> paths;
  std::string text;
  while (std::getline(in, text)) {
    if (!is_shared(text)) continue;
    const auto line = parse_maps_line(text);
    if (!line || !may_be_dump(*line)) continue;
    if (auto path = openable_path(pid, *line)) paths.push_back(std::move(*path));
  }
  return paths;
}

bool is_dump_file(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  std::ifstream in(path, std::ios::binary);
  uint64_t magic = 0;
  return in.read(reinterpret_cast<char*>(&magic), sizeof magic) && magic == format::kDumpMagic;
}

std::string resolve_dump(const std::string& argument) {
  uint32_t pid = 0;
  const char* end = argument.data() + argument.size();
  const auto [rest, error] = std::from_chars(argument.data(), end, pid);
  const bool is_number = error == std::errc{} && rest == end;
  if (!is_number || ::access(argument.c_str(), F_OK) == 0) return argument;
  return dump_of_process(pid);
}

}  // namespace mprof::dumper

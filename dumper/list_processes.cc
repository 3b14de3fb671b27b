// SPDX-License-Identifier: Apache-2.0
#include "dumper/list_processes.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>

#include "dumper/dump_reader.h"
#include "dumper/find_dump.h"
#include "dumper/profile_comments.h"
#include "dumper/terminal_text.h"

namespace mprof::dumper {
namespace {

namespace fs = std::filesystem;

bool is_of_this_user(uint32_t pid) {
  struct stat status {};
  return stat(fmt::format("/proc/{}", pid).c_str(), &status) == 0 && status.st_uid == geteuid();
}

bool lies_in(const std::string& dump, const std::vector<fs::path>& directories) {
  if (directories.empty()) return true;
  std::error_code error;
  const fs::path path = fs::canonical(dump, error);
  return !error && std::any_of(directories.begin(), directories.end(),
                               [&](const fs::path& one) { return is_within(path, one); });
}

ProfiledProcess describe(const Dump& dump) {
  const format::DumpHeader& header = dump.header();
  return {header.pid,           dump.executable(),
          dump.command_line(),  header.realtime_start_ns,
          dump.path(),          header.heap_rate_bytes,
          header.block_rate_ns, header.mutex_fraction,
          header.cpu_hz,        header.trace_on.load(std::memory_order_relaxed) != 0};
}

// A dump of another version, or one that is being made, says nothing here.
std::optional<ProfiledProcess> process_of(uint32_t pid, const std::string& path) {
  try {
    const Dump dump = Dump::open(path, Access::kRead);
    if (dump.header().pid == pid && dump.life() == Life::kRunning) return describe(dump);
  } catch (const std::exception&) {
  }
  return std::nullopt;
}

std::string rate_text(uint64_t rate, const char* unit) {
  return rate == 0 ? "off" : fmt::format("{}{}", rate, unit);
}

}  // namespace

ProcessFilter make_filter(const std::vector<std::string>& directories) {
  ProcessFilter filter;
  for (const std::string& directory : directories) {
    std::error_code error;
    const fs::path path = fs::canonical(directory, error);
    if (error || !fs::is_directory(path, error))
      throw std::runtime_error(fmt::format("{}: no such directory", directory));
    filter.directories.push_back(path);
  }
  return filter;
}

std::optional<uint32_t> parse_pid(std::string_view text) {
  uint32_t pid = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, pid);
  if (error != std::errc{} || rest != end || pid == 0 || pid > INT32_MAX) return std::nullopt;
  return pid;
}

bool is_within(const fs::path& path, const fs::path& directory) {
  const auto differs = std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  return differs.first == directory.end();
}

std::optional<ProfiledProcess> find_process(uint32_t pid, const ProcessFilter& filter) {
  if (filter.own_only && !is_of_this_user(pid)) return std::nullopt;
  for (const std::string& path : mapped_dumps(pid)) {
    auto process = process_of(pid, path);
    if (process && lies_in(path, filter.directories)) return process;
  }
  return std::nullopt;
}

std::vector<ProfiledProcess> list_processes(const ProcessFilter& filter) {
  std::vector<ProfiledProcess> processes;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", error)) {
    const auto pid = parse_pid(entry.path().filename().native());
    if (!pid) continue;
    if (auto process = find_process(*pid, filter)) processes.push_back(std::move(*process));
  }
  std::sort(processes.begin(), processes.end(),
            [](const auto& a, const auto& b) { return a.pid < b.pid; });
  return processes;
}

std::string processes_table(const std::vector<ProfiledProcess>& processes) {
  std::string out = fmt::format("{:>8}  {:<23}  {:>12}  {:>12}  {:>8}  {:>7}  {:>5}  {}\n", "pid",
                                "since", "heap", "block", "mutex", "cpu", "trace", "dump, command");
  for (const ProfiledProcess& p : processes)
    out += fmt::format("{:>8}  {:<23}  {:>12}  {:>12}  {:>8}  {:>7}  {:>5}  {}\n{:>89}{}\n", p.pid,
                       time_text(p.started_realtime_ns), rate_text(p.heap_rate_bytes, " B"),
                       rate_text(p.block_rate_ns, " ns"), rate_text(p.mutex_fraction, ""),
                       rate_text(p.cpu_hz, " Hz"), p.trace_on ? "on" : "off", printable(p.dump), "",
                       printable(command_text(p.command)));
  return out;
}

std::string processes_json(const std::vector<ProfiledProcess>& processes) {
  auto list = nlohmann::ordered_json::array();
  for (const ProfiledProcess& p : processes)
    list.push_back({{"pid", p.pid},
                    {"executable", p.executable},
                    {"command_line", p.command},
                    {"started_realtime_ns", p.started_realtime_ns},
                    {"dump", p.dump},
                    {"heap_rate_bytes", p.heap_rate_bytes},
                    {"block_rate_ns", p.block_rate_ns},
                    {"mutex_fraction", p.mutex_fraction},
                    {"cpu_hz", p.cpu_hz},
                    {"trace", p.trace_on}});
  // Names of files need not be UTF-8.
  return list.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace mprof::dumper

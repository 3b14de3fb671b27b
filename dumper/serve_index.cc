// SPDX-License-Identifier: Apache-2.0
#include "dumper/serve_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "dumper/profile_comments.h"

namespace mprof::dumper {
namespace {

constexpr std::pair<std::string_view, const char*> kDescriptions[] = {
    {"allocs", "A sampling of all past memory allocations"},
    {"block", "Stack traces that led to waiting for other threads"},
    {"cmdline", "The command line of the program"},
    {"cpu", "Processor time so far, if it was recorded"},
    {"goroutine", "Stack traces of all threads"},
    {"heap",
     "A sampling of the memory in use. A gc parameter is accepted: there is nothing to "
     "collect."},
    {"mutex", "Stack traces of holders of contended locks"},
    {"peak", "A sampling of the memory in use when it was most"},
    {"profile", "CPU profile. The seconds parameter says how long; then use go tool pprof on it."},
    {"threadcreate", "Stack traces that led to the creation of threads"},
    {"trace", "A trace of execution. The seconds parameter says how long."},
};

const char* description_of(std::string_view name) {
  for (const auto& [known, text] : kDescriptions)
    if (known == name) return text;
  return "A profile of the program's own";
}

constexpr std::string_view kStyle =
    "<style>\n.profile-name{\n\tdisplay:inline-block;\n\twidth:6rem;\n}\n</style>\n";

std::string page(const std::string& title, const std::string& body) {
  return fmt::format(
      "<html>\n<head>\n<meta charset=\"utf-8\">\n<title>{0}</title>\n{1}</head>\n<body>\n{0}<br>\n"
      "<br>\n{2}</body>\n</html>\n",
      html_escaped(title), kStyle, body);
}

std::string name_of(const ProfiledProcess& process) {
  return std::filesystem::path(process.executable).filename().string();
}

}  // namespace

std::string html_escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&#34;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string url_escaped(std::string_view text) {
  constexpr std::string_view kPlain = "-._~";
  std::string out;
  for (const unsigned char c : text) {
    const bool is_plain =
        (c < 0x80 && std::isalnum(c)) || kPlain.find(static_cast<char>(c)) != kPlain.npos;
    out += is_plain ? std::string(1, static_cast<char>(c)) : fmt::format("%{:02X}", c);
  }
  return out;
}

std::string profiles_page(const std::string& title, std::vector<IndexEntry> entries) {
  std::sort(entries.begin(), entries.end(),
            [](const IndexEntry& a, const IndexEntry& b) { return a.name < b.name; });
  std::string rows;
  std::string descriptions;
  for (const IndexEntry& entry : entries) {
    const std::string name = html_escaped(entry.name);
    rows += fmt::format("<tr><td>{}</td><td><a href='{}?debug=1'>{}</a></td></tr>\n", entry.count,
                        url_escaped(entry.name), name);
    descriptions += fmt::format("<li><div class=profile-name>{}: </div> {}</li>\n", name,
                                html_escaped(description_of(entry.name)));
  }
  return page(title, fmt::format("Types of profiles available:\n<table>\n<thead><td>Count</td>"
                                 "<td>Profile</td></thead>\n{}</table>\n"
                                 "<a href=\"goroutine?debug=2\">full thread stack dump</a>\n<br>\n"
                                 "<p>\nProfile Descriptions:\n<ul>\n{}</ul>\n</p>\n",
                                 rows, descriptions));
}

std::string processes_page(const std::vector<ProfiledProcess>& processes) {
  std::string rows;
  for (const ProfiledProcess& process : processes)
    rows += fmt::format(
        "<tr><td><a href='{0}/debug/pprof/'>{0}</a></td><td>{1}</td><td>{2}</td></tr>\n",
        process.pid, time_text(process.started_realtime_ns),
        html_escaped(command_text(process.command)));
  if (rows.empty()) return page("mprof", "No profiled processes.\n");
  return page("mprof", fmt::format("Profiled processes:\n<table>\n<thead><td>Pid</td><td>Since</td>"
                                   "<td>Command</td></thead>\n{}</table>\n",
                                   rows));
}

std::string discovery_json(const std::vector<ProfiledProcess>& processes,
                           const std::string& address, bool by_pid) {
  auto list = nlohmann::ordered_json::array();
  for (const ProfiledProcess& process : processes) {
    nlohmann::ordered_json labels = {{"service_name", name_of(process)},
                                     {"pid", std::to_string(process.pid)},
                                     {"executable", process.executable}};
    if (by_pid) labels["__profile_path_prefix__"] = fmt::format("/{}", process.pid);
    list.push_back({{"targets", {address}}, {"labels", labels}});
  }
  return list.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace mprof::dumper

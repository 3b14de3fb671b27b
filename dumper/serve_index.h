// SPDX-License-Identifier: Apache-2.0
// The pages of `mprof serve` for people, and the list of processes for those that scrape them.
#pragma once

#include <string>
#include <vector>

#include "dumper/list_processes.h"

namespace mprof::dumper {

struct IndexEntry {
  std::string name;
  size_t count = 0;
};

// As net/http/pprof has it. `title` says which process.
[[nodiscard]] std::string profiles_page(const std::string& title, std::vector<IndexEntry> entries);
[[nodiscard]] std::string processes_page(const std::vector<ProfiledProcess>& processes);

// The targets in the form of Prometheus' HTTP service discovery. `address`: where they are scraped;
// each under its own path if `by_pid`.
[[nodiscard]] std::string discovery_json(const std::vector<ProfiledProcess>& processes,
                                         const std::string& address, bool by_pid);

// For a path in an address: everything but letters, digits and "-._~" as %XX.
[[nodiscard]] std::string url_escaped(std::string_view text);
[[nodiscard]] std::string html_escaped(std::string_view text);

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
// `mprof serve`: /debug/pprof/ of one dump, or of every profiled process below /PID/.
//
// Reach     A path names a profile of a process that is listed, by its digits, and nothing else: no
//           file of this machine can be asked for.
// Fails     std::exception while starting; afterwards a request fails, not the server.
#pragma once

#include <string>
#include <vector>

#include "dumper/http_server.h"
#include "dumper/serve_access.h"
#include "dumper/symbolize.h"

namespace mprof::dumper {

struct ServeOptions {
  std::vector<std::string> what;  // a dump, a pid, or directories; empty: this user's processes
  ListenAddress listen;
  bool allow_remote = false;
  std::string token_file;
  std::string token_variable;
  SymbolOptions symbols;
};

// What answers the requests; `token` empty: anybody may ask.
[[nodiscard]] HttpHandler make_handler(const ServeOptions& options, std::string token);

// Until SIGINT or SIGTERM. The exit code.
int run_serve(const ServeOptions& options);

}  // namespace mprof::dumper

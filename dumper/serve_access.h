// SPDX-License-Identifier: Apache-2.0
// Who may ask `mprof serve`: the address that it listens on, names of this machine, the token.
//
// Fails     std::invalid_argument, std::runtime_error: what is wrong and what is accepted, one
// line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mprof::dumper {

struct ListenAddress {
  std::string host;  // numeric
  uint16_t port = 0;
  bool is_loopback = true;  // nobody outside of this machine can connect
};

// "127.0.0.1:6060", "localhost:0", "[::1]:6060", ":6060" for all addresses.
[[nodiscard]] ListenAddress parse_listen(const std::string& text);
// "127.0.0.1:6060", "[::1]:6060".
[[nodiscard]] std::string address_text(const std::string& host, uint16_t port);

// Is a Host header a name that only this machine has? A page from elsewhere whose name was made to
// point here (DNS rebinding) arrives under its own name.
[[nodiscard]] bool is_local_name(std::string_view host_header);

// The first line of a file, or the value of a variable; at least 16 visible characters.
[[nodiscard]] std::string token_from_file(const std::string& path);
[[nodiscard]] std::string token_from_variable(const std::string& name);
// Does an Authorization header carry the token? Takes as long for any wrong one of its length.
[[nodiscard]] bool bears_token(std::string_view authorization, std::string_view token);

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/serve_access.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <stdexcept>

namespace mprof::dumper {
namespace {

constexpr size_t kShortestToken = 16;
constexpr const char* kAccepted =
    "accepted is ADDRESS:PORT with a numeric address or localhost, such as 127.0.0.1:6060, "
    "[::1]:6060 or, for all addresses, :6060";

struct HostAndPort {
  std::string_view host;  // without the brackets of IPv6
  std::string_view port;  // empty: none
};

std::optional<HostAndPort> split(std::string_view text) {
  HostAndPort parts;
  std::string_view rest;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    parts.host = text.substr(1, end - 1);
    rest = text.substr(end + 1);
  } else {
    const size_t colon = std::min(text.find(':'), text.size());
    parts.host = text.substr(0, colon);
    rest = text.substr(colon);
  }
  if (rest.empty()) return parts;
  if (rest.front() != ':') return std::nullopt;
  parts.port = rest.substr(1);
  return parts;
}

std::optional<uint16_t> parse_port(std::string_view text) {
  uint16_t port = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, port);
  if (error != std::errc{} || rest != end) return std::nullopt;
  return port;
}

// Nothing where the text is no numeric address.
std::optional<bool> is_loopback(const std::string& address) {
  in_addr v4{};
  if (inet_pton(AF_INET, address.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6{};
  if (inet_pton(AF_INET6, address.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return std::nullopt;
}

bool is_localhost(std::string_view name) {
  constexpr std::string_view kName = "localhost";
  return std::equal(name.begin(), name.end(), kName.begin(), kName.end(),
                    [](unsigned char a, char b) { return std::tolower(a) == b; });
}

// `from` is for the message; a token itself is never printed.
std::string checked_token(std::string token, const std::string& from) {
  while (!token.empty() && std::isspace(static_cast<unsigned char>(token.back()))) token.pop_back();
  const bool is_visible =
      std::all_of(token.begin(), token.end(), [](unsigned char c) { return std::isgraph(c) != 0; });
  if (token.size() < kShortestToken || !is_visible)
    throw std::runtime_error(
        fmt::format("{}: no usable token; accepted are {} or more visible ASCII characters on the "
                    "first line, as from `openssl rand -hex 32`",
                    from, kShortestToken));
  return token;
}

}  // namespace

ListenAddress parse_listen(const std::string& text) {
  const auto fail = [&text] {
    return std::invalid_argument(fmt::format("--listen '{}': {}", text, kAccepted));
  };
  const auto parts = split(text);
  if (!parts) throw fail();
  const auto port = parse_port(parts->port);
  if (!port) throw fail();
  ListenAddress address;
  address.port = *port;
  address.host = parts->host;
  if (address.host.empty()) address.host = "0.0.0.0";
  if (is_localhost(address.host)) address.host = "127.0.0.1";
  const auto loopback = is_loopback(address.host);
  if (!loopback) throw fail();
  address.is_loopback = *loopback;
  return address;
}

std::string address_text(const std::string& host, uint16_t port) {
  const bool is_v6 = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", is_v6 ? "[" : "", host, is_v6 ? "]" : "", port);
}

bool is_local_name(std::string_view host_header) {
  const auto parts = split(host_header);
  if (!parts || (!parts->port.empty() && !parse_port(parts->port))) return false;
  return is_localhost(parts->host) || is_loopback(std::string(parts->host)).value_or(false);
}

std::string token_from_file(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error(fmt::format("{}: {}", path, strerror(errno)));
  std::string line;
  std::getline(in, line);
  return checked_token(std::move(line), path);
}

std::string token_from_variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr)
    throw std::runtime_error(fmt::format("--token-env {}: there is no such variable", name));
  return checked_token(value, name);
}

bool bears_token(std::string_view authorization, std::string_view token) {
  constexpr std::string_view kScheme = "bearer ";
  const bool is_bearer = authorization.size() == kScheme.size() + token.size() &&
                         std::equal(kScheme.begin(), kScheme.end(), authorization.begin(),
                                    [](char a, unsigned char b) { return a == std::tolower(b); });
  if (!is_bearer) return false;
  const std::string_view given = authorization.substr(kScheme.size());
  // No early end: how long it takes must not tell how much of it was right.
  unsigned char difference = 0;
  for (size_t i = 0; i < token.size(); ++i)
    difference = static_cast<unsigned char>(difference | (given[i] ^ token[i]));
  return difference == 0;
}

}  // namespace mprof::dumper

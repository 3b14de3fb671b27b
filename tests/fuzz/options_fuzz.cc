// SPDX-License-Identifier: Apache-2.0
// Hostile bytes as a command line, an argument a line: parsed, or refused in one line.
#include "dumper/options.h"

#include <stdexcept>

#include "tests/fuzz/driver.h"
#include "tests/fuzz/use_dump.h"

namespace {

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using mprof::fuzz::require;

constexpr size_t kMostArguments = 64;

void parse(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"mprof"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  argv.push_back(nullptr);
  try {
    const Options options = parse_options(static_cast<int>(argv.size()) - 1, argv.data());
    mprof::fuzz::understood();
    require(options.command != Command::kHelp || !options.help.empty());
  } catch (const UsageError& error) {
    require(*error.what() != '\0');
  }
}

// What stands in an argument by itself.
void parse_parts(const std::string& text) {
  try {
    (void)parse_listen(text);
  } catch (const std::invalid_argument&) {
  }
  try {
    (void)parse_time("--from", text);
  } catch (const TimeError&) {
  }
  try {
    (void)parse_views(text);
  } catch (const std::invalid_argument&) {
  }
  (void)is_local_name(text);
  (void)bears_token(text, "0123456789abcdef");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> arguments;
  while (!text.empty() && arguments.size() < kMostArguments) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    arguments.emplace_back(line.substr(0, line.find('\0')));
    parse_parts(arguments.back());
  }
  parse(arguments);
  return 0;
}

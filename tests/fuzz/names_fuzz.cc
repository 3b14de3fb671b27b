// SPDX-License-Identifier: Apache-2.0
// Hostile bytes as names: of symbols, threads, labels, files, mappings, build ids, and what becomes
// of them where a terminal, a browser or a file system reads them.
#include "dumper/callable_name.h"
#include "dumper/demangle.h"
#include "dumper/elf_file.h"
#include "dumper/find_dump.h"
#include "dumper/list_processes.h"
#include "dumper/serve_index.h"
#include "dumper/terminal_text.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/use_dump.h"

namespace {

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using mprof::fuzz::require;

bool is_one_of(char c, std::string_view these) { return these.find(c) != these.npos; }

void escape(const std::string& text) {
  require(printable(text).find('\n') == std::string::npos);
  mprof::fuzz::show(printable(text));
  mprof::fuzz::show(fitted("  ", text, 20));
  for (const char c : html_escaped(text)) require(!is_one_of(c, "<>\"'"));
  for (const char c : url_escaped(text)) require(!is_one_of(c, "<>\"'/&?# \r\n"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), std::min<size_t>(size, 1 << 16));
  const std::string name = demangle(text);
  if (name != text) mprof::fuzz::understood();
  escape(name);
  escape(callable_name(name));
  (void)shortened(text, 10);
  const std::string id = normal_build_id(text);
  require(id.find_first_not_of("0123456789abcdef") == std::string::npos);
  (void)parse_maps_line(text);
  (void)parse_pid(text);
  return 0;
}

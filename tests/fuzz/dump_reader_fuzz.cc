// SPDX-License-Identifier: Apache-2.0
// Hostile bytes as a dump: through the reader and everything that `mprof` makes of one.
#include <sys/mman.h>
#include <unistd.h>

#include "dumper/trace/merge.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/use_dump.h"

namespace {

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using mprof::fuzz::require;

void check_trace(Dump& dump) {
  DumpTrace trace(dump);
  uint64_t last_ns = 0;
  for (TraceRecord record; trace.next(record); last_ns = record.ns)
    require(record.ns >= last_ns && record.core < kMostCores);
  require(trace.health().whole() || !trace.health().lines().empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = memfd_create("fuzz", MFD_CLOEXEC);
  require(fd >= 0 && write(fd, data, size) == static_cast<ssize_t>(size));
  try {
    Dump dump = Dump::from_fd(fd, "/nonexistent/fuzz", true);
    mprof::fuzz::understood();
    check_trace(dump);
    mprof::fuzz::use_all(dump);
  } catch (const DumpError&) {
    return 0;  // the header is beyond use, and the message says so
  }
  return 0;
}

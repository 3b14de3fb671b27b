// SPDX-License-Identifier: Apache-2.0
// Lines NAME=VALUE as settings from the environment: what is not accepted changes nothing, and what
// is lies in the range that is documented.
#include "format/config.h"

#include "preload/low.h"
#include "tests/fuzz/driver.h"

namespace {

using mprof::format::Settings;
using mprof::fuzz::require;

bool same(const Settings& a, const Settings& b) {
  return a.out == b.out && a.heap_rate == b.heap_rate && a.block_rate_ns == b.block_rate_ns &&
         a.mutex_fraction == b.mutex_fraction && a.cpu_hz == b.cpu_hz &&
         a.stack_depth == b.stack_depth && a.unwind == b.unwind && a.mmap == b.mmap &&
         a.drain == b.drain && a.trace == b.trace && a.trace_limit.bytes == b.trace_limit.bytes &&
         a.trace_limit.stops_when_full == b.trace_limit.stops_when_full && a.only == b.only &&
         a.skip == b.skip && a.verbose == b.verbose && a.seed == b.seed;
}

void check_ranges(const Settings& s) {
  using namespace mprof::format;  // NOLINT
  require(*s.out != '\0' && is_out_pattern(s.out));
  require(s.heap_rate <= kMaxHeapRate && s.block_rate_ns <= kMaxBlockRateNs);
  require(s.mutex_fraction <= kMaxMutexFraction && s.cpu_hz <= kMaxCpuHz);
  require(s.stack_depth >= 1 && s.stack_depth <= kMaxStackDepth && s.verbose <= 1);
  require(s.trace_limit.bytes == 0 ||
          (s.trace_limit.bytes >= kLeastTraceBytes && s.trace_limit.bytes <= kMostTraceBytes));
}

// As the library says it, on one line that has an end.
void complain(const std::string& name, const std::string& value) {
  mprof::preload::Line line;
  line << name.c_str() << "=" << value.c_str() << ": not accepted";
  require(line.size() <= mprof::preload::Line::kMax && strlen(line.text()) == line.size());
}

void apply(Settings& settings, const std::string& name, const std::string& value) {
  const Settings before = settings;
  const bool accepted = mprof::format::apply_setting(settings, name.c_str(), value.c_str());
  require(!accepted || mprof::format::find_setting(name.c_str()) != nullptr);
  if (accepted) {
    mprof::fuzz::understood();
    check_ranges(settings);
  } else {
    require(same(before, settings));
    complain(name, value);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> values;  // settings point into them
  values.reserve(static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1);
  Settings settings;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const size_t sign = std::min(line.find('='), line.size());
    values.emplace_back(line.substr(std::min(sign + 1, line.size())));
    apply(settings, std::string(line.substr(0, sign)), values.back());
  }
  return 0;
}

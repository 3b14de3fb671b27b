// SPDX-License-Identifier: Apache-2.0
// A name for the place that allocated, for reports over time.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "dumper/dump_reader.h"
#include "dumper/symbolize.h"

namespace mprof::dumper {

class SiteNames {
 public:
  SiteNames(const Dump& dump, const SymbolOptions& options)
      : dump_(dump), symbolizer_(options), detail_(options.detail) {}

  // "function file:line" of the first frame that is not an allocator's, of this bucket's stack.
  [[nodiscard]] std::string of_bucket(uint32_t bucket);

 private:
  [[nodiscard]] std::string name_of(const FrameRow& frame);

  const Dump& dump_;
  Symbolizer symbolizer_;
  SymbolDetail detail_;
  std::map<uint32_t, std::string> by_stack_;
};

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
// Label sets of a dump as labels of a profile: addresses and stacks become names.
//
// Threads   one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/memory_budget.h"
#include "dumper/profile.h"
#include "dumper/site_name.h"
#include "dumper/symbolize.h"

namespace mprof::dumper {

class LabelNames {
 public:
  LabelNames(const Dump& dump, Symbolizer& symbolizer, SymbolDetail detail)
      : dump_(dump),
        symbolizer_(symbolizer),
        detail_(detail),
        sites_(dump, symbolizer, detail),
        budget_(dump, "its labels") {}

  [[nodiscard]] const std::vector<Label>& of_set(uint32_t set);
  // An address as the symbol that it lies in, a stack as "function file:line".
  [[nodiscard]] std::string text_of(const LabelCopy& label);

 private:
  [[nodiscard]] std::string name_of(const LabelCopy& address);

  const Dump& dump_;
  Symbolizer& symbolizer_;
  SymbolDetail detail_;
  SiteNames sites_;
  MemoryBudget budget_;
  std::map<uint32_t, std::vector<Label>> by_set_;
};

}  // namespace mprof::dumper

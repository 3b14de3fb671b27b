// SPDX-License-Identifier: Apache-2.0
// A name for a place in the program: where a block was allocated, where a lock was taken.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "dumper/dump_reader.h"
#include "dumper/memory_budget.h"
#include "dumper/symbolize.h"

namespace mprof::dumper {

// "libx.so+0x1234", or the address alone where there is no module.
[[nodiscard]] std::string place_text(const std::optional<ModuleCopy>& module, uint64_t address);

class SiteNames {
 public:
  SiteNames(const Dump& dump, Symbolizer& symbolizer, SymbolDetail detail)
      : dump_(dump),
        symbolizer_(symbolizer),
        detail_(detail),
        budget_(dump, "the names of its places") {}

  // "function file:line" of the first frame that is not an allocator's, of this bucket's stack.
  [[nodiscard]] std::string of_bucket(uint32_t bucket);
  // The same of the first frame that is none of the C++ library's either: who called
  // std::mutex::lock(), not that function; of the leaf when all are.
  [[nodiscard]] std::string of_stack(uint32_t leaf);

 private:
  using Skip = bool (*)(const std::string& name);
  [[nodiscard]] std::string find(uint32_t leaf, Skip skip);
  [[nodiscard]] std::string name_of(const FrameRow& frame, Skip skip);

  const Dump& dump_;
  Symbolizer& symbolizer_;
  SymbolDetail detail_;
  MemoryBudget budget_;
  std::map<uint32_t, std::string> by_bucket_stack_;
  std::map<uint32_t, std::string> by_stack_;
};

}  // namespace mprof::dumper

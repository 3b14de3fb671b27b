// SPDX-License-Identifier: Apache-2.0
// A profile before it has names: stacks of the dump as locations, each with its place in a file.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/memory_budget.h"
#include "dumper/profile.h"
#include "dumper/symbolize.h"

namespace mprof::dumper {

struct CodePlace {
  ModuleRef module;
  uint64_t vaddr = 0;
  bool known = false;
};
struct PlacedProfile {
  Profile profile;
  std::vector<CodePlace> places;  // of each location
};

// Turns rows of the dump into rows of the profile, each once. Frames of libmprof.so are left out.
class StackTranslator {
 public:
  StackTranslator(const Dump& dump, PlacedProfile& out);

  std::vector<uint32_t> locations(uint32_t leaf);
  std::vector<uint32_t> locations(const StackCopy& stack);
  // One that the dump does not have; its number is that of the next row.
  void add_module(const ModuleCopy& module);
  uint32_t synthetic(std::string_view name);
  // Adds it to the profile, unless that has become too large.
  void add(Sample sample);

 private:
  struct Module {
    ModuleCopy copy;
    int32_t mapping = -1;
    bool is_own = false;
  };

  void load_modules();
  void add_mapping(Module& module);
  [[nodiscard]] const Module* module(uint32_t row) const;
  [[nodiscard]] bool is_own(uint32_t row) const;
  uint32_t location(const FrameRow& frame);

  const Dump& dump_;
  PlacedProfile& out_;
  ProfileBuilder builder_;
  MemoryBudget budget_;
  std::vector<Module> modules_;
  std::map<std::pair<uint32_t, uint64_t>, uint32_t> locations_;
};

// The library itself, under the name that it or a link to it has.
[[nodiscard]] bool is_libmprof(std::string_view path);

void fill_times(const Dump& dump, Profile& profile);
[[nodiscard]] bool is_nothing(const Sample& sample);

// Gives the locations their functions and lines, and adds a comment for each module without.
void symbolize(PlacedProfile& profile, Symbolizer& symbolizer, SymbolDetail detail);

}  // namespace mprof::dumper

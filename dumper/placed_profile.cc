// SPDX-License-Identifier: Apache-2.0
#include "dumper/placed_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "dumper/estimate.h"
#include "dumper/progress.h"

namespace mprof::dumper {

bool is_libmprof(std::string_view path) {
  const std::string_view name = path.substr(path.rfind('/') + 1);
  return name == "libmprof.so" || name.starts_with("libmprof.so.");
}

StackTranslator::StackTranslator(const Dump& dump, PlacedProfile& out)
    : dump_(dump), out_(out), builder_(out.profile), budget_(dump, "a profile") {
  load_modules();
}

std::vector<uint32_t> StackTranslator::locations(uint32_t leaf) {
  return locations(dump_.stack(leaf));
}

std::vector<uint32_t> StackTranslator::locations(const StackCopy& stack) {
  std::vector<uint32_t> result;
  result.reserve(stack.frames.size() + 1);
  for (const FrameRow& frame : stack.frames)
    if (!is_own(frame.module)) result.push_back(location(frame));
  if (stack.root != format::kStackComplete)
    result.push_back(synthetic(format::kStackRootNames[stack.root]));
  // mprof's own work, seen by itself.
  if (result.empty()) result.push_back(synthetic(stack.frames.empty() ? "[no stack]" : "[mprof]"));
  return result;
}

// Twice, because the builder keeps it as a key, too.
void StackTranslator::add(Sample sample) {
  uint64_t bytes = sizeof sample + sample.locations.size() * sizeof(uint64_t);
  for (const Label& label : sample.labels)
    bytes += sizeof label + label.key.size() + label.str.size();
  if (budget_.take(2 * bytes)) builder_.sample(std::move(sample));
}

void StackTranslator::add_module(const ModuleCopy& module) {
  modules_.push_back({module});
  add_mapping(modules_.back());
}

uint32_t StackTranslator::synthetic(std::string_view name) {
  const uint32_t location = builder_.synthetic_location(name);
  out_.places.resize(out_.profile.locations.size());
  return location;
}

void StackTranslator::load_modules() {
  const auto rows = static_cast<uint32_t>(dump_.rows(format::TableId::kModules));
  modules_.resize(rows);
  for (uint32_t row = 0; row < rows; ++row)
    if (auto copy = dump_.module(row)) modules_[row].copy = std::move(*copy);
  const std::string main = dump_.executable();
  for (const bool want_main : {true, false})
    for (Module& module : modules_)
      if ((module.copy.path == main) == want_main) add_mapping(module);
}

void StackTranslator::add_mapping(Module& module) {
  const ModuleCopy& copy = module.copy;
  if (copy.start == 0) return;
  module.is_own = is_libmprof(copy.path);
  if (module.is_own) return;
  Mapping mapping;
  const bool has_text = copy.text_end > copy.text_start;
  mapping.start = has_text ? copy.text_start : copy.start;
  mapping.limit = has_text ? copy.text_end : copy.end;
  mapping.file_offset = has_text ? copy.text_offset : 0;
  mapping.path = copy.path;
  mapping.build_id = copy.build_id_hex;
  module.mapping = builder_.mapping(mapping);
}

const StackTranslator::Module* StackTranslator::module(uint32_t row) const {
  return row < modules_.size() && modules_[row].copy.start != 0 ? &modules_[row] : nullptr;
}

bool StackTranslator::is_own(uint32_t row) const {
  const Module* found = module(row);
  return found != nullptr && found->is_own;
}

uint32_t StackTranslator::location(const FrameRow& frame) {
  const auto key = std::pair(frame.module, frame.pc);
  if (const auto found = locations_.find(key); found != locations_.end()) return found->second;
  const Module* in = module(frame.module);
  const uint64_t address = frame.pc - 1;
  const uint32_t index = builder_.location(in == nullptr ? -1 : in->mapping, address);
  out_.places.resize(out_.profile.locations.size());
  if (in != nullptr)
    out_.places[index] = {
        {in->copy.path, in->copy.build_id_hex}, address - in->copy.load_bias, true};
  locations_.emplace(key, index);
  return index;
}

void fill_times(const Dump& dump, Profile& profile) {
  const uint64_t start = dump.header().realtime_start_ns;
  const uint64_t end = dump.end_realtime_ns();
  profile.time_nanos = clamp_value(start);
  profile.duration_nanos = clamp_value(end - std::min(start, end));
}

bool is_nothing(const Sample& sample) {
  return std::all_of(sample.values.begin(), sample.values.end(), [](int64_t v) { return v == 0; });
}

void symbolize(PlacedProfile& placed, Symbolizer& symbolizer, SymbolDetail detail) {
  if (detail == SymbolDetail::kNone) return;
  Profile& profile = placed.profile;
  ProfileBuilder builder(profile);
  std::map<std::string, ModuleSymbols> poor;
  Progress progress("finding symbols", profile.locations.size());
  for (size_t i = 0; i < profile.locations.size(); ++i) {
    progress.step();
    const CodePlace& place = placed.places[i];
    if (!place.known) continue;
    std::vector<Line> lines;
    for (const SymbolFrame& frame : symbolizer.frames(place.module, place.vaddr))
      lines.push_back(
          {builder.function(frame.name, frame.file, frame.system_name, frame.start_line),
           frame.line});
    profile.locations[i].lines = std::move(lines);
    const ModuleSymbols status = symbolizer.status(place.module);
    if (status != ModuleSymbols::kOk) poor.emplace(place.module.path, status);
    const int32_t mapping = profile.locations[i].mapping;
    if (mapping < 0 || status != ModuleSymbols::kOk) continue;
    Mapping& of = profile.mappings[static_cast<size_t>(mapping)];
    of.has_functions = true;
    of.has_filenames = of.has_line_numbers = of.has_inline_frames = detail == SymbolDetail::kFull;
  }
  for (const auto& [path, status] : poor)
    profile.comments.push_back(fmt::format("no names from {}: {}", path, describe(status)));
}

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/site_name.h"

#include <fmt/format.h>

namespace mprof::dumper {
namespace {

bool is_allocator(const std::string& name) {
  return name.starts_with("operator new") || name == "malloc" || name == "calloc" ||
         name == "realloc" || name.starts_with("__gnu_cxx::new_allocator") ||
         name.starts_with("std::__new_allocator") || name.starts_with("std::allocator");
}

std::string text_of(const SymbolFrame& frame) {
  if (frame.line == 0) return frame.name;
  return fmt::format("{} {}:{}", frame.name, frame.file, frame.line);
}

}  // namespace

std::string SiteNames::of_bucket(uint32_t bucket) {
  const auto copy = dump_.bucket(bucket);
  if (!copy) return fmt::format("[bucket {}]", bucket);
  const auto known = by_stack_.find(copy->stack);
  if (known != by_stack_.end()) return known->second;
  std::string name;
  for (const FrameRow& frame : dump_.stack(copy->stack).frames)
    if (name = name_of(frame); !name.empty()) break;
  if (name.empty()) name = "[no stack]";
  return by_stack_.emplace(copy->stack, name).first->second;
}

// Empty for frames of the allocator and of libmprof.so.
std::string SiteNames::name_of(const FrameRow& frame) {
  const auto module = dump_.module(frame.module);
  if (!module) return fmt::format("{:#x}", frame.pc - 1);
  const std::string file = module->path.substr(module->path.rfind('/') + 1);
  if (file.starts_with("libmprof.so")) return {};
  const uint64_t vaddr = frame.pc - 1 - module->load_bias;
  if (detail_ != SymbolDetail::kNone) {
    const auto& frames = symbolizer_.frames({module->path, module->build_id_hex}, vaddr);
    for (const SymbolFrame& symbol : frames)
      if (!is_allocator(symbol.name)) return text_of(symbol);
    if (!frames.empty()) return {};
  }
  return fmt::format("{}+{:#x}", file, vaddr);
}

}  // namespace mprof::dumper

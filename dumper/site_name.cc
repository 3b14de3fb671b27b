// SPDX-License-Identifier: Apache-2.0
#include "dumper/site_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "dumper/placed_profile.h"

namespace mprof::dumper {
namespace {

constexpr const char* kNoStack = "[no stack]";
constexpr const char* kLeftOut = "[left out]";

bool is_allocator(const std::string& name) {
  return name.starts_with("operator new") || name == "malloc" || name == "calloc" ||
         name == "realloc" || name.starts_with("__gnu_cxx::new_allocator") ||
         name.starts_with("std::__new_allocator") || name.starts_with("std::allocator");
}

// The demangled name of a template function begins with its return type:
// "bool std::condition_variable::wait_for<long, std::ratio<1l, 1000l> >(...)".
std::string_view without_return_type(std::string_view name) {
  size_t word = 0;
  size_t word_of_arguments = name.size();
  int depth = 0;
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    // An operator's name may hold spaces and brackets of its own.
    if (depth == 0 && name.substr(i).starts_with("operator")) return name.substr(word);
    if (depth == 0 && c == '(') word_of_arguments = word;
    if (depth == 0 && c == ' ') word = i + 1;
    if (c == '<' || c == '(' || c == '{') ++depth;
    if (c == '>' || c == ')' || c == '}') --depth;
  }
  return name.substr(std::min(word, word_of_arguments));
}

bool is_library(const std::string& name) {
  const std::string_view function = without_return_type(name);
  return is_allocator(name) || function.starts_with("std::") ||
         function.starts_with("__gnu_cxx::") || function.starts_with("__gthread");
}

bool is_nobody(const std::string&) { return false; }

std::string text_of(const SymbolFrame& frame) {
  if (frame.line == 0) return frame.name;
  return fmt::format("{} {}:{}", frame.name, frame.file, frame.line);
}

}  // namespace

std::string place_text(const std::optional<ModuleCopy>& module, uint64_t address) {
  if (!module) return fmt::format("{:#x}", address);
  return fmt::format("{}+{:#x}", module->path.substr(module->path.rfind('/') + 1),
                     address - module->load_bias);
}

std::string SiteNames::of_bucket(uint32_t bucket) {
  const auto copy = dump_.bucket(bucket);
  if (!copy) return fmt::format("[bucket {}]", bucket);
  const auto known = by_bucket_stack_.find(copy->stack);
  if (known != by_bucket_stack_.end()) return known->second;
  return by_bucket_stack_.emplace(copy->stack, find(copy->stack, is_allocator)).first->second;
}

std::string SiteNames::of_stack(uint32_t leaf) {
  const auto known = by_stack_.find(leaf);
  if (known != by_stack_.end()) return known->second;
  std::string name = find(leaf, is_library);
  if (name == kNoStack) name = find(leaf, is_nobody);
  return by_stack_.emplace(leaf, name).first->second;
}

std::string SiteNames::find(uint32_t leaf, Skip skip) {
  for (const FrameRow& frame : dump_.stack(leaf).frames)
    if (std::string name = name_of(frame, skip); !name.empty())
      return budget_.take(name.size()) ? name : kLeftOut;
  return kNoStack;
}

// Empty for frames that are to be skipped and those of libmprof.so.
std::string SiteNames::name_of(const FrameRow& frame, Skip skip) {
  const uint64_t address = frame.pc - 1;
  const auto module = dump_.module(frame.module);
  if (module && is_libmprof(module->path)) return {};
  if (module && detail_ != SymbolDetail::kNone) {
    const auto& frames =
        symbolizer_.frames({module->path, module->build_id_hex}, address - module->load_bias);
    for (const SymbolFrame& symbol : frames)
      if (!skip(symbol.name)) return text_of(symbol);
    if (!frames.empty()) return {};
  }
  return place_text(module, address);
}

}  // namespace mprof::dumper

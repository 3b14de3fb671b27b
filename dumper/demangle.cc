// SPDX-License-Identifier: Apache-2.0
#include "dumper/demangle.h"

#include <libiberty/demangle.h>

#include <array>
#include <csetjmp>
#include <cstddef>

namespace mprof::dumper {
namespace {

constexpr size_t kMaxMangledBytes = size_t{64} << 10;
constexpr size_t kMaxDemangledBytes = size_t{256} << 10;

struct Sink {
  std::string text;
  std::jmp_buf too_long;
};

// libiberty offers no way to stop early. Its frames are plain C that keeps its state on the
// stack, so jumping over them is well defined and leaks at most one punycode buffer.
void append(const char* piece, size_t length, void* opaque) {
  Sink& sink = *static_cast<Sink*>(opaque);
  if (sink.text.size() + length > kMaxDemangledBytes) std::longjmp(sink.too_long, 1);
  sink.text.append(piece, length);
}

using Demangler = int (*)(const char*, int, demangle_callbackref, void*);

bool run(Demangler demangler, const char* mangled, Sink& sink) {
  if (setjmp(sink.too_long) != 0) return false;
  return demangler(mangled, DMGL_PARAMS | DMGL_ANSI, append, &sink) != 0;
}

bool try_demangler(Demangler demangler, const std::string& mangled, std::string& out) {
  Sink sink;
  if (!run(demangler, mangled.c_str(), sink) || sink.text.empty()) return false;
  out = std::move(sink.text);
  return true;
}

bool is_all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_clone_kind(std::string_view word) {
  constexpr std::array<std::string_view, 9> kKinds = {
      "cold", "constprop", "isra", "part", "llvm", "lto_priv", "clone", "localalias", "warm"};
  for (std::string_view kind : kKinds)
    if (word == kind) return true;
  return false;
}

// Only whole trailing `.kind` and `.kind.N` words go; any other dot belongs to the name.
std::string_view without_clone_suffixes(std::string_view name) {
  for (;;) {
    const size_t last = name.rfind('.');
    if (last == std::string_view::npos || last == 0) return name;
    if (is_clone_kind(name.substr(last + 1))) {
      name = name.substr(0, last);
      continue;
    }
    if (!is_all_digits(name.substr(last + 1))) return name;
    const size_t before = name.rfind('.', last - 1);
    if (before == std::string_view::npos || before == 0) return name;
    if (!is_clone_kind(name.substr(before + 1, last - before - 1))) return name;
    name = name.substr(0, before);
  }
}

std::string_view without_version(std::string_view name) {
  const size_t at = name.find('@');
  return at == std::string_view::npos || at == 0 ? name : name.substr(0, at);
}

bool may_be_rust(std::string_view name) {
  return name.starts_with("_R") || name.find("17h") != std::string_view::npos;
}

}  // namespace

bool is_mangled(std::string_view system_name) {
  return system_name.starts_with("_Z") || system_name.starts_with("_R");
}

std::string demangle(std::string_view system_name) {
  std::string base(without_clone_suffixes(without_version(system_name)));
  if (!is_mangled(base) || base.size() > kMaxMangledBytes) return base;
  std::string readable;
  // Rust first: its older scheme is also a valid C++ name, only with the hash as a last part.
  if (may_be_rust(base) && try_demangler(rust_demangle_callback, base, readable)) return readable;
  if (try_demangler(cplus_demangle_v3_callback, base, readable)) return readable;
  return base;
}

}  // namespace mprof::dumper

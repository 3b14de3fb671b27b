// SPDX-License-Identifier: Apache-2.0
// Addresses of a module to function names, source lines, inlined frames and variables.
//
// Called by the encoders and reports, after the profile is summed
// Threads   One at a time.
// Fails     Never throws for what is in a file: an address without a name has no frames, and
//           status() says what is the matter with its module.
// Trust     Module paths and build ids come from a dump, the files from anywhere. What is opened,
//           and what is shown of it: docs/hostile-input.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace mprof::dumper {

enum class SymbolDetail {
  kNone,
  kNames,  // ELF symbol tables only
  kFull,   // and DWARF: files, lines, inlined frames
};

struct SymbolOptions {
  SymbolDetail detail = SymbolDetail::kFull;
  // Ask the servers in DEBUGINFOD_URLS. Off unless wanted: a slow server stalls every module.
  bool use_debuginfod = false;
  std::vector<std::string> debug_dirs = {"/usr/lib/debug"};
  std::string sysroot;  // when set, modules are looked for below it only
};

struct SymbolFrame {
  std::string name;         // as people write it
  std::string system_name;  // as the linker knows it
  std::string file;         // absolute where the compiler said enough; empty when unknown
  int line = 0;
  int start_line = 0;

  bool operator==(const SymbolFrame&) const = default;
};

enum class ModuleSymbols {
  kOk,
  kFileMissing,
  kFileReplaced,  // another build is at the path now, and the right one is nowhere
  kNoSymbols,
  kNotElf,   // not an x86-64 program or library, or damaged
  kRefused,  // not a regular file, too large, or not readable by this user
};

// One clause for a message, such as "the file has been replaced by another build".
const char* describe(ModuleSymbols status);

// As a build id: that of whatever lies at the path.
inline constexpr const char* kAnyBuild = "*";

struct ModuleRef {
  std::string path;
  std::string build_id_hex;  // empty: it has none, and neither has the file that is believed
};

class Symbolizer {
 public:
  explicit Symbolizer(SymbolOptions options);
  ~Symbolizer();
  Symbolizer(const Symbolizer&) = delete;
  Symbolizer& operator=(const Symbolizer&) = delete;

  // `vaddr` is the link-time address of the instruction to look up: load bias taken off, and 1
  // off a return address. Innermost inlined frame first, the function itself last; empty when
  // nothing is known. The result stays valid as long as the Symbolizer.
  const std::vector<SymbolFrame>& frames(const ModuleRef& module, uint64_t vaddr);
  // What the program calls the data at `vaddr`: "g_mutex", "g_state+0x10", "vtable for X+0x10";
  // empty when it has no name, or is code.
  std::string data_name(const ModuleRef& module, uint64_t vaddr);
  // The class of the objects whose vtable pointer is `vaddr`, also of a file without symbols as
  // long as it has type information; empty when there is no vtable.
  std::string class_name(const ModuleRef& module, uint64_t vaddr);
  // kOk as soon as anything can be named, also when that comes from a debug file alone.
  ModuleSymbols status(const ModuleRef& module);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mprof::dumper

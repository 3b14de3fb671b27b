// SPDX-License-Identifier: Apache-2.0
// Where the other half of a stripped module is kept: build-id folders, .gnu_debuglink,
// .gnu_debugaltlink (dwz), and debuginfod servers when asked for.
//
// Threads   One at a time.
// Fails     nullptr when there is none that provably belongs: a file counts only when its build
//           id is the same, or its CRC where there are no build ids to compare.
// Trust     Link names come from the module; every candidate opens as elf_file.h describes.
#pragma once

#include <elfutils/libdw.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dumper/elf_file.h"
#include "dumper/symbolize.h"

namespace mprof::dumper {

class DebugFiles {
 public:
  explicit DebugFiles(const SymbolOptions& options);
  ~DebugFiles();
  DebugFiles(const DebugFiles&) = delete;
  DebugFiles& operator=(const DebugFiles&) = delete;

  // In the build-id folders, then on the servers.
  std::unique_ptr<ElfFile> by_build_id(const std::string& build_id_hex);
  // The debug file of a module that lacks symbols or DWARF.
  std::unique_ptr<ElfFile> debug_half(const ElfFile& module);

  struct Supplement {
    std::unique_ptr<ElfFile> file;
    bool usable = true;  // false: libdw must not go looking for it by itself
  };
  // The file that dwz moved shared DWARF to.
  Supplement supplement(const ElfFile& debug_file, Dwarf* dwarf);

 private:
  std::unique_ptr<ElfFile> in_folders(const std::string& build_id_hex) const;
  std::unique_ptr<ElfFile> from_servers(const std::string& build_id_hex);
  [[nodiscard]] std::unique_ptr<ElfFile> by_debuglink(const ElfFile& module) const;
  [[nodiscard]] std::vector<std::string> link_candidates(const std::string& module_path,
                                                         const std::string& name) const;

  class Client;
  std::vector<std::string> dirs_;
  std::unique_ptr<Client> client_;  // null when servers are not to be asked (any more)
};

// The folder a file really lies in, symbolic links resolved; with a slash at the end.
std::string real_folder(const std::string& path);

}  // namespace mprof::dumper

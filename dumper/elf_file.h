// SPDX-License-Identifier: Apache-2.0
// One x86-64 ELF file, opened with suspicion.
//
// Called by symbolize.cc, debug_files.cc, dwarf_info.cc
// Threads   One at a time.
// Fails     open() returns nullptr and says why. What is broken inside the file reads as absent.
// Trust     The path comes from a dump: only regular files are opened (a FIFO would block, a
//           device may act, and so may what the kernel makes up in /proc or /sys), and never for
//           writing. Sections are read, not mapped: a file that
//           is truncated under a mapping would end the program with SIGBUS.
#pragma once

#include <gelf.h>
#include <libelf.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dumper/address_map.h"

namespace mprof::dumper {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  ~UniqueFd() { reset(); }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  int release();
  void reset();

 private:
  int fd_ = -1;
};

enum class FileProblem { kNone, kMissing, kRefused, kNotElf };

// Whether there is nothing at the path, or a regular file that a disk has.
[[nodiscard]] bool may_be_opened(const std::string& path);
// Opens such a file for reading, or says why not.
UniqueFd open_regular_file(const std::string& path, FileProblem& problem);

struct ElfSymbol {
  uint64_t address;
  uint64_t size_bytes;
  const char* name;  // lives as long as the ElfFile
  uint8_t type;      // STT_*
  uint8_t binding;   // STB_*
};

class ElfFile {
 public:
  static std::unique_ptr<ElfFile> open(const std::string& path, FileProblem& problem);
  static std::unique_ptr<ElfFile> from_fd(UniqueFd fd, const std::string& path,
                                          FileProblem& problem);
  static std::unique_ptr<ElfFile> from_image(std::vector<char> image, const std::string& path);
  // The vdso that the kernel mapped into this very process.
  static std::unique_ptr<ElfFile> own_vdso();

  ~ElfFile();
  ElfFile(const ElfFile&) = delete;
  ElfFile& operator=(const ElfFile&) = delete;

  [[nodiscard]] Elf* elf() const { return elf_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] uint64_t file_bytes() const { return file_bytes_; }
  [[nodiscard]] const std::string& build_id_hex() const { return build_id_hex_; }

  // A program or library. Object files are not, nor are the files that dwz makes.
  [[nodiscard]] bool is_loadable() const;
  // True when the section is there with contents (a stripped half keeps only its header).
  [[nodiscard]] bool has_section(std::string_view name) const;
  // Of a section of texts: whether the last one has an end. True where there is none.
  [[nodiscard]] bool has_ended_texts(std::string_view section) const;
  [[nodiscard]] bool has_dwarf() const;
  [[nodiscard]] bool has_symtab() const;

  // Where code lies; from the section headers, or the segments of a file without them.
  [[nodiscard]] std::vector<AddressMap::Range> code_ranges() const;
  // Where variables, constants and vtables lie; not thread-local ones, which have no address here.
  [[nodiscard]] std::vector<AddressMap::Range> data_ranges() const;
  // Functions and labels of .symtab (SHT_SYMTAB) or .dynsym (SHT_DYNSYM).
  [[nodiscard]] std::vector<ElfSymbol> code_symbols(uint32_t section_type) const;
  // Variables, constants and vtables of it.
  [[nodiscard]] std::vector<ElfSymbol> data_symbols(uint32_t section_type) const;
  // The pointer that a loaded module has at `address`, relocated but not moved by a load bias.
  // Nothing where there is none, or where it leads into another module.
  [[nodiscard]] std::optional<uint64_t> pointer_at(uint64_t address) const;
  // The zero-terminated text there, empty when there is none.
  [[nodiscard]] std::string text_at(uint64_t address) const;
  // The symbol table that Fedora-like systems pack into .gnu_debugdata; nullptr when absent.
  [[nodiscard]] std::unique_ptr<ElfFile> packed_symbols() const;

 private:
  ElfFile() = default;
  bool adopt(Elf* elf);
  [[nodiscard]] Elf_Scn* find_section(std::string_view name) const;
  [[nodiscard]] std::string_view contents_from(uint64_t address) const;
  [[nodiscard]] std::optional<uint64_t> relocated(const GElf_Rela& relocation,
                                                  size_t symbols_section) const;
  [[nodiscard]] std::vector<AddressMap::Range> ranges(bool is_code) const;
  [[nodiscard]] std::vector<AddressMap::Range> segments(bool is_code) const;
  template <class Wanted>
  [[nodiscard]] std::vector<ElfSymbol> symbols(uint32_t section_type, Wanted&& wanted) const;

  std::string path_;
  std::string build_id_hex_;
  uint64_t file_bytes_ = 0;
  std::vector<char> image_;  // must outlive elf_ when it is read from memory
  UniqueFd fd_;
  Elf* elf_ = nullptr;
};

std::string to_hex(const void* bytes, size_t size_bytes);
// Lower-case hex of a build id, or empty when the text is not one.
std::string normal_build_id(std::string_view hex);

}  // namespace mprof::dumper

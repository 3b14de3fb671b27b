// SPDX-License-Identifier: Apache-2.0
// Lines, inlined frames and variables out of the DWARF (2 to 5) of one module.
//
// Layout    Units by address are indexed when the file is opened; the functions and inlined
//           calls of a unit on its first lookup, as a flat address map over a tree of scopes.
//           A program with 200 MB of DWARF then costs what the sampled units cost. Only the
//           first question for a variable indexes all units: none says where its variables are.
// Threads   One at a time.
// Fails     Broken DWARF reads as absent. Loops and depths of this code are bounded; those of
//           libdw are by the size of the file.
#pragma once

#include <elfutils/libdw.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dumper/address_map.h"
#include "dumper/debug_files.h"
#include "dumper/elf_file.h"
#include "dumper/symbolize.h"

namespace mprof::dumper {

class DwarfInfo {
 public:
  // Nullptr without usable DWARF. Both files must outlive the result, `code` says which
  // addresses are real: linkers leave functions they dropped behind, at 0 or -1.
  static std::unique_ptr<DwarfInfo> open(const ElfFile& file, DebugFiles& debug_files,
                                         const AddressMap& code);
  ~DwarfInfo();
  DwarfInfo(const DwarfInfo&) = delete;
  DwarfInfo& operator=(const DwarfInfo&) = delete;

  // Innermost first. `elf_name` (may be empty) is what the symbol table calls the function.
  std::vector<SymbolFrame> frames(uint64_t address, std::string_view elf_name);

  struct Variable {
    std::string name;  // qualified, also with the function of a local one; empty if there is none
    uint64_t address = 0;
  };
  // The variable that lies across `address`.
  Variable variable(uint64_t address);

 private:
  // A function or an inlined call that has code.
  struct Scope {
    Dwarf_Die die;
    uint32_t parent;  // index of the scope it is inlined into; kNone for a function
  };
  // A namespace, class or function that other names are qualified with.
  struct Enclosing {
    Dwarf_Die die;
    uint32_t parent;
  };
  struct Place {
    Dwarf_Die die;
    uint32_t unit;
    uint64_t address;
  };
  struct Unit {
    Dwarf_CU* cu = nullptr;
    Dwarf_Die skeleton{};  // the unit in the file itself; has ranges and lines
    Dwarf_Die die{};       // the same, or with split DWARF the one in the .dwo file
    bool indexed = false;
    bool qualifies = false;  // the language has namespaces or classes
    std::vector<Scope> scopes;
    std::vector<Dwarf_Die> variables;  // those with a place of their own
    AddressMap by_address;
    std::vector<Enclosing> enclosing;
    std::unordered_map<const void*, uint32_t> enclosing_of;  // DIE address -> enclosing
  };
  struct Walk;

  DwarfInfo(Dwarf* dwarf, const AddressMap& code);
  void list_units();
  void index_units();
  void index_rangeless_units();
  void index_unit(Unit& unit);
  void attach_split_unit(Unit& unit) const;
  void add_ranges(Dwarf_Die* die, uint32_t depth, uint32_t id, std::vector<AddressMap::Range>& out);
  void walk_children(Walk& walk, Dwarf_Die* parent, uint32_t scope, uint32_t enclosing,
                     uint32_t depth);
  void walk_die(Walk& walk, Dwarf_Die* die, uint32_t scope, uint32_t enclosing, uint32_t depth);
  uint32_t add_scope(Walk& walk, Dwarf_Die* die, uint32_t parent, uint32_t depth);
  void note_enclosing(Unit& unit, Dwarf_Die* die, uint32_t enclosing);
  static void note_variable(Unit& unit, Dwarf_Die* die, uint32_t enclosing);
  void index_variables();

  Unit* unit_at(uint64_t address);
  void fill_line(Unit& unit, uint64_t address, SymbolFrame& frame) const;
  void fill_call_site(Unit& unit, Dwarf_Die* die, SymbolFrame& caller) const;
  void fill_name(Unit& unit, Scope& scope, std::string_view elf_name, SymbolFrame& frame) const;
  std::string qualified_name(Unit& unit, Dwarf_Die* die, const char* name) const;
  std::string file_name(Unit& unit, const char* name) const;

  Dwarf* dwarf_ = nullptr;
  const AddressMap& code_;
  std::string folder_;  // of the file, for .dwo files beside it
  Dwarf* supplement_ = nullptr;
  std::unique_ptr<ElfFile> supplement_file_;
  // One range list may be named by many: all together are no more than the file has bytes.
  uint64_t ranges_left_ = uint64_t{1} << 20;
  std::vector<Unit> units_;
  AddressMap by_address_;
  std::vector<uint32_t> rangeless_;  // units that do not say which addresses they cover
  AddressMap rangeless_by_address_;
  bool rangeless_indexed_ = false;
  std::vector<Place> variables_;  // of all units
  AddressMap variables_by_address_;
  bool variables_indexed_ = false;
};

}  // namespace mprof::dumper

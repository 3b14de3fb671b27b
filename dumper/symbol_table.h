// SPDX-License-Identifier: Apache-2.0
// The symbols of a module's code, or of its data, by address; one name per address.
#pragma once

#include <cstdint>
#include <vector>

#include "dumper/address_map.h"
#include "dumper/elf_file.h"

namespace mprof::dumper {

class SymbolTable {
 public:
  SymbolTable() = default;
  // Symbols outside the sections are ignored. A symbol without a size reaches to the next
  // symbol or the end of its section, and never covers part of one that has a size.
  SymbolTable(std::vector<ElfSymbol> symbols, const std::vector<AddressMap::Range>& sections);

  [[nodiscard]] bool empty() const { return symbols_.empty(); }
  [[nodiscard]] const ElfSymbol* find(uint64_t address) const;

 private:
  void index(const std::vector<AddressMap::Range>& sections);

  std::vector<ElfSymbol> symbols_;
  AddressMap by_address_;
};

}  // namespace mprof::dumper

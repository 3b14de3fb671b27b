// SPDX-License-Identifier: Apache-2.0
#include "dumper/symbol_table.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <tuple>

namespace mprof::dumper {
namespace {

// Many names share an address (`malloc`, `__libc_malloc`, a local `__malloc`). The smallest key
// is the name a person would use: a sized function before a label, one that others can call
// before a local alias, the plain spelling before the one with underscores.
auto preference(const ElfSymbol& symbol) {
  const std::string_view name(symbol.name);
  return std::make_tuple(symbol.size_bytes == 0, symbol.type == STT_NOTYPE,
                         symbol.binding == STB_LOCAL, name.find_first_not_of('_'),
                         symbol.binding == STB_WEAK, name.size(), name);
}

bool comes_before(const ElfSymbol& a, const ElfSymbol& b) {
  if (a.address != b.address) return a.address < b.address;
  return preference(a) < preference(b);
}

const AddressMap::Range* section_of(const AddressMap& map,
                                    const std::vector<AddressMap::Range>& sections,
                                    uint64_t address) {
  const uint32_t id = map.find(address);
  return id == AddressMap::kNone ? nullptr : &sections[id];
}

}  // namespace

SymbolTable::SymbolTable(std::vector<ElfSymbol> symbols,
                         const std::vector<AddressMap::Range>& sections)
    : symbols_(std::move(symbols)) {
  const AddressMap map(sections);
  std::erase_if(symbols_, [&](const ElfSymbol& symbol) {
    return map.find(symbol.address) == AddressMap::kNone;
  });
  std::sort(symbols_.begin(), symbols_.end(), comes_before);
  const auto same_address = [](const ElfSymbol& a, const ElfSymbol& b) {
    return a.address == b.address;
  };
  symbols_.erase(std::unique(symbols_.begin(), symbols_.end(), same_address), symbols_.end());
  symbols_.shrink_to_fit();
  index(sections);
}

void SymbolTable::index(const std::vector<AddressMap::Range>& sections) {
  const AddressMap map(sections);
  std::vector<AddressMap::Range> ranges;
  uint64_t sized_end = 0;  // the furthest end of a sized symbol so far
  for (size_t i = 0; i < symbols_.size(); ++i) {
    const ElfSymbol& symbol = symbols_[i];
    const uint64_t section_end = section_of(map, sections, symbol.address)->high;
    uint64_t end = section_end;
    if (symbol.size_bytes != 0) {
      end = symbol.address + std::min(symbol.size_bytes, section_end - symbol.address);
      sized_end = std::max(sized_end, end);
    } else if (symbol.address < sized_end) {
      continue;  // a label inside a function
    } else if (i + 1 < symbols_.size()) {
      end = std::min(end, symbols_[i + 1].address);
    }
    ranges.push_back({symbol.address, end, 0, static_cast<uint32_t>(i)});
  }
  by_address_ = AddressMap(std::move(ranges));
}

const ElfSymbol* SymbolTable::find(uint64_t address) const {
  const uint32_t id = by_address_.find(address);
  return id == AddressMap::kNone ? nullptr : &symbols_[id];
}

}  // namespace mprof::dumper

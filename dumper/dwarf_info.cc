// SPDX-License-Identifier: Apache-2.0
#include "dumper/dwarf_info.h"

#include <dwarf.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <filesystem>
#include <functional>
#include <utility>

#include "dumper/demangle.h"

namespace mprof::dumper {
namespace {

constexpr uint32_t kNone = AddressMap::kNone;
// Far beyond what compilers nest, far below what the stack holds.
constexpr uint32_t kMaxDepth = 512;
// Per unit.
constexpr size_t kMaxRanges = size_t{1} << 24;
// Per range list: 32 MiB of list. Many DIEs may name the same one, so kMaxRanges counts too.
constexpr size_t kMaxRangesPerDie = size_t{1} << 21;
constexpr int kMaxQualifiers = 64;

const char* string_of(Dwarf_Die* die, unsigned attribute_name) {
  Dwarf_Attribute attribute;
  return dwarf_formstring(dwarf_attr_integrate(die, attribute_name, &attribute));
}

int number_of(Dwarf_Die* die, unsigned attribute_name) {
  Dwarf_Attribute attribute;
  Dwarf_Word value = 0;
  if (dwarf_formudata(dwarf_attr_integrate(die, attribute_name, &attribute), &value) != 0) return 0;
  return value > INT_MAX ? 0 : static_cast<int>(value);
}

const char* linkage_name_of(Dwarf_Die* die) {
  const char* name = string_of(die, DW_AT_linkage_name);
  return name != nullptr ? name : string_of(die, DW_AT_MIPS_linkage_name);
}

// Languages whose plain names say everything, so that nothing is to be qualified.
bool has_plain_names(Dwarf_Die* unit) {
  switch (dwarf_srclang(unit)) {
    case DW_LANG_C:
    case DW_LANG_C89:
    case DW_LANG_C99:
    case DW_LANG_C11:
    case DW_LANG_Mips_Assembler:
    case DW_LANG_Go: return true;
    default: return false;
  }
}

bool is_qualifier(int tag) {
  switch (tag) {
    case DW_TAG_namespace:
    case DW_TAG_module:
    case DW_TAG_structure_type:
    case DW_TAG_class_type:
    case DW_TAG_union_type:
    case DW_TAG_interface_type: return true;
    default: return false;
  }
}

bool is_block(int tag) {
  return tag == DW_TAG_lexical_block || tag == DW_TAG_try_block || tag == DW_TAG_catch_block ||
         tag == DW_TAG_with_stmt;
}

// Where a variable lies, if that is one fixed address.
bool fixed_address(Dwarf_Die* die, uint64_t& address) {
  Dwarf_Attribute attribute;
  Dwarf_Attribute indexed;
  Dwarf_Block block;
  if (dwarf_formblock(dwarf_attr(die, DW_AT_location, &attribute), &block) != 0) return false;
  if (block.length == 1 + sizeof address && *block.data == DW_OP_addr) {
    std::memcpy(&address, block.data + 1, sizeof address);
    return true;
  }
  if (block.length < 2 || (*block.data != DW_OP_addrx && *block.data != DW_OP_GNU_addr_index))
    return false;
  Dwarf_Op* operations = nullptr;
  size_t count = 0;
  return dwarf_getlocation(&attribute, &operations, &count) == 0 && count == 1 &&
         dwarf_getlocation_attr(&attribute, operations, &indexed) == 0 &&
         dwarf_formaddr(&indexed, &address) == 0;
}

uint64_t size_of(Dwarf_Die* die) {
  Dwarf_Attribute attribute;
  Dwarf_Die type;
  Dwarf_Word size_bytes = 0;
  if (dwarf_formref_die(dwarf_attr_integrate(die, DW_AT_type, &attribute), &type) == nullptr ||
      dwarf_aggregate_size(&type, &size_bytes) != 0)
    return 1;
  return size_bytes;
}

// libdw takes it for granted, and reads beyond them. It has unpacked them by now.
bool has_ended_texts(const ElfFile& file) {
  constexpr std::string_view kTexts[] = {".debug_str", ".debug_line_str", ".zdebug_str",
                                         ".zdebug_line_str"};
  return std::all_of(std::begin(kTexts), std::end(kTexts),
                     [&file](std::string_view name) { return file.has_ended_texts(name); });
}

// What stands before "::inner".
std::string qualifier_of(Dwarf_Die* outer, std::string_view inner) {
  if (const char* name = string_of(outer, DW_AT_name)) return name;
  if (dwarf_tag(outer) == DW_TAG_namespace) return "(anonymous namespace)";
  if (inner != "operator()") return "(anonymous)";
  return "{lambda:" + std::to_string(number_of(outer, DW_AT_decl_line)) + "}";
}

}  // namespace

struct DwarfInfo::Walk {
  Unit& unit;
  std::vector<AddressMap::Range> ranges;
  const void* last;  // DIE visited last
};

DwarfInfo::DwarfInfo(Dwarf* dwarf, const AddressMap& code) : dwarf_(dwarf), code_(code) {}

DwarfInfo::~DwarfInfo() {
  dwarf_end(dwarf_);
  if (supplement_ != nullptr) dwarf_end(supplement_);
}

std::unique_ptr<DwarfInfo> DwarfInfo::open(const ElfFile& file, DebugFiles& debug_files,
                                           const AddressMap& code) {
  Dwarf* dwarf = dwarf_begin_elf(file.elf(), DWARF_C_READ, nullptr);
  if (dwarf == nullptr) return nullptr;
  std::unique_ptr<DwarfInfo> info(new DwarfInfo(dwarf, code));
  if (!has_ended_texts(file)) return nullptr;
  DebugFiles::Supplement supplement = debug_files.supplement(file, dwarf);
  if (!supplement.usable) return nullptr;
  if (supplement.file != nullptr) {
    info->supplement_file_ = std::move(supplement.file);
    info->supplement_ = dwarf_begin_elf(info->supplement_file_->elf(), DWARF_C_READ, nullptr);
    if (!has_ended_texts(*info->supplement_file_)) return nullptr;
    if (info->supplement_ != nullptr) dwarf_setalt(dwarf, info->supplement_);
  }
  info->ranges_left_ += file.file_bytes();
  info->folder_ = real_folder(file.path());
  info->list_units();
  info->index_units();
  return info;
}

void DwarfInfo::list_units() {
  Dwarf_CU* cu = nullptr;
  Dwarf_CU* next = nullptr;
  Dwarf_Die die;
  uint8_t type = 0;
  // No sub-DIE asked for: that would open the .dwo files, of all units, unchecked.
  while (dwarf_get_units(dwarf_, cu, &next, nullptr, &type, &die, nullptr) == 0) {
    cu = next;
    if (type != DW_UT_compile && type != DW_UT_skeleton) continue;
    if (dwarf_tag(&die) != DW_TAG_compile_unit && dwarf_tag(&die) != DW_TAG_skeleton_unit) continue;
    Unit unit;
    unit.cu = cu;
    unit.skeleton = unit.die = die;
    units_.push_back(std::move(unit));
  }
}

void DwarfInfo::index_units() {
  std::vector<AddressMap::Range> ranges;
  for (uint32_t i = 0; i < units_.size(); ++i) {
    const size_t before = ranges.size();
    add_ranges(&units_[i].skeleton, 0, i, ranges);
    if (ranges.size() == before) rangeless_.push_back(i);
  }
  by_address_ = AddressMap(std::move(ranges));
}

void DwarfInfo::add_ranges(Dwarf_Die* die, uint32_t depth, uint32_t id,
                           std::vector<AddressMap::Range>& out) {
  Dwarf_Addr base = 0;
  Dwarf_Addr low = 0;
  Dwarf_Addr high = 0;
  ptrdiff_t at = 0;
  for (size_t i = 0; i < kMaxRangesPerDie && out.size() < kMaxRanges && ranges_left_ != 0; ++i) {
    at = dwarf_ranges(die, at, &base, &low, &high);
    if (at <= 0) return;
    --ranges_left_;
    if (low < high && code_.find(low) != kNone) out.push_back({low, high, depth, id});
  }
}

// Some compilers and assemblers describe functions in units without an address range.
void DwarfInfo::index_rangeless_units() {
  rangeless_indexed_ = true;
  std::vector<AddressMap::Range> ranges;
  for (uint32_t i : rangeless_) {
    index_unit(units_[i]);
    for (Scope& scope : units_[i].scopes)
      if (scope.parent == kNone) add_ranges(&scope.die, 0, i, ranges);
  }
  rangeless_by_address_ = AddressMap(std::move(ranges));
}

DwarfInfo::Unit* DwarfInfo::unit_at(uint64_t address) {
  uint32_t found = by_address_.find(address);
  if (found == kNone) {
    if (!rangeless_indexed_) index_rangeless_units();
    found = rangeless_by_address_.find(address);
  }
  if (found == kNone) return nullptr;
  index_unit(units_[found]);
  return &units_[found];
}

void DwarfInfo::index_unit(Unit& unit) {
  if (std::exchange(unit.indexed, true)) return;
  attach_split_unit(unit);
  unit.qualifies = !has_plain_names(&unit.die);
  Walk walk{unit, {}, nullptr};
  walk_children(walk, &unit.die, kNone, kNone, 0);
  unit.by_address = AddressMap(std::move(walk.ranges));
}

void DwarfInfo::attach_split_unit(Unit& unit) const {
  const char* dwo_name = string_of(&unit.skeleton, DW_AT_dwo_name);
  if (dwo_name == nullptr) dwo_name = string_of(&unit.skeleton, DW_AT_GNU_dwo_name);
  if (dwo_name == nullptr) return;
  const char* comp_dir = string_of(&unit.skeleton, DW_AT_comp_dir);
  // The places libdw will try; it opens whatever is there, and a FIFO would never answer.
  if (!may_be_opened(dwo_name) || !may_be_opened(folder_ + dwo_name)) return;
  if (comp_dir != nullptr && !may_be_opened(std::string(comp_dir) + "/" + dwo_name)) return;
  Dwarf_Die split;
  if (dwarf_cu_info(unit.cu, nullptr, nullptr, nullptr, &split, nullptr, nullptr, nullptr) == 0 &&
      dwarf_tag(&split) != DW_TAG_invalid)
    unit.die = split;
}

void DwarfInfo::walk_children(Walk& walk, Dwarf_Die* parent, uint32_t scope, uint32_t enclosing,
                              uint32_t depth) {
  Dwarf_Die die;
  if (depth > kMaxDepth || dwarf_child(parent, &die) != 0) return;
  do {
    // Children lie behind their parent and siblings behind those. Damaged links could lead back
    // or overlap; never visiting a DIE twice keeps the work linear.
    if (!std::less<>()(walk.last, static_cast<const void*>(die.addr))) return;
    walk.last = die.addr;
    walk_die(walk, &die, scope, enclosing, depth);
  } while (dwarf_siblingof(&die, &die) == 0);
}

void DwarfInfo::walk_die(Walk& walk, Dwarf_Die* die, uint32_t scope, uint32_t enclosing,
                         uint32_t depth) {
  const int tag = dwarf_tag(die);
  if (tag == DW_TAG_subprogram) {
    note_enclosing(walk.unit, die, enclosing);
    // A function inside a function is called by it, not inlined into it: it has no outer scope.
    const uint32_t added = add_scope(walk, die, kNone, depth);
    if (dwarf_haschildren(die) <= 0) return;
    const auto inner = static_cast<uint32_t>(walk.unit.enclosing.size());
    walk.unit.enclosing.push_back({*die, enclosing});
    walk_children(walk, die, added, inner, depth + 1);
  } else if (tag == DW_TAG_variable) {
    note_variable(walk.unit, die, enclosing);
  } else if (tag == DW_TAG_inlined_subroutine) {
    walk_children(walk, die, add_scope(walk, die, scope, depth), enclosing, depth + 1);
  } else if (is_block(tag)) {
    walk_children(walk, die, scope, enclosing, depth + 1);
  } else if (is_qualifier(tag) && dwarf_haschildren(die) > 0) {
    const auto inner = static_cast<uint32_t>(walk.unit.enclosing.size());
    walk.unit.enclosing.push_back({*die, enclosing});
    walk_children(walk, die, kNone, inner, depth + 1);
  }
}

// The new scope, or `parent` when the DIE has no code of its own.
uint32_t DwarfInfo::add_scope(Walk& walk, Dwarf_Die* die, uint32_t parent, uint32_t depth) {
  const auto index = static_cast<uint32_t>(walk.unit.scopes.size());
  const size_t before = walk.ranges.size();
  add_ranges(die, depth, index, walk.ranges);
  if (walk.ranges.size() == before) return parent;
  walk.unit.scopes.push_back({*die, parent});
  return index;
}

void DwarfInfo::note_enclosing(Unit& unit, Dwarf_Die* die, uint32_t enclosing) {
  if (!unit.qualifies || enclosing == kNone) return;
  if (dwarf_hasattr(die, DW_AT_linkage_name) || dwarf_hasattr(die, DW_AT_specification)) return;
  unit.enclosing_of.emplace(die->addr, enclosing);
}

void DwarfInfo::note_variable(Unit& unit, Dwarf_Die* die, uint32_t enclosing) {
  uint64_t address = 0;
  const bool has_address = fixed_address(die, address);
  if (has_address) unit.variables.push_back(*die);
  // A declaration: where it stands qualifies the variable that refers to it.
  if (enclosing != kNone && (has_address || dwarf_hasattr(die, DW_AT_declaration)))
    unit.enclosing_of.emplace(die->addr, enclosing);
}

void DwarfInfo::index_variables() {
  variables_indexed_ = true;
  std::vector<AddressMap::Range> ranges;
  for (uint32_t i = 0; i < units_.size(); ++i) {
    index_unit(units_[i]);
    for (Dwarf_Die& die : units_[i].variables) {
      Place place{die, i, 0};
      const uint64_t size_bytes = size_of(&die);
      if (!fixed_address(&die, place.address) || place.address + size_bytes <= place.address)
        continue;
      ranges.push_back(
          {place.address, place.address + size_bytes, 0, static_cast<uint32_t>(variables_.size())});
      variables_.push_back(place);
    }
  }
  variables_by_address_ = AddressMap(std::move(ranges));
}

DwarfInfo::Variable DwarfInfo::variable(uint64_t address) {
  if (!variables_indexed_) index_variables();
  const uint32_t found = variables_by_address_.find(address);
  if (found == kNone) return {};
  Place& place = variables_[found];
  if (const char* linkage = linkage_name_of(&place.die)) return {demangle(linkage), place.address};
  const char* name = string_of(&place.die, DW_AT_name);
  if (name == nullptr) return {};
  return {qualified_name(units_[place.unit], &place.die, name), place.address};
}

std::vector<SymbolFrame> DwarfInfo::frames(uint64_t address, std::string_view elf_name) {
  std::vector<SymbolFrame> frames;
  Unit* unit = unit_at(address);
  if (unit == nullptr) return frames;
  SymbolFrame frame;
  fill_line(*unit, address, frame);
  uint32_t at = unit->by_address.find(address);
  while (at != kNone) {
    Scope& scope = unit->scopes[at];
    const bool inlined = dwarf_tag(&scope.die) == DW_TAG_inlined_subroutine;
    fill_name(*unit, scope, inlined ? std::string_view() : elf_name, frame);
    frames.push_back(std::move(frame));
    if (!inlined) return frames;
    frame = SymbolFrame();
    fill_call_site(*unit, &scope.die, frame);
    at = scope.parent;
  }
  // Assembler code has lines but often no functions.
  if (elf_name.empty()) return frames;
  frame.system_name = elf_name;
  frame.name = demangle(elf_name);
  frames.push_back(std::move(frame));
  return frames;
}

void DwarfInfo::fill_line(Unit& unit, uint64_t address, SymbolFrame& frame) const {
  Dwarf_Line* line = dwarf_getsrc_die(&unit.skeleton, address);
  if (line == nullptr) return;
  dwarf_lineno(line, &frame.line);
  frame.file = file_name(unit, dwarf_linesrc(line, nullptr, nullptr));
}

void DwarfInfo::fill_call_site(Unit& unit, Dwarf_Die* die, SymbolFrame& caller) const {
  caller.line = number_of(die, DW_AT_call_line);
  Dwarf_Files* files = nullptr;
  if (dwarf_getsrcfiles(&unit.die, &files, nullptr) != 0) return;
  const auto index = static_cast<size_t>(number_of(die, DW_AT_call_file));
  caller.file = file_name(unit, dwarf_filesrc(files, index, nullptr, nullptr));
}

void DwarfInfo::fill_name(Unit& unit, Scope& scope, std::string_view elf_name,
                          SymbolFrame& frame) const {
  frame.start_line = number_of(&scope.die, DW_AT_decl_line);
  const char* linkage = linkage_name_of(&scope.die);
  const char* name = string_of(&scope.die, DW_AT_name);
  if (linkage != nullptr || name == nullptr) {
    frame.system_name = linkage != nullptr ? std::string_view(linkage) : elf_name;
    // No name at all: the file that dwz moved it to is not here.
    frame.name = frame.system_name.empty() ? "(unnamed)" : demangle(frame.system_name);
    return;
  }
  // Static functions and members of local classes have no linkage name. They keep the DWARF name
  // also where the symbol table knows a fuller one: inlined copies have no symbol, and the same
  // function must not come under two names.
  frame.name = unit.qualifies ? qualified_name(unit, &scope.die, name) : name;
  frame.system_name = is_mangled(elf_name) ? elf_name : std::string_view(name);
}

std::string DwarfInfo::qualified_name(Unit& unit, Dwarf_Die* die, const char* name) const {
  Dwarf_Die origin = *die;
  Dwarf_Attribute attribute;
  for (unsigned link : {DW_AT_abstract_origin, DW_AT_specification}) {
    Dwarf_Die target;
    if (dwarf_formref_die(dwarf_attr(&origin, link, &attribute), &target) != nullptr)
      origin = target;
  }
  const auto found = unit.enclosing_of.find(origin.addr);
  std::string qualified = name;
  uint32_t at = found == unit.enclosing_of.end() ? kNone : found->second;
  for (int i = 0; at != kNone && i < kMaxQualifiers; ++i) {
    Enclosing& outer = unit.enclosing[at];
    const char* linkage = linkage_name_of(&outer.die);
    const std::string prefix =
        linkage != nullptr ? demangle(linkage) : qualifier_of(&outer.die, qualified);
    qualified.insert(0, prefix + "::");
    if (linkage != nullptr) break;  // complete already
    at = outer.parent;
  }
  return qualified;
}

std::string DwarfInfo::file_name(Unit& unit, const char* name) const {
  if (name == nullptr || std::string_view(name) == "???") return {};
  std::filesystem::path path(name);
  const char* comp_dir = string_of(&unit.skeleton, DW_AT_comp_dir);
  const bool is_real = *name != '<';  // <built-in>, <artificial>
  if (is_real && path.is_relative() && comp_dir != nullptr) path = comp_dir / path;
  return path.lexically_normal().string();
}

}  // namespace mprof::dumper

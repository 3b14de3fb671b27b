// SPDX-License-Identifier: Apache-2.0
#include "dumper/symbolize.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "dumper/address_map.h"
#include "dumper/debug_files.h"
#include "dumper/demangle.h"
#include "dumper/dwarf_info.h"
#include "dumper/elf_file.h"
#include "dumper/symbol_table.h"

namespace mprof::dumper {
namespace {

constexpr const char* kNoBuild = "-";                // that no file has
constexpr std::string_view kDeleted = " (deleted)";  // the kernel's mark in /proc/PID/maps

// Members are destroyed last to first: what reads a file goes before the file.
struct Module {
  ModuleSymbols status = ModuleSymbols::kFileMissing;
  std::unique_ptr<ElfFile> program;
  std::unique_ptr<ElfFile> debug;
  std::unique_ptr<ElfFile> packed;
  AddressMap code;
  SymbolTable symbols;
  bool data_read = false;
  AddressMap data_sections;
  SymbolTable data;
  std::unique_ptr<DwarfInfo> dwarf;
  std::unordered_map<uint64_t, std::vector<SymbolFrame>> known;
};

bool is_vdso(const std::string& path) {
  return path == "[vdso]" || path.ends_with("linux-vdso.so.1");
}

ModuleSymbols status_of(FileProblem problem) {
  switch (problem) {
    case FileProblem::kRefused: return ModuleSymbols::kRefused;
    case FileProblem::kNotElf: return ModuleSymbols::kNotElf;
    case FileProblem::kNone:
    case FileProblem::kMissing: break;
  }
  return ModuleSymbols::kFileMissing;
}

void append(std::vector<ElfSymbol>& all, std::vector<ElfSymbol> more) {
  all.insert(all.end(), more.begin(), more.end());
}

// C compilers number static locals ("lock.0"): which function's it is says DWARF alone.
bool is_numbered(std::string_view name) {
  const size_t dot = name.rfind('.');
  return !is_mangled(name) && dot != std::string_view::npos &&
         name.find_first_not_of("0123456789", dot + 1) == std::string_view::npos;
}

std::string with_offset(std::string name, uint64_t offset_bytes) {
  return offset_bytes == 0 ? name : fmt::format("{}+{:#x}", name, offset_bytes);
}

}  // namespace

const char* describe(ModuleSymbols status) {
  switch (status) {
    case ModuleSymbols::kOk: return "symbols found";
    case ModuleSymbols::kFileMissing: return "the file is missing";
    case ModuleSymbols::kFileReplaced: return "the file has been replaced by another build";
    case ModuleSymbols::kNoSymbols: return "the file has no symbols";
    case ModuleSymbols::kNotElf:
      return "the file is not an x86-64 ELF program or library, or it is damaged";
    case ModuleSymbols::kRefused: return "the path is not a regular file that this user can read";
  }
  return "unknown";
}

class Symbolizer::Impl {
 public:
  explicit Impl(SymbolOptions options) : options_(std::move(options)), debug_files_(options_) {}

  Module& module(const ModuleRef& ref);
  const std::vector<SymbolFrame>& frames(const ModuleRef& ref, uint64_t vaddr);
  std::string data_name(const ModuleRef& ref, uint64_t vaddr);
  std::string class_name(const ModuleRef& ref, uint64_t vaddr);

 private:
  void load(const ModuleRef& ref, Module& module);
  void find_program(const ModuleRef& ref, Module& module) const;
  static bool try_program(const std::string& path, const std::string& wanted_id, Module& module);
  void find_debug(const std::string& wanted_id, Module& module);
  void read_symbols(Module& module) const;
  void read_dwarf(Module& module);
  static void read_data(Module& module);
  static std::vector<SymbolFrame> look_up(Module& module, uint64_t vaddr);

  // A mangled name of some bytes may stand for one of thousands, and each for many addresses.
  uint64_t names_left_bytes_ = uint64_t{1} << 30;
  SymbolOptions options_;
  DebugFiles debug_files_;
  std::unordered_map<std::string, std::unique_ptr<Module>> modules_;
};

Module& Symbolizer::Impl::module(const ModuleRef& ref) {
  // A newline cannot be part of a build id, so two modules never share a key.
  std::unique_ptr<Module>& slot = modules_[ref.build_id_hex + '\n' + ref.path];
  if (slot == nullptr) {
    slot = std::make_unique<Module>();
    if (options_.detail == SymbolDetail::kNone)
      slot->status = ModuleSymbols::kOk;  // nothing was asked for, nothing is amiss
    else
      load(ref, *slot);
  }
  return *slot;
}

void Symbolizer::Impl::load(const ModuleRef& ref, Module& module) {
  find_program(ref, module);
  find_debug(normal_build_id(ref.build_id_hex), module);
  if (module.program == nullptr && module.debug == nullptr) return;
  read_symbols(module);
  if (options_.detail == SymbolDetail::kFull) read_dwarf(module);
  const bool has_any = !module.symbols.empty() || module.dwarf != nullptr;
  module.status = has_any ? ModuleSymbols::kOk : ModuleSymbols::kNoSymbols;
}

void Symbolizer::Impl::find_program(const ModuleRef& ref, Module& module) const {
  const std::string wanted_id = normal_build_id(ref.build_id_hex);
  if (is_vdso(ref.path)) {
    // The dump may be from another kernel; only the build id can tell.
    std::unique_ptr<ElfFile> vdso = ElfFile::own_vdso();
    if (vdso != nullptr && !wanted_id.empty() && vdso->build_id_hex() == wanted_id)
      module.program = std::move(vdso);
    return;
  }
  if (ref.path.empty()) return;
  const std::string path = options_.sysroot + ref.path;
  if (try_program(path, ref.build_id_hex == kAnyBuild ? kAnyBuild : wanted_id, module)) return;
  if (!path.ends_with(kDeleted)) return;
  // What is there now is a newer file, or the same one put back: the build id decides.
  const std::string before = path.substr(0, path.size() - kDeleted.size());
  try_program(before, wanted_id.empty() ? kNoBuild : wanted_id, module);
}

bool Symbolizer::Impl::try_program(const std::string& path, const std::string& wanted_id,
                                   Module& module) {
  FileProblem problem;
  std::unique_ptr<ElfFile> file = ElfFile::open(path, problem);
  if (file == nullptr) {
    module.status = status_of(problem);
    return false;
  }
  if (!file->is_loadable()) {
    module.status = ModuleSymbols::kNotElf;
    return false;
  }
  if (wanted_id != kAnyBuild && file->build_id_hex() != wanted_id) {
    module.status = ModuleSymbols::kFileReplaced;
    return false;
  }
  module.program = std::move(file);
  return true;
}

void Symbolizer::Impl::find_debug(const std::string& wanted_id, Module& module) {
  if (module.program == nullptr) {
    module.debug = debug_files_.by_build_id(wanted_id);
    return;
  }
  const bool wants_dwarf = options_.detail == SymbolDetail::kFull && !module.program->has_dwarf();
  if (wants_dwarf || !module.program->has_symtab())
    module.debug = debug_files_.debug_half(*module.program);
}

void Symbolizer::Impl::read_symbols(Module& module) const {
  std::vector<ElfSymbol> symbols;
  if (module.program != nullptr) {
    append(symbols, module.program->code_symbols(SHT_SYMTAB));
    append(symbols, module.program->code_symbols(SHT_DYNSYM));
    module.packed = module.program->packed_symbols();
  }
  if (module.packed != nullptr) append(symbols, module.packed->code_symbols(SHT_SYMTAB));
  if (module.debug != nullptr) append(symbols, module.debug->code_symbols(SHT_SYMTAB));
  const ElfFile& layout = module.program != nullptr ? *module.program : *module.debug;
  const std::vector<AddressMap::Range> code = layout.code_ranges();
  module.symbols = SymbolTable(std::move(symbols), code);
  module.code = AddressMap(code);
}

void Symbolizer::Impl::read_dwarf(Module& module) {
  for (const ElfFile* file : {module.program.get(), module.debug.get()}) {
    if (file == nullptr || !file->has_dwarf() || module.dwarf != nullptr) continue;
    module.dwarf = DwarfInfo::open(*file, debug_files_, module.code);
  }
}

const std::vector<SymbolFrame>& Symbolizer::Impl::frames(const ModuleRef& ref, uint64_t vaddr) {
  Module& found = module(ref);
  const auto [entry, is_new] = found.known.try_emplace(vaddr);
  if (!is_new) return entry->second;
  entry->second = look_up(found, vaddr);
  uint64_t bytes = 0;
  for (const SymbolFrame& frame : entry->second)
    bytes += sizeof frame + frame.name.size() + frame.system_name.size() + frame.file.size();
  if (bytes > names_left_bytes_) entry->second.clear();
  names_left_bytes_ -= std::min(bytes, names_left_bytes_);
  return entry->second;
}

std::vector<SymbolFrame> Symbolizer::Impl::look_up(Module& module, uint64_t vaddr) {
  const ElfSymbol* symbol = module.symbols.find(vaddr);
  const std::string_view elf_name = symbol == nullptr ? "" : symbol->name;
  std::vector<SymbolFrame> frames;
  if (module.dwarf != nullptr) frames = module.dwarf->frames(vaddr, elf_name);
  if (!frames.empty() || elf_name.empty()) return frames;
  SymbolFrame frame;
  frame.name = demangle(elf_name);
  frame.system_name = elf_name;
  return {std::move(frame)};
}

// On the first question only: few runs have labels to name, and tables of data are long.
void Symbolizer::Impl::read_data(Module& module) {
  if (std::exchange(module.data_read, true)) return;
  const ElfFile* layout = module.program != nullptr ? module.program.get() : module.debug.get();
  if (layout == nullptr) return;
  std::vector<ElfSymbol> symbols;
  for (const ElfFile* file : {module.program.get(), module.packed.get(), module.debug.get()}) {
    if (file == nullptr) continue;
    append(symbols, file->data_symbols(SHT_SYMTAB));
    append(symbols, file->data_symbols(SHT_DYNSYM));
  }
  const std::vector<AddressMap::Range> sections = layout->data_ranges();
  module.data = SymbolTable(std::move(symbols), sections);
  module.data_sections = AddressMap(sections);
}

std::string Symbolizer::Impl::data_name(const ModuleRef& ref, uint64_t vaddr) {
  Module& found = module(ref);
  read_data(found);
  if (found.data_sections.find(vaddr) == AddressMap::kNone) return {};
  const ElfSymbol* symbol = found.data.find(vaddr);
  if (found.dwarf != nullptr && (symbol == nullptr || is_numbered(symbol->name))) {
    const DwarfInfo::Variable variable = found.dwarf->variable(vaddr);
    if (!variable.name.empty()) return with_offset(variable.name, vaddr - variable.address);
  }
  if (symbol == nullptr) return {};
  return with_offset(demangle(symbol->name), vaddr - symbol->address);
}

std::string Symbolizer::Impl::class_name(const ModuleRef& ref, uint64_t vaddr) {
  constexpr std::string_view kVtable = "vtable for ";
  constexpr std::string_view kType = "typeinfo name for ";
  const std::string data = data_name(ref, vaddr);
  if (data.starts_with(kVtable))
    return data.substr(kVtable.size(), data.rfind("+0x") - kVtable.size());
  Module& found = module(ref);
  if (!data.empty() || found.program == nullptr ||
      found.data_sections.find(vaddr) == AddressMap::kNone)
    return {};
  // Before what a vtable pointer leads to stands the type_info: its own vtable, then its name.
  const auto info = found.program->pointer_at(vaddr - sizeof(uint64_t));
  const auto text = info ? found.program->pointer_at(*info + sizeof(uint64_t)) : std::nullopt;
  if (!text) return {};
  std::string name = found.program->text_at(*text);
  if (name.starts_with('*')) name.erase(0, 1);  // libstdc++: to be compared by address
  name = demangle("_ZTS" + name);
  return name.starts_with(kType) ? name.substr(kType.size()) : std::string();
}

Symbolizer::Symbolizer(SymbolOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}

Symbolizer::~Symbolizer() = default;

const std::vector<SymbolFrame>& Symbolizer::frames(const ModuleRef& module, uint64_t vaddr) {
  return impl_->frames(module, vaddr);
}

std::string Symbolizer::data_name(const ModuleRef& module, uint64_t vaddr) {
  return impl_->data_name(module, vaddr);
}

std::string Symbolizer::class_name(const ModuleRef& module, uint64_t vaddr) {
  return impl_->class_name(module, vaddr);
}

ModuleSymbols Symbolizer::status(const ModuleRef& module) { return impl_->module(module).status; }

}  // namespace mprof::dumper

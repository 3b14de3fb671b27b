// SPDX-License-Identifier: Apache-2.0
// Hostile bytes as a program that a dump names: symbols, lines, inlined frames, variables, vtables.
// The first four bytes are the address to look up; the rest is the file.
#include "dumper/elf_file.h"

#include "dumper/symbolize.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/use_dump.h"

namespace {

using namespace mprof::dumper;  // NOLINT: a test of that namespace

void look_up(const std::string& path, uint64_t address) {
  Symbolizer symbolizer(SymbolOptions{SymbolDetail::kFull, false, {}, {}});
  const ModuleRef module{path, kAnyBuild};
  uint64_t named = 0;
  for (uint64_t at = address; at < address + 64; at += 8) {
    named += symbolizer.frames(module, at).size();
    (void)symbolizer.data_name(module, at);
    (void)symbolizer.class_name(module, at);
  }
  if (named != 0) mprof::fuzz::understood();
  (void)describe(symbolizer.status(module));
}

// Those that it has itself.
void look_up_symbols(const std::string& path) {
  constexpr size_t kMost = 32;
  FileProblem problem;
  const auto file = ElfFile::open(path, problem);
  if (file == nullptr) return;
  for (const uint32_t table : {SHT_SYMTAB, SHT_DYNSYM}) {
    auto symbols = file->code_symbols(table);
    symbols.resize(std::min(symbols.size(), kMost));
    for (const ElfSymbol& symbol : symbols) (void)file->text_at(symbol.address);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mprof::fuzz::Input input(data, size);
  const auto address = input.number<uint32_t>();
  const std::string path = mprof::fuzz::folder() + "/program";
  std::ofstream(path, std::ios::binary | std::ios::trunc) << input.rest();
  look_up(path, address);
  look_up_symbols(path);
  return 0;
}

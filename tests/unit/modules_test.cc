// SPDX-License-Identifier: Apache-2.0
#include "preload/modules.h"

#include <dlfcn.h>
#include <link.h>

#include <array>
#include <set>
#include <string>

#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::ModuleRow;

// A library of libc's own that nothing else has loaded.
constexpr const char* kLibrary = "libanl.so.1";

uintptr_t address_of(const void* function) { return reinterpret_cast<uintptr_t>(function); }

// An address in the executable segment of a loaded library.
uintptr_t code_in(void* handle) {
  const link_map* map = nullptr;
  REQUIRE(dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0);
  const auto* ehdr = reinterpret_cast<const ElfW(Ehdr)*>(map->l_addr);
  const auto* phdr = reinterpret_cast<const ElfW(Phdr)*>(map->l_addr + ehdr->e_phoff);
  for (int i = 0; i < ehdr->e_phnum; ++i)
    if (phdr[i].p_type == PT_LOAD && (phdr[i].p_flags & PF_X) != 0)
      return map->l_addr + phdr[i].p_vaddr + 1;
  return 0;
}

const ModuleRow& row_of(const test::ReaderView& view, uint32_t number) {
  return view.row<ModuleRow>(format::TableId::kModules, number);
}

std::string path_of(const test::ReaderView& view, const ModuleRow& row) {
  return {&view.row<char>(format::TableId::kStrings, row.path), row.path_bytes};
}

TEST_CASE("modules: a function of this program lies in this program") {
  const test::Recording recording;
  const uintptr_t pc = address_of(reinterpret_cast<const void*>(&module_of));
  const uint32_t number = module_of(pc);
  REQUIRE(number != kNoRow);
  CHECK(module_of(pc + 1) == number);
  const test::ReaderView view;
  const ModuleRow& row = row_of(view, number);
  CHECK(path_of(view, row) == std::filesystem::read_symlink("/proc/self/exe"));
  CHECK((row.start.load() <= pc && pc < row.end));
  CHECK((row.text_start <= pc && pc < row.text_end));
  CHECK(row.unloaded_ticks.load() == 0);
  CHECK(in_own_library(pc));
}

TEST_CASE("modules: libc is another object, with its path, bias and build id") {
  const test::Recording recording;
  const uintptr_t pc = address_of(dlsym(RTLD_DEFAULT, "getppid"));
  const uint32_t number = module_of(pc);
  REQUIRE(number != kNoRow);
  CHECK_FALSE(in_own_library(pc));
  const test::ReaderView view;
  const ModuleRow& row = row_of(view, number);
  CHECK(path_of(view, row).find("libc.so.6") != std::string::npos);
  CHECK(row.load_bias == row.start.load());
  CHECK(row.build_id_bytes == 20);
  Dl_info info;
  REQUIRE(dladdr(reinterpret_cast<void*>(pc), &info) != 0);
  CHECK(row.start.load() == address_of(info.dli_fbase));
}

TEST_CASE("modules: addresses outside every object have no row") {
  const test::Recording recording;
  int on_the_stack = 0;
  CHECK(module_of(0) == kNoRow);
  CHECK(module_of(1) == kNoRow);
  CHECK(module_of(address_of(&on_the_stack)) == kNoRow);
  CHECK(module_of(UINTPTR_MAX) == kNoRow);
  CHECK_FALSE(is_loaded(kNoRow));
  CHECK(tables.modules.used() == 0);
}

TEST_CASE("modules: a library that was unloaded keeps its row, loaded again it gets a new one") {
  const test::Recording recording;
  std::set<uint32_t> rows;
  for (int round = 0; round < 5; ++round) {
    void* library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    REQUIRE(library != nullptr);
    const uintptr_t pc = code_in(library);
    const uint32_t row = module_of(pc);
    REQUIRE(row != kNoRow);
    CHECK(module_of(pc) == row);
    CHECK(rows.insert(row).second);
    CHECK(is_loaded(row));
    REQUIRE(dlclose(library) == 0);
    const uint32_t epoch = module_epoch();
    close_unloaded_modules();
    CHECK(module_epoch() != epoch);
    CHECK_FALSE(is_loaded(row));
    const test::ReaderView view;
    CHECK(row_of(view, row).unloaded_ticks.load() != 0);
    CHECK(path_of(view, row_of(view, row)).find(kLibrary) != std::string::npos);
  }
}

TEST_CASE("modules: a dlclose that unloads nothing closes nothing") {
  const test::Recording recording;
  void* library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  REQUIRE(library != nullptr);
  const uintptr_t pc = code_in(library);
  const uint32_t row = module_of(pc);
  REQUIRE(dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL) == library);
  REQUIRE(dlclose(library) == 0);
  close_unloaded_modules();
  CHECK(module_of(pc) == row);
  REQUIRE(dlclose(library) == 0);
  close_unloaded_modules();
}

TEST_CASE("modules: after a fork's forgetting everything is registered anew") {
  const test::Recording recording;
  const uintptr_t pc = address_of(reinterpret_cast<const void*>(&module_of));
  const uint32_t before = module_of(pc);
  forget_modules();
  const uint32_t after = module_of(pc);
  CHECK(after != kNoRow);
  CHECK(after != before);
}

TEST_CASE("modules: eight threads that meet an object at once make one row of it") {
  const test::Recording recording;
  const uintptr_t pcs[] = {address_of(reinterpret_cast<const void*>(&module_of)),
                           address_of(dlsym(RTLD_DEFAULT, "getppid"))};
  std::array<std::set<uint32_t>, 2> rows[8];
  test::in_threads(8, [&](int thread) {
    for (int i = 0; i < 2000; ++i)
      for (int which = 0; which < 2; ++which) rows[thread][which].insert(module_of(pcs[which]));
  });
  for (const auto& of_thread : rows) {
    CHECK(of_thread[0] == rows[0][0]);
    CHECK(of_thread[1] == rows[0][1]);
    CHECK(of_thread[0].size() == 1);
  }
  CHECK(tables.modules.used() == 2);
}

TEST_CASE("modules: with the table full an address has no row, and nothing else happens") {
  const test::Recording recording;
  freeze_tables();
  CHECK(module_of(address_of(reinterpret_cast<const void*>(&module_of))) == kNoRow);
}

}  // namespace
}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
// Programs are compiled, stripped, split and damaged here, and the answers compared with those
// of addr2line. Needs g++ and binutils at test time.
#include "dumper/symbolize.h"

#include <sys/auxv.h>
#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "dumper/elf_file.h"
#include "tests/unit/catch.h"
#include "tests/unit/temp_folder.h"

namespace mprof::dumper {
namespace {

namespace fs = std::filesystem;
using test::output_of;
using test::TempFolder;

constexpr const char* kProgram = R"(#include <cstdlib>
volatile int sink;
[[gnu::always_inline]] inline void innermost(int n) {
  sink = n;
  sink = sink + 1;
}
namespace shapes {
template <typename T>
struct Box {
  [[gnu::always_inline]] void put(T n) {
    innermost(n);
  }
  [[gnu::noipa]] void keep(T n);
};
template <typename T>
void Box<T>::keep(T n) {
  put(n);
  put(n + 1);
}
}  // namespace shapes
[[gnu::noipa]] static int hidden(int n) {
  sink = n;
  return n * 2;
}
extern "C" [[gnu::noipa]] int plain_c_name(int n) {
  shapes::Box<int>().keep(n);
  return hidden(n) + 1;
}
int main(int argc, char**) {
  auto local = [](int n) __attribute__((noipa)) { sink = n; return n; };
  return plain_c_name(argc) + local(argc);
}
)";

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string compile(const TempFolder& folder, const std::string& flags,
                    const std::string& name = "program") {
  write_file(folder / "program.cc", kProgram);
  folder.run("g++ -std=c++17 -Wl,--build-id=sha1 " + flags + " program.cc -o " + name);
  return folder / name;
}

std::string build_id_of(const std::string& path) {
  FileProblem problem;
  const auto file = ElfFile::open(path, problem);
  if (file == nullptr) throw std::runtime_error("not an ELF file: " + path);
  return file->build_id_hex();
}

uint64_t address_of(const std::string& path, const std::string& symbol) {
  for (const std::string& line : lines_of(output_of("nm " + path)))
    if (line.size() > 19 && line.substr(19) == symbol) return std::stoull(line, nullptr, 16);
  throw std::runtime_error("no symbol " + symbol);
}

// The instructions of a function, by its mangled name.
std::vector<uint64_t> instructions_of(const std::string& path, const std::string& symbol) {
  std::vector<uint64_t> addresses;
  const std::string command = "objdump -d --disassemble=" + symbol + " " + path;
  for (const std::string& line : lines_of(output_of(command))) {
    const size_t colon = line.find(":\t");
    if (colon != std::string::npos)
      addresses.push_back(std::stoull(line.substr(0, colon), nullptr, 16));
  }
  if (addresses.empty()) throw std::runtime_error("no code in " + symbol);
  return addresses;
}

using Place = std::pair<std::string, std::string>;  // function name, file:line

std::vector<Place> places_by_addr2line(const std::string& path, uint64_t address) {
  std::ostringstream command;
  command << "addr2line -i -f -C -e " << path << " 0x" << std::hex << address;
  const std::vector<std::string> lines = lines_of(output_of(command.str()));
  std::vector<Place> places;
  for (size_t i = 0; i + 1 < lines.size(); i += 2)
    places.emplace_back(lines[i], lines[i + 1].substr(0, lines[i + 1].find(" (")));
  return places;
}

std::vector<Place> places_of(const std::vector<SymbolFrame>& frames) {
  std::vector<Place> places;
  for (const SymbolFrame& frame : frames)
    places.emplace_back(frame.name, frame.file + ":" + std::to_string(frame.line));
  return places;
}

// addr2line leaves them out where it has the plain DWARF name.
std::string without_parameters(const std::string& name) { return name.substr(0, name.find('(')); }

std::vector<std::string> names_of(const std::vector<SymbolFrame>& frames) {
  std::vector<std::string> names;
  for (const SymbolFrame& frame : frames) names.push_back(frame.name);
  return names;
}

SymbolOptions options_in(const TempFolder& folder, SymbolDetail detail = SymbolDetail::kFull) {
  SymbolOptions options;
  options.detail = detail;
  options.debug_dirs = {folder / "debug"};
  return options;
}

constexpr const char* kKeep = "_ZN6shapes3BoxIiE4keepEi";

// Everything DWARF can say about keep(): lines, two inlined levels, names, first line.
void check_full_frames(Symbolizer& symbolizer, const ModuleRef& module, uint64_t address,
                       const std::string& source) {
  const std::vector<SymbolFrame>& frames = symbolizer.frames(module, address);
  REQUIRE(names_of(frames) == std::vector<std::string>{"innermost(int)",
                                                       "shapes::Box<int>::put(int)",
                                                       "shapes::Box<int>::keep(int)"});
  CHECK(frames[0].start_line == 3);
  CHECK(frames[1].line == 11);
  CHECK(frames[1].file == source);
  CHECK((frames[2].line == 17 || frames[2].line == 18));
  CHECK(frames[2].system_name == kKeep);
}

uint64_t address_in_innermost(const std::string& path) {
  for (uint64_t address : instructions_of(path, kKeep))
    if (places_by_addr2line(path, address).size() == 3) return address;
  throw std::runtime_error("addr2line sees no inlined frames");
}

TEST_CASE("symbolize: lines and inlined frames are those of addr2line") {
  const char* flags[] = {"-g -O2 -gdwarf-5", "-g -O2 -gdwarf-4", "-g -O2 -gz",
                         "-g -O0",           "-g -O2 -no-pie",   "-g -O2 -ffunction-sections"};
  const TempFolder folder;
  size_t inlined = 0;
  for (const char* flag : flags) {
    INFO(flag);
    const std::string path = compile(folder, flag);
    Symbolizer symbolizer(options_in(folder));
    const ModuleRef module{path, build_id_of(path)};
    REQUIRE(symbolizer.status(module) == ModuleSymbols::kOk);
    for (const char* function : {kKeep, "plain_c_name", "main"}) {
      for (uint64_t address : instructions_of(path, function)) {
        std::vector<Place> mine = places_of(symbolizer.frames(module, address));
        std::vector<Place> expected = places_by_addr2line(path, address);
        inlined += expected.size() > 1;
        REQUIRE(mine.size() == expected.size());
        for (size_t i = 0; i < mine.size(); ++i) {
          CHECK(mine[i].second == expected[i].second);
          CHECK(without_parameters(mine[i].first) == without_parameters(expected[i].first));
        }
      }
    }
  }
  CHECK(inlined > 10);
}

TEST_CASE("symbolize: callers of inlined code get the line of the call") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g -O2");
  Symbolizer symbolizer(options_in(folder));
  check_full_frames(symbolizer, {path, build_id_of(path)}, address_in_innermost(path),
                    folder / "program.cc");
}

TEST_CASE("symbolize: split DWARF is read from the .dwo beside the program") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g -O2 -gsplit-dwarf -c", "program.o");
  folder.run("g++ program.o -o program");
  const std::string whole = compile(folder, "-g -O2", "whole");
  Symbolizer symbolizer(options_in(folder));
  const uint64_t offset = address_in_innermost(whole) - address_of(whole, kKeep);
  check_full_frames(symbolizer, {folder / "program", kAnyBuild},
                    address_of(folder / "program", kKeep) + offset, folder / "program.cc");
}

TEST_CASE("symbolize: a .dwo that is a FIFO is left alone, the rest is still read") {
  const TempFolder folder;
  compile(folder, "-g -O2 -gsplit-dwarf -c", "program.o");
  folder.run("g++ program.o -o program && rm *.dwo");
  REQUIRE(mkfifo((folder / "program.dwo").c_str(), 0600) == 0);
  Symbolizer symbolizer(options_in(folder));
  const uint64_t address = address_of(folder / "program", "plain_c_name");
  const auto& frames = symbolizer.frames({folder / "program", kAnyBuild}, address);
  REQUIRE(frames.size() == 1);
  CHECK(frames[0].name == "plain_c_name");
  CHECK(frames[0].file == folder / "program.cc");
}

TEST_CASE("symbolize: a lambda is named after the function it is in") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g -O2");
  const uint64_t address = address_of(path, "_ZZ4mainENKUliE_clEi");
  Symbolizer symbolizer(options_in(folder));
  const auto& frames = symbolizer.frames({path, kAnyBuild}, address);
  REQUIRE_FALSE(frames.empty());
  CHECK(frames.back().name == "main::{lambda:30}::operator()");
  CHECK(frames.back().system_name == "_ZZ4mainENKUliE_clEi");
}

TEST_CASE("symbolize: a static function goes by the name that its inlined copies have too") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g -O2");
  Symbolizer symbolizer(options_in(folder));
  const auto& frames = symbolizer.frames({path, kAnyBuild}, address_of(path, "_ZL6hiddeni"));
  REQUIRE(frames.size() == 1);
  CHECK(frames[0].name == "hidden");
  CHECK(frames[0].system_name == "_ZL6hiddeni");
  CHECK(frames[0].start_line == 21);
}

TEST_CASE("symbolize: names alone come without lines and without inlined frames") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g -O2");
  Symbolizer symbolizer(options_in(folder, SymbolDetail::kNames));
  const auto& frames = symbolizer.frames({path, kAnyBuild}, address_in_innermost(path));
  REQUIRE(frames.size() == 1);
  CHECK(frames[0].name == "shapes::Box<int>::keep(int)");
  CHECK(frames[0].system_name == kKeep);
  CHECK(frames[0].file.empty());
  CHECK(frames[0].line == 0);
}

TEST_CASE("symbolize: without DWARF the symbol table still names functions") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g0 -O2");
  Symbolizer symbolizer(options_in(folder));
  const uint64_t address = address_of(path, "_ZL6hiddeni");
  CHECK(names_of(symbolizer.frames({path, kAnyBuild}, address)) ==
        std::vector<std::string>{"hidden(int)"});
  CHECK(symbolizer.status({path, kAnyBuild}) == ModuleSymbols::kOk);
}

TEST_CASE("symbolize: no symbols asked for, none given") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g -O2");
  Symbolizer symbolizer(options_in(folder, SymbolDetail::kNone));
  CHECK(symbolizer.frames({path, kAnyBuild}, address_of(path, "main")).empty());
}

TEST_CASE("symbolize: an address outside every function has no name") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g -O2");
  Symbolizer symbolizer(options_in(folder));
  for (uint64_t address : {uint64_t{0}, uint64_t{1} << 40, UINT64_MAX})
    CHECK(symbolizer.frames({path, kAnyBuild}, address).empty());
}

TEST_CASE("symbolize: a stripped library names what it exports and nothing else") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g -O2 -fPIC -shared", "libprogram.so");
  const uint64_t exported = address_of(path, "plain_c_name");
  const uint64_t hidden = address_of(path, "_ZL6hiddeni");
  output_of("strip " + path);
  Symbolizer symbolizer(options_in(folder));
  CHECK(names_of(symbolizer.frames({path, kAnyBuild}, exported)) ==
        std::vector<std::string>{"plain_c_name"});
  CHECK(symbolizer.frames({path, kAnyBuild}, hidden).empty());
}

TEST_CASE("symbolize: a stripped program is reported as one without symbols") {
  const TempFolder folder;
  const std::string path =
      compile(folder, "-O2 -static-pie -s -nostdlib -nostartfiles -Wl,-emain", "bare");
  Symbolizer symbolizer(options_in(folder));
  CHECK(symbolizer.status({path, kAnyBuild}) == ModuleSymbols::kNoSymbols);
}

// A program whose debug half has been split off into `debug_path`.
struct Split {
  explicit Split(const TempFolder& folder, const std::string& link_flags = "")
      : program(compile(folder, "-g -O2 " + link_flags)),
        address(address_in_innermost(program)),
        debug(folder / "program.debug") {
    output_of("cd " + folder.path() +
              " && objcopy --only-keep-debug program program.debug && strip program" +
              " && objcopy --add-gnu-debuglink=program.debug program");
  }
  void move_debug_to(const std::string& path) {
    fs::create_directories(fs::path(path).parent_path());
    fs::rename(debug, path);
    debug = path;
  }
  std::string program;
  uint64_t address;
  std::string debug;
};

TEST_CASE("symbolize: the debug link is followed to each of its places") {
  const TempFolder folder;
  // Without build ids the CRC has to decide.
  for (const char* flags : {"", "-Wl,--build-id=none"}) {
    for (const std::string& place : {folder / "program.debug", folder / ".debug/program.debug",
                                     folder / "debug" + folder.path() + "/program.debug"}) {
      INFO(flags << " " << place);
      Split split(folder, flags);
      split.move_debug_to(place);
      Symbolizer symbolizer(options_in(folder));
      check_full_frames(symbolizer, {split.program, kAnyBuild}, split.address,
                        folder / "program.cc");
      fs::remove(place);
    }
  }
}

TEST_CASE("symbolize: a linked debug file with the wrong CRC is not believed") {
  const TempFolder folder;
  Split split(folder, "-Wl,--build-id=none");
  std::ofstream(split.debug, std::ios::app) << "x";
  Symbolizer symbolizer(options_in(folder));
  CHECK(symbolizer.frames({split.program, kAnyBuild}, split.address).empty());
}

std::string build_id_place(const TempFolder& folder, const std::string& build_id) {
  return folder / "debug/.build-id/" + build_id.substr(0, 2) + "/" + build_id.substr(2) + ".debug";
}

TEST_CASE("symbolize: build-id folders hold the debug file, also when the program is gone") {
  const TempFolder folder;
  Split split(folder);
  const std::string build_id = build_id_of(split.program);
  split.move_debug_to(build_id_place(folder, build_id));
  Symbolizer beside(options_in(folder));
  check_full_frames(beside, {split.program, build_id}, split.address, folder / "program.cc");
  fs::remove(split.program);
  Symbolizer alone(options_in(folder));
  check_full_frames(alone, {split.program, build_id}, split.address, folder / "program.cc");
  CHECK(alone.status({split.program, build_id}) == ModuleSymbols::kOk);
}

TEST_CASE("symbolize: a replaced program is recognised, and its old debug file still found") {
  const TempFolder folder;
  Split split(folder);
  const std::string old_id = build_id_of(split.program);
  split.move_debug_to(folder / "kept");
  compile(folder, "-g -O1 -DNEWER");
  REQUIRE(build_id_of(split.program) != old_id);
  Symbolizer lost(options_in(folder));
  CHECK(lost.status({split.program, old_id}) == ModuleSymbols::kFileReplaced);
  CHECK(lost.frames({split.program, old_id}, split.address).empty());
  split.move_debug_to(build_id_place(folder, old_id));
  Symbolizer found(options_in(folder));
  check_full_frames(found, {split.program, old_id}, split.address, folder / "program.cc");
}

TEST_CASE("symbolize: a deleted file counts only when its build id came back") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g -O2");
  const uint64_t address = address_of(path, "plain_c_name");
  Symbolizer symbolizer(options_in(folder));
  CHECK(symbolizer.status({path + " (deleted)", build_id_of(path)}) == ModuleSymbols::kOk);
  CHECK_FALSE(symbolizer.frames({path + " (deleted)", build_id_of(path)}, address).empty());
  CHECK(symbolizer.status({path + " (deleted)", kAnyBuild}) == ModuleSymbols::kFileReplaced);
  CHECK(symbolizer.status({path + ".gone (deleted)", kAnyBuild}) == ModuleSymbols::kFileMissing);
}

TEST_CASE("symbolize: below a sysroot only the sysroot counts") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g -O2");
  SymbolOptions options = options_in(folder);
  options.sysroot = folder.path();
  Symbolizer symbolizer(options);
  CHECK(symbolizer.status({"/program", kAnyBuild}) == ModuleSymbols::kOk);
  CHECK(symbolizer.status({path, kAnyBuild}) == ModuleSymbols::kFileMissing);
}

TEST_CASE("symbolize: what is not a regular ELF file is refused with its reason") {
  const TempFolder folder;
  REQUIRE(mkfifo((folder / "fifo").c_str(), 0600) == 0);
  write_file(folder / "text", std::string(4096, 'x'));
  write_file(folder / "empty", "");
  Symbolizer symbolizer(options_in(folder));
  CHECK(symbolizer.status({folder / "fifo", kAnyBuild}) == ModuleSymbols::kRefused);
  CHECK(symbolizer.status({folder.path(), kAnyBuild}) == ModuleSymbols::kRefused);
  CHECK(symbolizer.status({"/dev/zero", kAnyBuild}) == ModuleSymbols::kRefused);
  CHECK(symbolizer.status({folder / "text", kAnyBuild}) == ModuleSymbols::kNotElf);
  CHECK(symbolizer.status({folder / "empty", kAnyBuild}) == ModuleSymbols::kNotElf);
  CHECK(symbolizer.status({compile(folder, "-c", "object.o"), kAnyBuild}) ==
        ModuleSymbols::kNotElf);
  CHECK(symbolizer.status({folder / "absent", kAnyBuild}) == ModuleSymbols::kFileMissing);
  CHECK(symbolizer.status({"", kAnyBuild}) == ModuleSymbols::kFileMissing);
  CHECK(symbolizer.frames({folder / "fifo", kAnyBuild}, 0x1000).empty());
}

TEST_CASE("symbolize: a build id that is no hex text never becomes a path") {
  CHECK(normal_build_id("../../../etc/passwd").empty());
  CHECK(normal_build_id("ab/c").empty());
  CHECK(normal_build_id("abc").empty());
  CHECK(normal_build_id(std::string(1000, 'a')).empty());
  CHECK(normal_build_id("ABcd01") == "abcd01");
}

TEST_CASE("symbolize: truncated and damaged files answer something and never crash") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g -O2");
  const std::vector<uint64_t> addresses = instructions_of(path, kKeep);
  const std::string intact = read_file(path);
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::string bytes = intact;
    if (round % 2 == 0) bytes.resize(bytes.size() * (round + 1) / 201);
    for (int flips = 0; round % 2 != 0 && flips < 1 << (round / 2 % 12); ++flips)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    write_file(folder / "damaged", bytes);
    Symbolizer symbolizer(options_in(folder));
    for (uint64_t address : addresses)
      CHECK(symbolizer.frames({folder / "damaged", kAnyBuild}, address).size() < 1000);
  }
}

TEST_CASE("symbolize: of several names for one address the plain public one is taken") {
  const TempFolder folder;
  write_file(folder / "alias.c",
             "int __real_work(int n) { return n + 1; }\n"
             "int work(int n) __attribute__((alias(\"__real_work\"), weak));\n"
             "static int local_work(int n) __attribute__((alias(\"__real_work\"), used));\n"
             "static int chosen(int n) { return n * 3; }\n"
             "static int (*choose(void))(int) { return chosen; }\n"
             "int picked(int n) __attribute__((ifunc(\"choose\")));\n"
             "__asm__(\".text\\nlabel_without_size:\\n nop\\n nop\\n\");\n"
             "int main(int c, char** v) { return work(c) + picked(c); }\n");
  folder.run("gcc -O1 -fno-toplevel-reorder alias.c -o alias");
  const std::string path = folder / "alias";
  Symbolizer symbolizer(options_in(folder));
  const auto name_at = [&](uint64_t address) {
    return names_of(symbolizer.frames({path, kAnyBuild}, address));
  };
  CHECK(name_at(address_of(path, "__real_work")) == std::vector<std::string>{"work"});
  CHECK(name_at(address_of(path, "picked")) == std::vector<std::string>{"picked"});
  const uint64_t label = address_of(path, "label_without_size");
  CHECK(name_at(label + 1) == std::vector<std::string>{"label_without_size"});
}

TEST_CASE("symbolize: a packed symbol table names static functions") {
  const TempFolder folder;
  const std::string path = compile(folder, "-g -O2");
  const uint64_t address = address_of(path, "_ZL6hiddeni");
  output_of("cd " + folder.path() +
            " && objcopy -S --remove-section .gnu_debuglink --keep-symbol=_ZL6hiddeni program mini"
            " && xz -k mini && strip program"
            " && objcopy --add-section .gnu_debugdata=mini.xz program packed");
  Symbolizer symbolizer(options_in(folder));
  CHECK(symbolizer.frames({folder / "program", kAnyBuild}, address).empty());
  CHECK(names_of(symbolizer.frames({folder / "packed", kAnyBuild}, address)) ==
        std::vector<std::string>{"hidden(int)"});
}

TEST_CASE("symbolize: the vdso of this kernel is known by its build id only") {
  const auto vdso = ElfFile::own_vdso();
  if (getauxval(AT_SYSINFO_EHDR) == 0) {  // some sandboxes have none
    CHECK(vdso == nullptr);
    return;
  }
  REQUIRE(vdso != nullptr);
  const std::string build_id = vdso->build_id_hex();
  REQUIRE_FALSE(build_id.empty());
  uint64_t address = 0;
  for (const ElfSymbol& symbol : vdso->code_symbols(SHT_DYNSYM))
    if (std::string(symbol.name) == "__vdso_clock_gettime") address = symbol.address;
  Symbolizer symbolizer((SymbolOptions()));
  CHECK(names_of(symbolizer.frames({"[vdso]", build_id}, address)) ==
        std::vector<std::string>{"clock_gettime"});
  CHECK(symbolizer.status({"[vdso]", std::string(40, '0')}) == ModuleSymbols::kFileMissing);
  CHECK(symbolizer.status({"linux-vdso.so.1", kAnyBuild}) == ModuleSymbols::kFileMissing);
}

}  // namespace
}  // namespace mprof::dumper

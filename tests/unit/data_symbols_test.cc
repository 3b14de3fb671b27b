// SPDX-License-Identifier: Apache-2.0
// A program says at which of its addresses everything lies; then it is stripped in every way that
// programs are, and asked for the names. Needs g++, gcc and binutils at test time.
#include "dumper/data_symbols.h"

#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "dumper/callable_name.h"
#include "tests/unit/catch.h"
#include "tests/unit/temp_folder.h"

namespace mprof::dumper {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;

constexpr uint64_t kLoadBias = 0x550000000000;

// Prints "key vaddr" lines.
constexpr const char* kProgram = R"(
#include <link.h>
#include <pthread.h>
#include <cstdio>
#include <memory>
#include <thread>
pthread_mutex_t g_mutex;
static pthread_mutex_t hidden_mutex;
struct State { long before[2]; pthread_mutex_t mutex; } g_state;
namespace ns {
struct Class { static pthread_mutex_t member; };
pthread_mutex_t Class::member;
namespace { pthread_mutex_t unnamed; }
template <class T> struct Box { inline static pthread_mutex_t shared; };
}
inline pthread_mutex_t* local() { static pthread_mutex_t lock; return &lock; }
extern "C" void plain_function(void*) {}
extern "C" void* c_local(void);
static size_t bias;
static void say(const char* key, const void* at) {
  std::printf("%s %zx\n", key, reinterpret_cast<size_t>(at) - bias);
}
static int note_bias(dl_phdr_info* program, size_t, void*) {
  bias = program->dlpi_addr;
  return 1;
}
int main() {
  dl_iterate_phdr(note_bias, nullptr);
  say("g_mutex", &g_mutex);
  say("hidden", &hidden_mutex);
  say("state", &g_state);
  say("inside", &g_state.mutex);
  say("member", &ns::Class::member);
  say("unnamed", &ns::unnamed);
  say("box", &ns::Box<int>::shared);
  say("local", local());
  say("c_local", c_local());
  say("function", reinterpret_cast<const void*>(plain_function));
  say("plt", reinterpret_cast<const void*>(pthread_mutex_lock));
  auto callable = [](int) {};
  using Invoker = std::thread::_Invoker<std::tuple<decltype(callable), int>>;
  std::unique_ptr<std::thread::_State> state(
      new std::thread::_State_impl<Invoker>(callable, 1));
  say("vtable", *reinterpret_cast<void**>(state.get()));
})";
constexpr const char* kCPart = "void* c_local(void) { static long counter; return &counter; }\n";
constexpr const char* kLambda = "main::{lambda(int)#1}";

// The program in a folder of its own, and names for its addresses.
class Program {
 public:
  explicit Program(const std::string& flags) {
    std::ofstream(folder_ / "program.cc") << kProgram;
    std::ofstream(folder_ / "part.c") << kCPart;
    // libstdc++ keeps the state of its threads to itself.
    folder_.run("gcc -O1 " + flags + " -c part.c && g++ -std=c++20 -fno-access-control -O1 " +
                flags + " -Wl,--build-id=sha1 program.cc part.o -o program -pthread");
    std::istringstream lines(folder_.run("./program"));
    std::string key;
    for (uint64_t vaddr; lines >> key >> std::hex >> vaddr;) vaddr_of_[key] = vaddr;
  }

  [[nodiscard]] const TempFolder& folder() const { return folder_; }
  [[nodiscard]] uint64_t vaddr(const std::string& key) const { return vaddr_of_.at(key); }

  [[nodiscard]] ModuleCopy module() const {
    ModuleCopy module;
    module.build_id_hex = kAnyBuild;
    module.path = folder_ / "program";
    module.load_bias = kLoadBias;
    return module;
  }

  // With a Symbolizer of its own, since the file changes under the test's hands.
  [[nodiscard]] std::string name(const std::string& key, uint64_t offset = 0) const {
    Symbolizer symbolizer(options());
    return name_of_address(symbolizer, module(), kLoadBias + vaddr(key) + offset);
  }
  [[nodiscard]] std::string start(const std::string& key) const {
    Symbolizer symbolizer(options());
    return name_of_start(symbolizer, module(), kLoadBias + vaddr(key));
  }

 private:
  [[nodiscard]] SymbolOptions options() const {
    SymbolOptions options;
    options.debug_dirs = {folder_ / "debug"};
    return options;
  }

  TempFolder folder_;
  std::map<std::string, uint64_t> vaddr_of_;
};

void check_all_names(const Program& program) {
  CHECK(program.name("g_mutex") == "g_mutex");
  CHECK(program.name("g_mutex", 8) == "g_mutex+0x8");
  CHECK(program.name("hidden") == "hidden_mutex");
  CHECK(program.name("state") == "g_state");
  CHECK(program.name("inside") == "g_state+0x10");
  CHECK(program.name("member") == "ns::Class::member");
  CHECK(program.name("unnamed") == "ns::(anonymous namespace)::unnamed");
  CHECK(program.name("box") == "ns::Box<int>::shared");
  CHECK(program.name("local") == "local()::lock");
  CHECK(program.name("function") == "plain_function");
  CHECK(program.start("vtable") == kLambda);
}

TEST_CASE("data_symbols: variables, functions and vtables are named by the symbol table") {
  for (const char* flags : {"", "-g", "-no-pie", "-g -no-pie"}) {
    INFO(flags);
    check_all_names(Program(flags));
  }
}

TEST_CASE("data_symbols: a static local of C is named with its function where DWARF says it") {
  CHECK(Program("-g").name("c_local") == "c_local::counter");
  CHECK(Program("").name("c_local").starts_with("counter."));
}

TEST_CASE("data_symbols: a separate debug file names the data of a stripped program") {
  const Program program("-g");
  program.folder().run(
      "objcopy --only-keep-debug program program.debug && strip program && "
      "objcopy --add-gnu-debuglink=program.debug program");
  check_all_names(program);
}

TEST_CASE("data_symbols: DWARF alone names the variables") {
  for (const char* flags : {"-g -gdwarf-5", "-g -gdwarf-4"}) {
    INFO(flags);
    const Program program(flags);
    program.folder().run("strip --strip-all --keep-section='.debug_*' program");
    // What is exported to libraries is all that is left of the symbols.
    REQUIRE(program.folder().run("nm program 2>&1").find("g_state") == std::string::npos);
    CHECK(program.name("g_mutex") == "g_mutex");
    CHECK(program.name("hidden") == "hidden_mutex");
    CHECK(program.name("inside") == "g_state+0x10");
    CHECK(program.name("member") == "ns::Class::member");
    CHECK(program.name("unnamed") == "ns::(anonymous namespace)::unnamed");
    CHECK(program.name("local") == "local()::lock");
    CHECK(program.name("c_local") == "c_local::counter");
  }
}

TEST_CASE("data_symbols: without symbols it is file and offset, a vtable still has its class") {
  for (const char* flags : {"", "-no-pie", "-fuse-ld=gold"}) {
    INFO(flags);
    const Program program(flags);
    program.folder().run("strip --strip-all program");
    CHECK(program.name("g_mutex") == fmt::format("program+{:#x}", program.vaddr("g_mutex")));
    CHECK(program.name("function") == fmt::format("program+{:#x}", program.vaddr("function")));
    CHECK(program.start("vtable") == kLambda);
    // Data that is no vtable does not pass for one.
    for (uint64_t offset = 0; offset < 64; offset += 8)
      CHECK(program.name("state", offset) ==
            fmt::format("program+{:#x}", program.vaddr("state") + offset));
  }
}

TEST_CASE("data_symbols: a library's function that a fixed program points to has its own name") {
  CHECK(Program("-no-pie -fno-pic").name("plt") == "pthread_mutex_lock");
}

TEST_CASE("data_symbols: exported variables of a stripped library are named") {
  const TempFolder folder;
  std::ofstream(folder / "library.cc")
      << "namespace lib { long shared[4]; static long hidden; long* p() { return &hidden; } }";
  folder.run("g++ -shared -fPIC library.cc -o library.so");
  const std::string symbols = folder.run("nm -D library.so | grep shared");
  folder.run("strip library.so");
  ModuleCopy module;
  module.build_id_hex = kAnyBuild;
  module.path = folder / "library.so";
  module.load_bias = 0x7f0000000000;
  Symbolizer symbolizer({});
  const uint64_t address = module.load_bias + std::stoull(symbols, nullptr, 16);
  CHECK(name_of_address(symbolizer, module, address + 24) == "lib::shared+0x18");
}

TEST_CASE("data_symbols: what lies in no module is its address") {
  Symbolizer symbolizer({});
  CHECK(name_of_address(symbolizer, std::nullopt, 0x7f12a0001230) == "0x7f12a0001230");
  CHECK(name_of_start(symbolizer, std::nullopt, 0x10) == "0x10");
}

TEST_CASE("data_symbols: a file that is gone, replaced or no program gives file and offset") {
  const Program program("");
  ModuleCopy module = program.module();
  module.build_id_hex = "00112233445566778899aabbccddeeff00112233";
  Symbolizer symbolizer({});
  CHECK(name_of_address(symbolizer, module, kLoadBias + 0x4010) == "program+0x4010");
  for (const char* path : {"/nowhere/program", "/dev/zero"}) {
    module.path = path;
    CHECK(name_of_address(symbolizer, module, kLoadBias + 0x4010) ==
          fmt::format("{}+0x4010", fs::path(path).filename().string()));
  }
}

TEST_CASE("data_symbols: without symbols wanted, nothing is opened") {
  const Program program("");
  SymbolOptions options;
  options.detail = SymbolDetail::kNone;
  Symbolizer symbolizer(options);
  CHECK(name_of_address(symbolizer, program.module(), kLoadBias + program.vaddr("g_mutex")) ==
        fmt::format("program+{:#x}", program.vaddr("g_mutex")));
}

}  // namespace
}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/names.h"

#include <dlfcn.h>
#include <unistd.h>

#include <string>

#include "tests/unit/catch.h"
#include "tests/unit/dump_image.h"

namespace mprof::test {
namespace {

using testing::DumpImage;

struct Names {
  explicit Names(DumpImage& image)
      : dump(dumper::Dump::from_fd(image.duplicate(), "image", false)), names(dump, symbolizer) {}
  dumper::Dump dump;
  dumper::Symbolizer symbolizer{dumper::SymbolOptions()};
  dumper::TraceNames names;
};

// A function of this program into which the other one is inlined; gives an address in the latter.
[[gnu::always_inline]] inline uint64_t inlined_pc() {
  uint64_t pc = 0;
  asm volatile("lea 0(%%rip), %0" : "=r"(pc));
  return pc;
}
[[gnu::noinline]] uint64_t outer_pc() { return inlined_pc(); }

// Of this program, as the loader has it.
uint64_t own_start() {
  Dl_info info = {};
  REQUIRE(dladdr(reinterpret_cast<void*>(outer_pc()), &info) != 0);
  return reinterpret_cast<uint64_t>(info.dli_fbase);
}

TEST_CASE("trace names: levels that were inlined have pcs of their own") {
  DumpImage image;
  char path[4096] = {};
  REQUIRE(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
  const uint32_t own = image.add_module(path, own_start(), own_start() + (64 << 20));
  testing::set_build_id(image.row<format::ModuleRow>(format::TableId::kModules, own), path);
  const uint64_t pc = outer_pc();
  const uint32_t stack = image.add_node(format::kStackComplete, pc, own);
  Names of(image);
  const auto& frames = of.names.stack(stack);
  REQUIRE(frames.size() == 2);
  CHECK(frames[0].function.find("inlined_pc") != std::string::npos);
  CHECK(frames[1].function.find("outer_pc") != std::string::npos);
  CHECK(frames[1].pc == pc);
  CHECK(frames[0].pc != pc);
  CHECK(frames[0].pc >= uint64_t{1} << 47);
  CHECK(frames[0].file.ends_with("trace_names_test.cc"));
  CHECK(frames[0].line > 0);
}

TEST_CASE("trace names: two libraries at one place, one after the other, have pcs of their own") {
  DumpImage image;
  const uint32_t first = image.add_module("/lib/first.so", 0x50000, 0x60000);
  const uint32_t second = image.add_module("/lib/second.so", 0x50000, 0x60000);
  const uint32_t a = image.add_node(format::kStackComplete, 0x51001, first);
  const uint32_t b = image.add_node(format::kStackComplete, 0x51001, second);
  Names of(image);
  const auto in_first = of.names.stack(a).at(0);
  const auto in_second = of.names.stack(b).at(0);
  CHECK(in_first.function == "first.so+0x1000");
  CHECK(in_second.function == "second.so+0x1000");
  CHECK(in_first.pc == 0x51001);
  CHECK(in_second.pc != in_first.pc);
}

TEST_CASE("trace names: no pc is 0, and stacks that are cut say so") {
  DumpImage image;
  const uint32_t library = image.add_module("/lib/libmprof.so", 0x50000, 0x60000);
  const uint32_t zero = image.add_node(format::kStackTruncated, 0, format::kNoRow);
  const uint32_t own = image.add_node(format::kStackComplete, 0x51001, library);
  Names of(image);
  for (const auto& frame : of.names.stack(zero)) CHECK(frame.pc != 0);
  CHECK(of.names.stack(zero).back().function == "[truncated]");
  CHECK(of.names.stack(own).at(0).function == "[mprof]");
  CHECK(of.names.stack(format::kNoRow).empty());
  CHECK(of.names.stack(1'000'000).size() < 2);
}

TEST_CASE("trace names: a long name keeps its end, and no character is cut in two") {
  DumpImage image;
  Names of(image);
  const std::string end = std::string(1022, 'x') + "()";
  CHECK(of.names.frame("template<" + end).function == end);
  const std::string cut = of.names.frame("\xc3\xa4" + end.substr(1)).function;
  CHECK(cut == end.substr(1));
}

TEST_CASE("trace names: texts end at their zero, labels are one line, objects have their symbol") {
  DumpImage image;
  const uint32_t text = image.add_string(std::string("request\0other", 13));
  const uint32_t first = image.add_label("tenant", "t1", format::kNoRow);
  const uint32_t both = image.add_label("handler", "spin", first);
  const uint32_t library = image.add_module("/lib/libx.so", 0x50000, 0x60000);
  REQUIRE(library == 0);
  Names of(image);
  CHECK(of.names.text(text) == "request");
  CHECK(of.names.text(1'000'000).empty());
  CHECK(of.names.labels(both) == "tenant=t1, handler=spin");
  CHECK(of.names.object(0x50010) == "libx.so+0x10");
  CHECK(of.names.object(0x70000).empty());
}

}  // namespace
}  // namespace mprof::test

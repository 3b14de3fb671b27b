// SPDX-License-Identifier: Apache-2.0
#include "dumper/site_name.h"

#include <dlfcn.h>

#include <mutex>
#include <string>
#include <vector>

#include "tests/unit/catch.h"
#include "tests/unit/dump_image.h"

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using mprof::format::kNoRow;
using mprof::testing::DumpImage;

// This program is the file with the symbols: its own functions are the frames.
[[gnu::noinline]] int site_name_test_caller(int x) { return x * 3 + 1; }

// Named like the library's own: a template, whose name begins with the type that it returns, and
// one whose result is the library's while the function is the program's.
namespace program {
template <class T>
[[gnu::noinline]] std::vector<T> makes_vector(T x) {
  return std::vector<T>(3, x);
}
}  // namespace program

namespace {

using Pair = void (*)(std::mutex&, std::mutex&);
const Pair kLockTwo = &std::lock<std::mutex, std::mutex>;
const auto kMakes = &program::makes_vector<int>;

uint64_t base_address() {
  Dl_info info{};
  REQUIRE(dladdr(reinterpret_cast<void*>(&site_name_test_caller), &info) != 0);
  return reinterpret_cast<uint64_t>(info.dli_fbase);
}

// Behind the first byte of a function: what a return address in it looks like.
template <class Function>
uint64_t pc_in(Function* function) {
  return reinterpret_cast<uint64_t>(function) + 2;
}

class Frames {
 public:
  Frames() : program_(image_.add_module("/proc/self/exe", base_address(), base_address() + 1)) {
    mprof::testing::set_build_id(
        image_.row<mprof::format::ModuleRow>(mprof::format::TableId::kModules, program_),
        "/proc/self/exe");
  }
  // Leaf first.
  std::string site(const std::vector<uint64_t>& pcs, SymbolDetail detail = SymbolDetail::kFull) {
    uint32_t node = 0;
    for (size_t i = pcs.size(); i-- > 0;) node = image_.add_node(node, pcs[i], program_);
    const Dump dump = Dump::from_fd(image_.duplicate(), "image", false);
    SymbolOptions options;
    options.detail = detail;
    Symbolizer symbolizer(options);
    return SiteNames(dump, symbolizer, detail).of_stack(node);
  }

 private:
  DumpImage image_;
  uint32_t program_;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("site_name: who called the library is named, with file and line") {
  Frames frames;
  const std::string site = frames.site({pc_in(kLockTwo), pc_in(&site_name_test_caller)});
  INFO(site);
  CHECK(site.starts_with("site_name_test_caller(int) "));
  CHECK(contains(site, "site_name_test.cc:"));
}

TEST_CASE(
    "site_name: a function of the program that returns something of the library's is its own") {
  Frames frames;
  const std::string site = frames.site({pc_in(kMakes), pc_in(&site_name_test_caller)});
  INFO(site);
  CHECK(contains(site, "program::makes_vector<int>"));
}

TEST_CASE("site_name: where there is the library only, its leaf is the name") {
  Frames frames;
  const std::string site = frames.site({pc_in(kLockTwo)});
  INFO(site);
  CHECK(contains(site, "std::lock<std::mutex, std::mutex>"));
  CHECK(frames.site({}) == "[no stack]");
}

TEST_CASE("site_name: without symbols it is a place in a file, without a file an address") {
  Frames frames;
  CHECK(frames.site({base_address() + 0x1235}, SymbolDetail::kNone) == "exe+0x1234");
  CHECK(place_text(std::nullopt, 0x7f00) == "0x7f00");
}

// SPDX-License-Identifier: Apache-2.0
#include "dumper/demangle.h"

#include <string>

#include "tests/unit/catch.h"

namespace mprof::dumper {
namespace {

TEST_CASE("demangle: C++ names keep template arguments and parameters") {
  CHECK(demangle("_ZN3foo3barEi") == "foo::bar(int)");
  CHECK(demangle("_Z5applyIiLb1EEvT_") == "void apply<int, true>(int)");
  CHECK(demangle("_ZN1AC4Ev") == "A::A()");
  CHECK(demangle("_ZZ4mainENKUlvE_clEv") == "main::{lambda()#1}::operator()() const");
}

TEST_CASE("demangle: Rust names of both schemes lose their hash") {
  CHECK(demangle("_ZN4core3fmt9Formatter3pad17h8a655c513a3da676E") == "core::fmt::Formatter::pad");
  CHECK(demangle("_ZN1r5inner10P$LT$T$GT$4show17h2f279a1825445393E") == "r::inner::P<T>::show");
  CHECK(demangle("_RNvCs6GmmlP4bgsG_1r4work") == "r::work");
  CHECK(demangle("_RNvMNtCs6GmmlP4bgsG_1r5innerINtB2_1PyE4showB4_") == "<r::inner::P<u64>>::show");
  CHECK(demangle("_ZN1r4work17h8a655c513a3da676E.llvm.1234567890") == "r::work");
}

TEST_CASE("demangle: a C++ name that only looks like Rust is still C++") {
  CHECK(demangle("_ZN3foo17hello_hello_helloEv") == "foo::hello_hello_hello()");
}

TEST_CASE("demangle: copies made by the compiler and versions are the same function") {
  CHECK(demangle("work.cold") == "work");
  CHECK(demangle("work.constprop.0") == "work");
  CHECK(demangle("work.constprop.0.isra.0.cold") == "work");
  CHECK(demangle("_ZN3foo3barEi.part.12") == "foo::bar(int)");
  CHECK(demangle("memcpy@@GLIBC_2.14") == "memcpy");
  CHECK(demangle("memcpy@GLIBC_2.2.5") == "memcpy");
}

TEST_CASE("demangle: dots that belong to a name stay") {
  CHECK(demangle("main.run") == "main.run");
  CHECK(demangle("runtime.main.func1") == "runtime.main.func1");
  CHECK(demangle("table.12") == "table.12");
  CHECK(demangle(".cold") == ".cold");
  CHECK(demangle("runtime.cold.path") == "runtime.cold.path");
}

TEST_CASE("demangle: what is not mangled comes back as it is") {
  for (const char* name : {"", "main", "_start", "_Z", "_ZN", "_ZN3fooE5", "_R", "_RNv", "@", "."})
    CHECK(demangle(name) == name);
}

// Each argument repeats the one before it twice, so the text doubles with each of them.
std::string doubling_name(int levels) {
  std::string name = "_Z1f1A";
  for (int i = 0; i < levels; ++i) {
    // S_ is A, then S0_, S1_, ... in base 36: `X`, then `X<...>`, per level.
    std::string last = "S_";
    if (i > 0) {
      const int index = i;  // X itself took one entry, each level one more
      constexpr char kDigits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
      last = std::string("S") + kDigits[index] + "_";
    }
    name += (i == 0 ? "1XI" : "S0_I") + last + last + "E";
  }
  return name;
}

TEST_CASE("demangle: a name that expands without end is given up, not waited for") {
  CHECK(demangle(doubling_name(3)) ==
        "f(A, X<A, A>, X<X<A, A>, X<A, A> >, X<X<X<A, A>, X<A, A> >, X<X<A, A>, X<A, A> > >)");
  const std::string hostile = doubling_name(34);
  CHECK(demangle(hostile) == hostile);
  const std::string deep = "_Z1f" + std::string(100000, 'P') + "i";
  CHECK(demangle(deep) == deep);
}

TEST_CASE("demangle: only known schemes count as mangled") {
  CHECK(is_mangled("_Z1fv"));
  CHECK(is_mangled("_RNvC1r4work"));
  CHECK_FALSE(is_mangled("main"));
  CHECK_FALSE(is_mangled(""));
}

}  // namespace
}  // namespace mprof::dumper

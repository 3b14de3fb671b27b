# SPDX-License-Identifier: Apache-2.0
"""Compilers, assemblers, linkers and what drives them: what they make is equal, byte for byte."""

import programs

LIBRARY = r"""
#include <stdio.h>
#include <stdlib.h>
#include "part.h"
static int compare(const void* a, const void* b) { return *(const int*)a - *(const int*)b; }
int sorted_sum(int count) {
  int* numbers = malloc(sizeof(int) * (size_t)count);
  for (int i = 0; i < count; i++) numbers[i] = i * 7919 % count;
  qsort(numbers, (size_t)count, sizeof *numbers, compare);
  int sum = 0;
  for (int i = 0; i < count; i += 10) sum += numbers[i] * (i % 3);
  free(numbers);
  return sum;
}
"""
HEADER = "#ifdef __cplusplus\nextern \"C\"\n#endif\nint sorted_sum(int count);\nint part_%d(void);\n"
PART = '#include "part.h"\nint part_{0}(void) {{ return sorted_sum({0} * 10) + {0}; }}\n'
MAIN = """
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include "part.h"
#ifdef MANY
extern "C" { int part_0(); int part_1(); int part_2(); int part_3(); int part_4(); int part_5(); }
#endif
int main() {
  std::map<std::string, int> sums;
  for (int i = 1; i < 50; i++) sums[std::to_string(i)] = sorted_sum(i * 10);
  int unused;
  try {
    sums.at("none");
  } catch (const std::out_of_range&) {
    std::printf("%zu %d\\n", sums.size(), sums["49"]);
  }
}
"""
MAKEFILE = """
objects := $(addsuffix .o,library $(foreach n,0 1 2 3 4 5,part_$(n)))
all: program nested
program: main.o libpart.a ; g++ -o $@ $^
libpart.a: $(objects) ; ar rcD $@ $^
%.o: %.c part.h ; gcc -O1 -g -c -o $@ $<
main.o: main.cc part.h ; g++ -O1 -c -o $@ $<
nested: ; @$(MAKE) -f Makefile listed
listed: $(addprefix list_,0 1 2 3)
list_%: part_%.o ; nm $< > $@
.PHONY: all nested listed
"""
CMAKE = """
cmake_minimum_required(VERSION 3.18)
project(parts C CXX)
add_library(part STATIC library.c part_0.c part_1.c)
add_executable(program main.cc)
target_link_libraries(program part)
"""
# The order of lines is that of the children that end first.
KEPT = r"^build/((?!.*\.o$)(?!program$)(?!libpart\.a$).)*$"


class Compilers(programs.Programs):
    def prepare(self):
        (self.work / "library.c").write_text(LIBRARY)
        (self.work / "part.h").write_text(HEADER % 0)
        (self.work / "main.cc").write_text(MAIN)
        for number in range(6):
            (self.work / f"part_{number}.c").write_text(PART.format(number))
        (self.work / "Makefile").write_text(MAKEFILE)
        (self.work / "CMakeLists.txt").write_text(CMAKE)

    def check_build(self, script, *needed, **options):
        return self.check_script(script, *needed, prepare=self.prepare, **options)

    def test_gcc(self):
        self.check_build(
            """
            gcc -O2 -g -Wall -c library.c -save-temps=obj; gcc -O1 -pipe -c part_1.c
            g++ -pipe -O1 -Wall -c main.cc 2>&1
            for linker in bfd gold; do g++ -fuse-ld=$linker -g main.o library.o -o with-$linker; ./with-$linker; done
            gcc -shared -fPIC -O1 library.c -o libshared.so
            g++ main.cc -L. -lshared -Wl,-rpath,'$ORIGIN' -o shared; ./shared
            gcc -flto=2 -frandom-seed=1 -O2 -c library.c -o lto-1.o
            g++ -flto=2 -frandom-seed=2 -O2 -c main.cc -o lto-2.o
            g++ -flto=2 -O2 lto-1.o lto-2.o -o lto; ./lto
            echo 'int wrong( { return nothing; }' | gcc -xc - -c -o none.o 2>&1 || echo "gcc: $?"
            gcc library.o -o none 2>&1 | grep -c 'undefined reference'
            gcc -E -dM -xc /dev/null | sort | head -n 5; gcc -M library.c | tail -n 1
            """,
            "ld.gold", "ld.bfd", ignored=r"^lto$|\.(s|i|ii)$",
        )  # fmt: skip

    def test_clang(self):
        self.check_build(
            """
            clang-14 -O2 -g -c library.c; clang-14 -x c++ -O1 -c main.cc -o main.o
            clang-14 -S -emit-llvm -O1 library.c -o - | tail -n 3 | cut -c1-60
            ld.bfd -r library.o main.o -o both.o
            clang-14 --analyze library.c 2>&1 | tail -n 2
            echo 'int wrong( { return nothing; }' | clang-14 -xc - -c -o none.o 2>&1 || echo "clang: $?"
            """,
            "clang-14",
        )  # fmt: skip

    def test_binutils(self):
        self.check_build(
            """
            gcc -O2 -g -S library.c -o library.s; as library.s -o library.o; gcc -c part_?.c
            ar rcsD libpart.a library.o part_?.o; ranlib -D libpart.a; ar t libpart.a; nm -s libpart.a | tail -n 3
            objdump -d -S library.o | md5sum; readelf -a -W library.o | md5sum; size -t part_?.o
            objcopy --only-keep-debug library.o library.debug; strip -g library.o -o stripped.o
            strings -a library.o | sort | md5sum; addr2line -f -e library.o 0x10; echo _ZNSt3mapIiiE2atEv | c++filt
            """,
            "as",
        )  # fmt: skip

    def test_make(self):
        self.check_build("make -j4 -s; ./program; touch part.h; make -j4 -s -q || echo 'make: $?'; cat list_?", "make")

    def test_cmake_and_ninja(self):
        # Its log has times. What it is told to print, ninja prints in the order in which children end.
        outcome = self.check_build(
            """
            cmake -G Ninja -S . -B build > log; grep -c identification log
            ninja -C build -j 3 > log; rm log; build/program; ninja -C build
            """,
            "ninja", ignored=KEPT,
        )  # fmt: skip
        self.assertIn(b"no work to do", outcome.out)


if __name__ == "__main__":
    programs.main()

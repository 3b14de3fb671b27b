# SPDX-License-Identifier: Apache-2.0
"""g++ compiles a large C++ file: the driver's children (cc1plus, as) are profiled too."""

import harness
from real_program import LIBC_START, RealProgram

SOURCE = """
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>
template <int number> struct Tag {
  std::map<std::string, std::vector<std::tuple<int, std::string>>> groups;
  std::variant<int, std::string, std::vector<double>> value;
  int run(int count) {
    for (int i = 0; i < count; i++) groups[std::to_string(i + number)].emplace_back(i, "x");
    return static_cast<int>(groups.size());
  }
};
template <int... numbers> int all(std::integer_sequence<int, numbers...>) {
  return (Tag<numbers>().run(numbers) + ... + 0);
}
int main() {
  std::cout << all(std::make_integer_sequence<int, 40>()) << std::regex_match("aab", std::regex("a+b")) << "\\n";
  int unused_variable;
}
"""


class Compiler(RealProgram):
    rate = 524288

    def test_compiler(self):
        (self.dir / "large.cc").write_text(SOURCE)
        command = ["g++", "-std=c++17", "-O1", "-Wall", "-c", "large.cc", "-o", "large.o"]
        plain = self.run_plain(*command)
        plain_object = (self.dir / "large.o").read_bytes()
        under = self.run_under(*command, rate=self.rate)
        self.assertIn("unused_variable", plain.stderr)
        self.assert_same_behaviour(plain, under)
        self.assertEqual((self.dir / "large.o").read_bytes(), plain_object)
        names = [dump.name.split(".")[0] for dump in self.dumps()]
        self.assertIn("cc1plus", names)
        self.assertTrue([name for name in names if name.endswith("as")], names)
        compiler = next(d for d in self.dumps() if d.name.startswith("cc1plus."))
        self.check_profile(compiler, ["main"])
        self.check_complete_stacks(compiler, LIBC_START)

    def test_compile_error(self):
        (self.dir / "wrong.cc").write_text("int main() { return nothing; }\n")
        command = ["g++", "-c", "wrong.cc", "-o", "wrong.o"]
        plain, under = self.run_plain(*command), self.run_under(*command, rate=self.rate)
        self.assertEqual(plain.returncode, 1, plain)
        self.assert_same_behaviour(plain, under)


if __name__ == "__main__":
    harness.main()

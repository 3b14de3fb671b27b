// SPDX-License-Identifier: Apache-2.0
// Input of the compiler benchmark, never run: many headers, and templates that use them.
// -DBENCH_TAGS=N says how many times the templates are instantiated.
#include <algorithm>
#include <any>
#include <chrono>
#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

template <int number>
struct Tag {
  std::map<std::string, std::vector<std::pair<int, std::string>>> groups;
  std::variant<int, std::string, std::vector<double>, std::map<int, int>> value;
  std::function<std::string(const std::string&, int)> format;

  int run(int count) {
    for (int i = 0; i < count; i++)
      groups[std::to_string(i + number)].emplace_back(i, std::to_string(i * number));
    value = std::string("text");
    format = [count](const std::string& text, int i) {
      return text + std::to_string(count + i + number);
    };
    std::vector<std::string> all;
    for (auto& [key, members] : groups)
      for (auto& [index, text] : members) all.push_back(key + text + format(key, index));
    std::sort(all.begin(), all.end(),
              [](auto& a, auto& b) { return a.size() * number < b.size() * number; });
    const std::regex pattern("([a-z]+)-([0-9]+)");
    std::smatch match;
    const auto matches = std::count_if(
        all.begin(), all.end(), [&](auto& text) { return std::regex_match(text, match, pattern); });
    return static_cast<int>(matches) +
           std::visit([](auto& held) { return static_cast<int>(sizeof held) + number; }, value);
  }
};

template <int... numbers>
int run_all(std::integer_sequence<int, numbers...>) {
  return (Tag<numbers>().run(numbers) + ... + 0);
}

int main() { return run_all(std::make_integer_sequence<int, BENCH_TAGS>()); }

// SPDX-License-Identifier: Apache-2.0
#include "dumper/callable_name.h"

#include <array>
#include <cctype>
#include <cstddef>

namespace mprof::dumper {
namespace {

// What stands before the template arguments among which the callable is. A name wears one layer
// for std::thread, and inside it another for std::async.
struct Wrapper {
  std::string_view before;
  size_t argument;  // which of the arguments it is
};
constexpr std::array<Wrapper, 8> kWrappers = {{
    {"std::thread::_State_impl<std::thread::_Invoker<std::tuple<", 0},
    {"std::__future_base::_Async_state_impl<std::thread::_Invoker<std::tuple<", 0},
    {"void (std::__future_base::_Async_state_impl<std::thread::_Invoker<std::tuple<", 0},
    {"void* std::__1::__thread_proxy<std::__1::tuple<", 1},
    {"void (std::__1::__async_assoc_state<", 1},
    {"std::__1::__async_func<", 0},
    {"std::reference_wrapper<", 0},
    {"std::__1::reference_wrapper<", 0},
}};

bool is_identifier_character(char c) {
  return c == '_' || std::isalnum(static_cast<unsigned char>(c)) != 0;
}

// Behind the name of an operator with angle brackets in it, which open and close nothing, if one
// begins at `at`; else `at`. The demangler puts a space between such a name and its arguments.
size_t end_of_operator(std::string_view text, size_t at) {
  constexpr std::string_view kOperator = "operator";
  if (!text.substr(at).starts_with(kOperator)) return at;
  if (at > 0 && is_identifier_character(text[at - 1])) return at;
  const size_t sign = at + kOperator.size();
  for (std::string_view name : {"<=>", "<<=", ">>=", "->*", "<<", ">>", "<=", ">=", "->", "<", ">"})
    if (text.substr(sign).starts_with(name)) return sign + name.size();
  return at;
}

// Walks over one template argument: to the comma or bracket that ends it.
size_t end_of_argument(std::string_view text, size_t at) {
  size_t angles = 0;
  size_t others = 0;  // round, curly and square: inside them '<' may also be "less than"
  while (at < text.size()) {
    if (const size_t end = end_of_operator(text, at); end != at) {
      at = end;
      continue;
    }
    const char c = text[at];
    if (c == '(' || c == '{' || c == '[') ++others;
    if ((c == ')' || c == '}' || c == ']') && others > 0) --others;
    if (others == 0 && angles == 0 && (c == ',' || c == '>')) return at;
    if (others == 0 && c == '<') ++angles;
    if (others == 0 && c == '>') --angles;
    ++at;
  }
  return std::string_view::npos;
}

// Empty when there is no such argument.
std::string_view argument_of(std::string_view list, size_t number) {
  for (size_t i = 0;; ++i) {
    const size_t end = end_of_argument(list, 0);
    if (end == std::string_view::npos) return {};
    if (i == number)
      return list.substr(0, list[end] == '>' && end > 0 && list[end - 1] == ' ' ? end - 1 : end);
    if (list[end] == '>') return {};
    list.remove_prefix(end + 1);
    if (list.starts_with(' ')) list.remove_prefix(1);
  }
}

// ABI tags such as [abi:v160006] stand between a name and its arguments.
std::string without_abi_tags(std::string_view name) {
  std::string result(name);
  for (size_t at = 0; (at = result.find("[abi:", at)) != std::string::npos;) {
    const size_t end = result.find(']', at);
    if (end == std::string::npos) break;
    result.erase(at, end + 1 - at);
  }
  return result;
}

}  // namespace

std::string callable_name(std::string_view demangled) {
  std::string name = without_abi_tags(demangled);
  bool unwrapped = false;
  for (size_t layer = 0; layer < kWrappers.size(); ++layer) {
    const Wrapper& wrapper = kWrappers[layer];
    if (!std::string_view(name).starts_with(wrapper.before)) continue;
    const std::string_view inner =
        argument_of(std::string_view(name).substr(wrapper.before.size()), wrapper.argument);
    if (inner.empty()) break;
    name = std::string(inner);
    unwrapped = true;
  }
  return unwrapped ? name : std::string(demangled);
}

std::string name_of_start(Symbolizer& symbolizer, const std::optional<ModuleCopy>& module,
                          uint64_t address) {
  return callable_name(name_of_address(symbolizer, module, address));
}

}  // namespace mprof::dumper

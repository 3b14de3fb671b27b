// SPDX-License-Identifier: Apache-2.0
#include "dumper/terminal_text.h"

#include <algorithm>
#include <cstdint>

namespace mprof::dumper {
namespace {

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

struct Character {
  size_t bytes = 1;
  uint32_t code = 0;  // 0: no character of UTF-8
};

Character character_at(std::string_view text) {
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return {1, first};
  const size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < bytes) return {};
  uint32_t code = first & (0x7fu >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if (starts_character(text[i])) return {};
    code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3fu);
  }
  const bool is_surrogate = code >= 0xd800 && code < 0xe000;
  return code < kLeast[bytes] || code > 0x10ffff || is_surrogate ? Character{}
                                                                 : Character{bytes, code};
}

bool is_obeyed(uint32_t code) {
  const bool is_control = code < ' ' || (code >= 0x7f && code < 0xa0);
  const bool turns = code == 0x200e || code == 0x200f || (code >= 0x202a && code <= 0x202e) ||
                     (code >= 0x2066 && code <= 0x2069);
  return is_control || turns || code == 0x2028 || code == 0x2029;
}

std::string replaced(std::string_view text, std::string_view kept, char replacement) {
  std::string result;
  while (!text.empty()) {
    const Character character = character_at(text);
    if (is_obeyed(character.code) && kept.find(text[0]) == std::string_view::npos)
      result += replacement;
    else
      result += text.substr(0, character.bytes);
    text.remove_prefix(character.bytes);
  }
  return result;
}

}  // namespace

std::string printable(std::string_view text, char replacement) {
  return replaced(text, {}, replacement);
}

std::string printable_lines(std::string_view text) { return replaced(text, "\n\t", '?'); }

size_t columns_of(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), starts_character));
}

std::string shortened(const std::string& text, size_t columns) {
  if (columns == 0 || columns_of(text) <= columns) return text;
  size_t bytes = 0;
  for (size_t seen = 0; bytes < text.size(); ++bytes)
    if (starts_character(text[bytes]) && ++seen == columns) break;
  return text.substr(0, bytes) + "…";
}

std::string fitted(std::string_view prefix, const std::string& site, size_t columns) {
  std::string text = printable(site);
  const size_t place = text.rfind(" /");
  const bool is_wide = columns != 0 && prefix.size() + columns_of(text) > columns;
  if (is_wide && place != std::string::npos) text.erase(place + 1, text.rfind('/') - place);
  return shortened(std::string(prefix) + text, columns);
}

}  // namespace mprof::dumper

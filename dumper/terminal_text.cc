// SPDX-License-Identifier: Apache-2.0
#include "dumper/terminal_text.h"

#include <algorithm>

namespace mprof::dumper {
namespace {

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

}  // namespace

// Those of the C1 set, too, which are C2 80 to C2 9F.
std::string printable(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool is_c1 =
        c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    result += is_c1 || c < ' ' || c == 0x7f ? '?' : text[i];
    i += is_c1;
  }
  return result;
}

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

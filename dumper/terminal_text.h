// SPDX-License-Identifier: Apache-2.0
// Text of unknown origin, made fit for a terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mprof::dumper {

// Replaced are control characters, those that turn the direction of writing, and bytes that are no
// UTF-8: names come from files, and a terminal obeys what it is sent.
[[nodiscard]] std::string printable(std::string_view text, char replacement = '?');
// The same for what has lines already: newlines and tabs stay.
[[nodiscard]] std::string printable_lines(std::string_view text);
// Characters of UTF-8, each taken for one column.
[[nodiscard]] size_t columns_of(std::string_view text);
// Cut so that it is no wider; 0: any width.
[[nodiscard]] std::string shortened(const std::string& text, size_t columns);
// `prefix` and a place in the program, "function file:line": where there is no room, the directory
// goes first, then the end.
[[nodiscard]] std::string fitted(std::string_view prefix, const std::string& site, size_t columns);

}  // namespace mprof::dumper

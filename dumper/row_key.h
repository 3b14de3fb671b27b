// SPDX-License-Identifier: Apache-2.0
// A row's contents as one byte string, to find equal rows by: numbers as their bytes, texts with
// their length in front, so that two different rows never have the same key.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace mprof::dumper {

class RowKey {
 public:
  RowKey& number(uint64_t value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  RowKey& text(std::string_view value) {
    number(value.size());
    bytes_.append(value);
    return *this;
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

}  // namespace mprof::dumper

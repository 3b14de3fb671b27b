// SPDX-License-Identifier: Apache-2.0
// How much memory what is made of a dump may take: a multiple of the dump, whatever it claims.
//
// Rows are small and what they stand for need not be: thousands of them may name the same long
// text, or the same deep stack. Dumps of real programs stay far below.
//
// Threads   one at a time.
#pragma once

#include <cstdint>
#include <string_view>

#include "dumper/dump_reader.h"

namespace mprof::dumper {

class MemoryBudget {
 public:
  static constexpr uint64_t kFreeBytes = uint64_t{64} << 20;
  static constexpr uint64_t kMostToOne = 64;

  // `what` is for the damage that is noted when there is no more.
  MemoryBudget(const Dump& dump, std::string_view what)
      : dump_(dump), what_(what), left_(kFreeBytes + kMostToOne * dump.file_bytes()) {}

  // False: what needs so much is to be left out.
  [[nodiscard]] bool take(uint64_t bytes);

 private:
  const Dump& dump_;
  std::string_view what_;
  uint64_t left_;
};

}  // namespace mprof::dumper

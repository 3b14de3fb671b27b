// SPDX-License-Identifier: Apache-2.0
// Nested address ranges flattened once, so that a lookup is one binary search.
//
// Built from ranges as ELF and DWARF give them: nested, duplicate, overlapping, in any order.
// The deepest range wins, and where the input is not properly nested the one that starts last.
#pragma once

#include <cstdint>
#include <vector>

namespace mprof::dumper {

class AddressMap {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Range {
    uint64_t low;
    uint64_t high;   // first address after it
    uint32_t depth;  // of two ranges with the same start, the deeper is the inner one
    uint32_t id;
  };

  AddressMap() = default;
  explicit AddressMap(std::vector<Range> ranges);

  [[nodiscard]] uint32_t find(uint64_t address) const;
  [[nodiscard]] bool empty() const { return pieces_.empty(); }

 private:
  // Each piece reaches to the start of the next.
  struct Piece {
    uint64_t start;
    uint32_t id;
  };

  void close_until(std::vector<Range>& open, uint64_t address);
  void start_piece(uint64_t start, uint32_t id);

  std::vector<Piece> pieces_;
};

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/address_map.h"

#include <algorithm>
#include <tuple>

namespace mprof::dumper {

AddressMap::AddressMap(std::vector<Range> ranges) {
  std::erase_if(ranges, [](const Range& range) { return range.low >= range.high; });
  std::stable_sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return std::tie(a.low, a.depth, b.high) < std::tie(b.low, b.depth, a.high);
  });
  std::vector<Range> open;  // the ranges around the current address, innermost last
  for (const Range& range : ranges) {
    close_until(open, range.low);
    start_piece(range.low, range.id);
    open.push_back(range);
  }
  close_until(open, UINT64_MAX);
  pieces_.shrink_to_fit();
}

void AddressMap::close_until(std::vector<Range>& open, uint64_t address) {
  while (!open.empty() && open.back().high <= address) {
    const uint64_t end = open.back().high;
    // An outer range that ended earlier was hidden by the one that ends here.
    while (!open.empty() && open.back().high <= end) open.pop_back();
    start_piece(end, open.empty() ? kNone : open.back().id);
  }
}

void AddressMap::start_piece(uint64_t start, uint32_t id) {
  if (!pieces_.empty() && pieces_.back().start == start)
    pieces_.back().id = id;
  else
    pieces_.push_back({start, id});
}

uint32_t AddressMap::find(uint64_t address) const {
  const auto after =
      std::upper_bound(pieces_.begin(), pieces_.end(), address,
                       [](uint64_t wanted, const Piece& piece) { return wanted < piece.start; });
  return after == pieces_.begin() ? kNone : std::prev(after)->id;
}

}  // namespace mprof::dumper

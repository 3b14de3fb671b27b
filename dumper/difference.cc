// SPDX-License-Identifier: Apache-2.0
#include "dumper/difference.h"

#include <cstring>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "dumper/combine_profiles.h"

namespace mprof::dumper {
namespace {

// Rows with the same totals in both readings go: what is left costs little to name, and nothing is
// new only because it was rounded along another sum.
template <typename Row, typename TotalsOf>
void drop_unchanged(std::vector<Row>& before, std::vector<Row>& after, TotalsOf totals_of) {
  using Totals = std::remove_cvref_t<decltype(totals_of(before.front()))>;
  std::unordered_map<uint32_t, Totals> old;
  for (const Row& row : before) old.emplace(row.row, totals_of(row));
  std::unordered_set<uint32_t> unchanged;
  for (const Row& row : after) {
    const auto found = old.find(row.row);
    if (found != old.end() && std::memcmp(&found->second, &totals_of(row), sizeof(Totals)) == 0)
      unchanged.insert(row.row);
  }
  const auto is_unchanged = [&](const Row& row) { return unchanged.contains(row.row); };
  std::erase_if(before, is_unchanged);
  std::erase_if(after, is_unchanged);
}

void drop_unchanged(Reading& before, Reading& after) {
  drop_unchanged(before.heap.buckets, after.heap.buckets,
                 [](const BucketReading& row) -> const format::HeapTotals& { return row.totals; });
  drop_unchanged(
      before.counts.rows, after.counts.rows,
      [](const CountRowReading& row) -> const format::CountTotals& { return row.copy.totals; });
}

Profile named(PlacedProfile placed, Symbolizer& symbolizer, SymbolDetail detail) {
  symbolize(placed, symbolizer, detail);
  return std::move(placed.profile);
}

}  // namespace

Profile difference(const Dump& dump, Reading before, Reading after, const View& view,
                   Symbolizer& symbolizer, SymbolDetail detail) {
  LabelNames names(dump, symbolizer, detail);
  std::vector<std::string> comments = make_profile(dump, after, view, names).profile.comments;
  drop_unchanged(before, after);
  PlacedProfile old_rows = make_profile(dump, before, view, names);
  PlacedProfile new_rows = make_profile(dump, after, view, names);
  old_rows.profile.comments.clear();
  new_rows.profile.comments = std::move(comments);
  return subtract(named(std::move(new_rows), symbolizer, detail),
                  named(std::move(old_rows), symbolizer, detail));
}

}  // namespace mprof::dumper

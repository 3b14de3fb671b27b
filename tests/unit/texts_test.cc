// SPDX-License-Identifier: Apache-2.0
#include "preload/texts.h"

#include <array>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::TableId;
using test::ReaderView;

uint32_t row_of(const std::string& text) {
  return find_or_add_text(text.data(), static_cast<uint32_t>(text.size()));
}

std::string text_at(const ReaderView& view, uint32_t row) {
  return {&view.row<char>(TableId::kStrings, row)};
}

std::string numbered(int n) { return "text number " + std::to_string(n); }

TEST_CASE("texts: a text has one row, and a zero byte stands behind it there") {
  const test::Recording recording;
  const uint32_t row = row_of("request");
  const uint64_t used = tables.strings.used();
  CHECK(row_of("request") == row);
  CHECK(tables.strings.used() == used);
  CHECK(row_of("requests") != row);
  CHECK(row_of("reques") != row);
  CHECK(text_at(ReaderView(), row) == "request");
}

TEST_CASE("texts: every length up to the longest, and bytes of any value, are told apart") {
  const test::Recording recording;
  std::set<uint32_t> rows;
  for (uint32_t bytes = 1; bytes <= kLongestText; ++bytes)
    rows.insert(row_of(std::string(bytes, 'x')));
  for (int c = 1; c < 256; ++c)
    rows.insert(row_of("abcdefgh" + std::string(1, static_cast<char>(c))));
  CHECK(rows.size() == kLongestText + 255);
  CHECK(rows.count(kNoRow) == 0);
}

TEST_CASE("texts: eight threads that add the same texts get the same rows") {
  constexpr int kTexts = 5000;
  const test::Recording recording;
  std::array<std::vector<uint32_t>, 8> rows;
  test::in_threads(8, [&](int thread) {
    auto& own = rows[static_cast<size_t>(thread)];
    own.resize(kTexts);
    for (int i = 0; i < kTexts; ++i) {
      const int n = (i * 7 + thread * 13) % kTexts;
      own[static_cast<size_t>(n)] = row_of(numbered(n));
    }
  });
  for (const auto& own : rows) CHECK((own == rows[0]));
  const ReaderView view;
  for (int n = 0; n < kTexts; ++n)
    REQUIRE(text_at(view, rows[0][static_cast<size_t>(n)]) == numbered(n));
}

TEST_CASE("texts: beyond the most there may be, a new one is declined and known ones are found") {
  const test::Recording recording;
  const uint32_t first = row_of(numbered(0));
  for (int n = 1; n < static_cast<int>(kMostTexts) + 1000; ++n) row_of(numbered(n));
  const uint64_t used = tables.strings.used();
  CHECK(row_of("one more") == kNoRow);
  CHECK(row_of("and one") == kNoRow);
  CHECK(row_of(numbered(0)) == first);
  CHECK(tables.strings.used() == used);
}

TEST_CASE("texts: all together are not longer than their limit") {
  const test::Recording recording;
  const uint64_t before = tables.strings.used();
  for (int n = 0; n < 40000; ++n) {
    std::string text = numbered(n);
    text.resize(kLongestText, '.');
    row_of(text);
  }
  const uint64_t added = tables.strings.used() - before;
  CHECK(added > kMostTextBytes - 2 * kLongestText);
  CHECK(added < kMostTextBytes + 65536);  // a text is never split between two chunks
  CHECK(row_of("short") != kNoRow);
}

}  // namespace
}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
#include "preload/program_labels.h"

#include <array>
#include <map>
#include <string>
#include <vector>

#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::LabelRow;
using format::LabelType;
using format::Lost;
using format::TableId;
using test::ReaderView;

uint64_t labels_lost() { return header->lost[static_cast<size_t>(Lost::kLabelsFull)].load(); }

// As a reader takes a set: each key is there once.
using Labels = std::map<std::string, std::string>;

Labels read(const ReaderView& view, uint32_t set) {
  Labels labels;
  while (set != kNoRow) {
    const auto& row = view.row<LabelRow>(TableId::kLabels, set);
    REQUIRE((row.parent == kNoRow || row.parent < set));
    REQUIRE(row.type == LabelType::kText);
    const auto text = [&](uint64_t at, uint32_t bytes) {
      return std::string(&view.row<char>(TableId::kStrings, static_cast<uint32_t>(at)), bytes);
    };
    const std::string key = text(row.key, row.key_bytes.load(std::memory_order_acquire));
    REQUIRE(labels.emplace(key, text(row.value, row.extra)).second);
    set = row.parent;
  }
  return labels;
}

uint32_t with(uint32_t set, const std::string& key, const std::string& value) {
  REQUIRE(add_label(&set, key.c_str(), value.c_str()));
  return set;
}

// Rows of the label table that the program's labels may take.
constexpr uint32_t kAllRows = kMostLabelRows + kReservedLabelRows;

TEST_CASE("program labels: a set has what was set, and nothing of before") {
  const test::Recording recording;
  const uint32_t one = with(kNoRow, "request", "7");
  const uint32_t two = with(one, "handler", "spin");
  const uint32_t changed = with(two, "request", "8");
  const ReaderView view;
  CHECK(read(view, one) == Labels{{"request", "7"}});
  CHECK(read(view, two) == Labels{{"request", "7"}, {"handler", "spin"}});
  CHECK(read(view, changed) == Labels{{"request", "8"}, {"handler", "spin"}});
}

TEST_CASE("program labels: the same labels are the same set in whatever order they were set") {
  const test::Recording recording;
  const Labels labels{{"a", "1"}, {"b", "2"}, {"c", "3"}, {"d", "4"}};
  std::vector<std::string> order{"a", "b", "c", "d"};
  uint32_t first = kNoRow;
  do {
    uint32_t set = kNoRow;
    for (const std::string& key : order) set = with(set, key, "before");
    for (const std::string& key : order) set = with(set, key, labels.at(key));
    if (first == kNoRow) first = set;
    REQUIRE(set == first);
  } while (std::next_permutation(order.begin(), order.end()));
  CHECK(read(ReaderView(), first) == labels);
  const uint64_t used = tables.labels.used();
  CHECK(with(first, "c", "3") == first);
  CHECK(tables.labels.used() == used);
}

TEST_CASE("program labels: a label that is taken off leaves the set that never had it") {
  const test::Recording recording;
  const uint32_t ac = with(with(kNoRow, "a", "1"), "c", "3");
  const uint32_t abc = with(ac, "b", "2");
  CHECK(without_label(abc, "b") == ac);
  CHECK(without_label(without_label(abc, "c"), "b") == with(kNoRow, "a", "1"));
  CHECK(without_label(with(kNoRow, "a", "1"), "a") == kNoRow);
  CHECK(without_label(ac, "b") == ac);
  CHECK(without_label(ac, "never seen") == ac);
  CHECK(without_label(kNoRow, "a") == kNoRow);
}

TEST_CASE("program labels: a set has sixteen keys at most, and one more is counted") {
  const test::Recording recording;
  uint32_t set = kNoRow;
  for (uint32_t i = 0; i < kMostLabels; ++i) set = with(set, "key" + std::to_string(i), "x");
  const uint32_t full = set;
  CHECK_FALSE(add_label(&set, "one more", "x"));
  CHECK(set == full);
  CHECK(labels_lost() == 1);
  CHECK(read(ReaderView(), with(set, "key5", "y")).at("key5") == "y");
  CHECK(read(ReaderView(), full).size() == kMostLabels);
  const uint32_t fewer = without_label(full, "key0");
  CHECK(read(ReaderView(), with(fewer, "one more", "x")).size() == kMostLabels);
}

TEST_CASE("program labels: long keys and values are cut so that it shows") {
  const test::Recording recording;
  const std::string key(100, 'k');
  const uint32_t whole = with(kNoRow, std::string(64, 'k'), std::string(256, 'v'));
  const uint32_t set = with(kNoRow, key, std::string(300, 'v'));
  const ReaderView view;
  CHECK(read(view, whole) == Labels{{std::string(64, 'k'), std::string(256, 'v')}});
  CHECK(read(view, set) == Labels{{std::string(61, 'k') + "...", std::string(253, 'v') + "..."}});
  CHECK(without_label(set, key.c_str()) == kNoRow);
  // Each "\xc3\xa4" is one character.
  std::string umlauts = "v";
  while (umlauts.size() < 300) umlauts += "\xc3\xa4";
  const std::string cut = read(ReaderView(), with(kNoRow, "u", umlauts)).at("u");
  CHECK(cut == umlauts.substr(0, 253) + "...");
  const std::string even = read(ReaderView(), with(kNoRow, "u", umlauts.substr(1) + "zz")).at("u");
  CHECK(even == umlauts.substr(1, 252) + "...");
}

TEST_CASE("program labels: eight threads that make the same sets get the same rows") {
  constexpr uint32_t kSets = 2000;
  const test::Recording recording;
  std::array<std::vector<uint32_t>, 8> sets;
  test::in_threads(8, [&](int thread) {
    auto& own = sets[static_cast<size_t>(thread)];
    own.resize(kSets);
    for (uint32_t i = 0; i < kSets; ++i) {
      const uint32_t n = (i * 7 + static_cast<uint32_t>(thread) * 13) % kSets;
      uint32_t set = kNoRow;
      const bool request_first = (thread + static_cast<int>(n)) % 2 == 0;
      if (request_first) add_label(&set, "request", std::to_string(n).c_str());
      add_label(&set, "handler", std::to_string(n % 10).c_str());
      if (!request_first) add_label(&set, "request", std::to_string(n).c_str());
      own[n] = set;
    }
  });
  for (const auto& own : sets) CHECK((own == sets[0]));
  const ReaderView view;
  for (uint32_t n = 0; n < kSets; ++n)
    REQUIRE(read(view, sets[0][n]) ==
            Labels{{"request", std::to_string(n)}, {"handler", std::to_string(n % 10)}});
}

TEST_CASE("program labels: a storm of values is bounded, counted, and shows as [other]") {
  const test::Recording recording;
  uint32_t set = kNoRow;
  constexpr uint32_t kValues = 1000000;
  for (uint32_t n = 0; n < kValues; ++n) set = with(kNoRow, "request", std::to_string(n));
  CHECK(tables.labels.used() == kMostLabelRows + 1);
  CHECK(labels_lost() == kValues - kMostLabelRows);
  CHECK(read(ReaderView(), set) == Labels{{"request", "[other]"}});
  CHECK(read(ReaderView(), with(kNoRow, "request", "17")) == Labels{{"request", "17"}});
  CHECK(labels_lost() == kValues - kMostLabelRows);
}

TEST_CASE("program labels: what is set beside a value of a storm keeps its own value") {
  const test::Recording recording;
  uint32_t set = with(with(kNoRow, "request", "r"), "handler", "h");
  for (uint32_t n = 0; n < 3 * kMostLabelRows; ++n)
    set = with(kNoRow, "request", std::to_string(n));
  for (const char* handler : {"h", "spin", "sleep"}) {
    set = with(with(kNoRow, "request", "too late"), "handler", handler);
    CHECK(read(ReaderView(), set) == Labels{{"request", "[other]"}, {"handler", handler}});
  }
  for (const char* handler : {"spin", "sleep"}) {
    set = with(with(kNoRow, "handler", handler), "request", "too late");
    CHECK(read(ReaderView(), set).at("request") == "[other]");
  }
  set = with(with(kNoRow, "request", "too late"), "new key", "new value");
  CHECK(read(ReaderView(), set) == Labels{{"request", "[other]"}, {"new key", "new value"}});
}

TEST_CASE("program labels: when the reserve is used up too, a label is left out") {
  const test::Recording recording;
  for (uint32_t n = 0; n <= kMostLabelRows; ++n) with(kNoRow, "request", std::to_string(n));
  const uint32_t other = with(kNoRow, "request", "too late");
  uint32_t set;
  for (uint32_t n = 0; n < 2 * kReservedLabelRows; ++n) {
    set = other;
    add_label(&set, "handler", std::to_string(n).c_str());
  }
  CHECK(tables.labels.used() <= kAllRows);
  uint32_t known = with(kNoRow, "request", "5");
  const uint32_t before = known;
  const uint64_t lost_before = labels_lost();
  CHECK_FALSE(add_label(&known, "handler", "new"));
  CHECK(known == before);
  CHECK(labels_lost() == lost_before + 1);
  CHECK_FALSE(add_label(&known, "new key", "x"));
  CHECK(read(ReaderView(), with(other, "handler", "3")).at("handler") == "3");
}

TEST_CASE("program labels: a thread's set shows in its row and is gone after a fork") {
  const test::Recording recording;
  const uint32_t set = with(kNoRow, "request", "7");
  ThreadBlock* block = own_block();
  REQUIRE(block != nullptr);
  const auto shown = [&] {
    return ReaderView().row<format::ThreadRow>(TableId::kThreads, block->row_number).labels.load();
  };
  CHECK(current_labels() == kNoRow);
  CHECK(shown() == 0);
  set_current_labels(set);
  CHECK(current_labels() == set);
  CHECK(shown() == set + 1);
  const uint64_t word = self.labels;
  set_current_labels(kNoRow);
  CHECK(shown() == 0);
  CHECK(self.labels == 0);
  self.labels = word;
  CHECK(current_labels() == set);
  ++process_number;
  CHECK(current_labels() == kNoRow);
  --process_number;
  set_current_labels(kNoRow);
}

TEST_CASE("program labels: a thread that gets its row later shows its labels there") {
  const test::Recording recording;
  const uint32_t set = with(kNoRow, "request", "7");
  uint32_t row = kNoRow;
  test::in_threads(1, [&](int) {
    set_current_labels(set);
    row = own_block()->row_number;
  });
  CHECK(ReaderView().row<format::ThreadRow>(TableId::kThreads, row).labels.load() == set + 1);
}

TEST_CASE("program labels: base of a sample's set, until such sets take too much of the table") {
  const test::Recording recording;
  const uint32_t set = with(kNoRow, "request", "7");
  set_current_labels(set);
  CHECK(base_labels() == set);
  const uint32_t wait = with_wait(base_labels(), format::WaitKind::kMutex);
  CHECK(ReaderView().row<LabelRow>(TableId::kLabels, wait).parent == set);
  while (tables.labels.used() < 1u << 18)
    REQUIRE(claim_row(tables.labels, TableId::kLabels) != kNoRow);
  CHECK(labels_lost() == 0);
  CHECK(base_labels() == kNoRow);
  CHECK(labels_lost() == 1);
  CHECK(current_labels() == set);
  set_current_labels(kNoRow);
  CHECK(base_labels() == kNoRow);
  CHECK(labels_lost() == 1);
}

std::string name_at(uint32_t row) { return &ReaderView().row<char>(TableId::kStrings, row); }

TEST_CASE("program labels: a name of the trace has one row, and is cut like a value") {
  const test::Recording recording;
  const uint32_t row = trace_name("request");
  CHECK(trace_name(std::string("request").c_str()) == row);
  CHECK(trace_name("reply") != row);
  CHECK(name_at(row) == "request");
  CHECK(name_at(trace_name(std::string(256, 'a').c_str())) == std::string(256, 'a'));
  CHECK(name_at(trace_name(std::string(257, 'a').c_str())) == std::string(253, 'a') + "...");
  CHECK(labels_lost() == 0);
}

TEST_CASE("program labels: a storm of names is bounded, counted, and leaves the labels theirs") {
  const test::Recording recording;
  for (uint32_t i = 0; i < kMostTraceNames; ++i)
    REQUIRE(name_at(trace_name(std::to_string(i).c_str())) == std::to_string(i));
  CHECK(labels_lost() == 0);
  CHECK(name_at(trace_name("one more")) == "[other]");
  CHECK(labels_lost() == 1);
  CHECK(name_at(trace_name("7")) == "7");
  const uint32_t set = with(kNoRow, "a new key", "a new value");
  CHECK(read(ReaderView(), set) == Labels{{"a new key", "a new value"}});
  CHECK(name_at(trace_name("a new value")) == "a new value");  // it is there already
  CHECK(labels_lost() == 1);
}

TEST_CASE("program labels: a storm of values leaves names their places") {
  const test::Recording recording;
  for (uint32_t i = 0; i < kAllRows; ++i) with(kNoRow, "request", std::to_string(i));
  const uint64_t lost = labels_lost();
  for (uint32_t i = 0; i < kMostTraceNames; ++i) {
    const std::string name = "name " + std::to_string(i);
    REQUIRE(name_at(trace_name(name.c_str())) == name);
  }
  CHECK(labels_lost() == lost);
}

}  // namespace
}  // namespace mprof::preload

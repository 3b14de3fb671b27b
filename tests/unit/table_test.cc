// SPDX-License-Identifier: Apache-2.0
#include "format/table.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof {
namespace {

using format::kNoRow;
using format::Table;
using format::TableDirectory;
using format::TableId;

// A table over memory of its own.
template <class Row>
class MemoryTable {
 public:
  explicit MemoryTable(uint32_t first_rows) {
    directory_.row_bytes = sizeof(Row);
    directory_.first_rows = first_rows;
    table.reset(&directory_);
    add_chunk();
  }
  void add_chunk() {
    const auto chunk = static_cast<uint32_t>(chunks_.size());
    chunks_.push_back(std::make_unique<Row[]>(format::chunk_rows(directory_.first_rows, chunk)));
    table.attach(chunk, chunks_.back().get());
  }
  Table<Row> table;

 private:
  TableDirectory directory_{};
  std::vector<std::unique_ptr<Row[]>> chunks_;
};

TEST_CASE("table: every row number has a place of its own, and chunks double") {
  for (const uint32_t first : {1u, 8u, 1024u}) {
    uint64_t row = 0;
    for (uint32_t chunk = 0; chunk < 8; ++chunk)
      for (uint64_t i = 0; i < format::chunk_rows(first, chunk); ++i, ++row) {
        const format::RowPlace place = format::place_of_row(first, row);
        REQUIRE((place.chunk == chunk && place.row_in_chunk == i));
      }
    CHECK(row == uint64_t{first} << 7);
  }
}

TEST_CASE("table: eight threads get every number once and not one more than there are") {
  MemoryTable<uint64_t> rows(64);
  for (int i = 0; i < 6; ++i) rows.add_chunk();
  const uint64_t capacity = rows.table.capacity();
  REQUIRE(capacity == 64 << 6);
  std::array<std::vector<uint32_t>, 8> got;
  test::in_threads(8, [&](int thread) {
    for (uint32_t row; (row = rows.table.claim()) != kNoRow;) {
      *rows.table.at(row) += 1;  // a row that two threads had would be a race here
      got[thread].push_back(row);
    }
  });
  std::set<uint32_t> all;
  size_t count = 0;
  for (const auto& some : got) {
    all.insert(some.begin(), some.end());
    count += some.size();
  }
  CHECK(count == capacity);
  CHECK(all.size() == capacity);
  CHECK(rows.table.used() == capacity);
  for (uint32_t row = 0; row < capacity; ++row) REQUIRE(*rows.table.at(row) == 1);
}

TEST_CASE("table: a run never crosses from one chunk into the next, and runs do not overlap") {
  MemoryTable<char> bytes(64);
  for (int i = 0; i < 5; ++i) bytes.add_chunk();
  std::vector<uint32_t> begins;
  const uint32_t length = 24;  // divides no chunk
  for (uint32_t at; (at = bytes.table.claim_run(length)) != kNoRow;) begins.push_back(at);
  REQUIRE(begins.size() > 60);
  for (size_t i = 0; i < begins.size(); ++i) {
    CHECK(format::place_of_row(64, begins[i]).chunk ==
          format::place_of_row(64, begins[i] + length - 1).chunk);
    if (i > 0) CHECK(begins[i] >= begins[i - 1] + length);
  }
}

TEST_CASE("table: a run longer than what is left is refused, and a shorter one still fits") {
  MemoryTable<char> bytes(64);
  REQUIRE(bytes.table.claim_run(60) == 0);
  CHECK(bytes.table.claim_run(5) == kNoRow);
  CHECK(bytes.table.claim_run(4) == 60);
  CHECK(bytes.table.claim() == kNoRow);
}

TEST_CASE("table: frozen gives nothing, and rows that exist stay usable") {
  MemoryTable<uint64_t> rows(8);
  const uint32_t row = rows.table.claim();
  rows.table.freeze();
  CHECK(rows.table.claim() == kNoRow);
  *rows.table.at(row) = 7;
  CHECK(*rows.table.at(row) == 7);
}

uint32_t claim_thread_row() {
  return preload::claim_row(preload::tables.threads, TableId::kThreads);
}

TEST_CASE("dump file: a table grows while eight threads claim, and no row is lost or shared") {
  const test::Recording recording;
  std::array<std::vector<uint32_t>, 8> got;
  test::in_threads(8, [&](int thread) {
    while (got[thread].size() < 2000) {
      const uint32_t row = claim_thread_row();
      if (row == kNoRow) continue;  // another thread was growing the table
      preload::tables.threads.at(row)->start_ticks += 1 + static_cast<uint64_t>(thread);
      got[thread].push_back(row);
    }
  });
  std::set<uint32_t> all;
  for (const auto& some : got) all.insert(some.begin(), some.end());
  CHECK(all.size() == 8 * 2000);
  const test::ReaderView view;
  for (int thread = 0; thread < 8; ++thread)
    for (const uint32_t row : got[thread])
      REQUIRE(view.row<format::ThreadRow>(TableId::kThreads, row).start_ticks ==
              1 + static_cast<uint64_t>(thread));
}

TEST_CASE("dump file: growing doubles, it does not run ahead of what is used") {
  const test::Recording recording;
  for (int i = 0; i < 20000; ++i) REQUIRE(claim_thread_row() != kNoRow);
  CHECK(preload::tables.threads.capacity() == 32768);
}

TEST_CASE("dump file: rows are zero when they are new") {
  const test::Recording recording;
  const format::ThreadRow zero{};
  for (int i = 0; i < 3000; ++i) {
    const uint32_t row = claim_thread_row();
    REQUIRE(memcmp(preload::tables.threads.at(row), &zero, sizeof zero) == 0);
  }
}

TEST_CASE("dump file: it is private, and an existing file is neither overwritten nor followed") {
  const test::TempFolder folder;
  const std::string out = folder.path() + "/dump";
  const std::string elsewhere = folder.path() + "/elsewhere";
  REQUIRE(symlink(elsewhere.c_str(), out.c_str()) == 0);
  format::Settings settings;
  settings.out = out.c_str();
  REQUIRE(preload::create_dump(settings));
  CHECK(std::string(preload::dump_path()) == out + ".1");
  CHECK(access(elsewhere.c_str(), F_OK) != 0);
  struct stat status {};
  REQUIRE(stat(preload::dump_path(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  preload::abandon_dump();
}

TEST_CASE("dump file: the pattern is spelled out, and a relative one is made absolute") {
  const test::TempFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  format::Settings settings;
  settings.out = "%%-%p-%e";
  REQUIRE(preload::create_dump(settings));
  const std::string own_name = std::filesystem::read_symlink("/proc/self/exe").filename();
  CHECK(std::string(preload::dump_path()) ==
        folder.path() + "/%-" + std::to_string(getpid()) + "-" + own_name);
  std::filesystem::current_path(before);
  preload::abandon_dump();
}

TEST_CASE("dump file: no descriptor is kept open") {
  const auto open_files = [] {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all));
  };
  const auto before = open_files();
  const test::Recording recording;
  for (int i = 0; i < 2000; ++i) (void)claim_thread_row();
  CHECK(open_files() == before);
}

TEST_CASE("dump file: after its removal the tables stay as large as they are, and say so") {
  const test::Recording recording;
  REQUIRE(unlink(recording.path().c_str()) == 0);
  uint64_t rows = 0;
  while (claim_thread_row() != kNoRow) ++rows;
  CHECK(rows == 256);  // the first chunk
  CHECK(preload::header->mapped_growth_failures.load() > 0);
}

TEST_CASE("dump file: another file under the same name is not written into") {
  const test::Recording recording;
  REQUIRE(rename(recording.path().c_str(), (recording.path() + ".moved").c_str()) == 0);
  const int fd = open(recording.path().c_str(), O_CREAT | O_WRONLY, 0600);
  REQUIRE(fd >= 0);
  close(fd);
  while (claim_thread_row() != kNoRow) {
  }
  CHECK(std::filesystem::file_size(recording.path()) == 0);
}

TEST_CASE("dump file: cut at the end it keeps every used row and gives the rest back") {
  const test::Recording recording;
  for (int i = 0; i < 300; ++i) preload::tables.threads.at(claim_thread_row())->start_ticks = i + 1;
  const auto blocks_on_disk = [&] {
    struct stat status {};
    return stat(recording.path().c_str(), &status) == 0 ? status.st_blocks : 0;
  };
  const auto before = blocks_on_disk();
  preload::freeze_tables();
  preload::cut_dump();
  CHECK(blocks_on_disk() < before / 4);
  CHECK(std::filesystem::file_size(recording.path()) == preload::header->file_bytes.load());
  const test::ReaderView view;
  for (uint32_t i = 0; i < 300; ++i)
    REQUIRE(view.row<format::ThreadRow>(TableId::kThreads, i).start_ticks == i + 1);
  CHECK(claim_thread_row() == kNoRow);
  preload::count_lost(format::Lost::kTableFull);
  CHECK(preload::header->lost[static_cast<size_t>(format::Lost::kAfterEnd)].load() == 1);
}

TEST_CASE("dump file: the header says who was recorded, and how") {
  format::Settings settings;
  settings.heap_rate = 12345;
  settings.stack_depth = 17;
  settings.unwind = format::UnwindMode::kDwarf;
  const test::Recording recording(settings);
  const test::ReaderView view;
  CHECK(view.header().magic == format::kDumpMagic);
  CHECK(view.header().version == format::kDumpVersion);
  CHECK(view.header().header_bytes == sizeof(format::DumpHeader));
  CHECK(view.header().pid == static_cast<uint32_t>(getpid()));
  CHECK(view.header().parent_pid == static_cast<uint32_t>(getppid()));
  CHECK(view.header().heap_rate_bytes == 12345);
  CHECK(view.header().stack_depth_frames == 17);
  CHECK(view.header().unwind == format::UnwindMode::kDwarf);
  CHECK(view.header().file_bytes.load() == std::filesystem::file_size(recording.path()));
  CHECK(std::filesystem::path(view.header().executable) ==
        std::filesystem::read_symlink("/proc/self/exe"));
}

TEST_CASE("dump file: two recordings of one process differ in their generation") {
  uint64_t first;
  {
    const test::Recording recording;
    first = preload::header->generation;
  }
  const test::Recording recording;
  CHECK(preload::header->generation != first);
}

TEST_CASE("dump file: an output path that is too long is refused, and nothing is left") {
  const test::TempFolder folder;
  const std::string out = folder.path() + "/" + std::string(3000, 'x');
  format::Settings settings;
  settings.out = out.c_str();
  CHECK_FALSE(preload::create_dump(settings));
  CHECK(preload::header == nullptr);
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("dump file: text in the string table is found again at its place") {
  const test::Recording recording;
  std::vector<std::pair<uint32_t, std::string>> texts;
  for (int i = 0; i < 500; ++i) {
    const std::string text(static_cast<size_t>(i * 7 % 900 + 1), static_cast<char>('a' + i % 26));
    texts.emplace_back(preload::add_string(text.data(), static_cast<uint32_t>(text.size())), text);
  }
  const test::ReaderView view;
  for (const auto& [at, text] : texts)
    REQUIRE(std::string(&view.row<char>(TableId::kStrings, at), text.size()) == text);
}

}  // namespace
}  // namespace mprof

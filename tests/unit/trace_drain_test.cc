// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "dumper/drain.h"
#include "dumper/trace/merge.h"
#include "tests/unit/catch.h"
#include "tests/unit/small_dump.h"
#include "tests/unit/trace_events.h"

namespace {

using namespace mprof;
using Catch::Matchers::Contains;
using dumper::Access;
using dumper::Dump;
using dumper::DumpDrain;
using dumper::DumpTrace;
using dumper::JournalKind;
using dumper::JournalReader;
using dumper::TraceHealth;
using dumper::TraceRecord;
using format::TraceKind;
using testing::SmallDump;
using testing::TempDir;

constexpr uint32_t kRingBytes = 16 * format::kTraceBlockBytes;
constexpr uint64_t kMiB = 1 << 20;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

uint64_t disk_bytes(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? static_cast<uint64_t>(status.st_blocks) * 512 : 0;
}

// Each thread counts its records: what comes back is a run of numbers.
struct Counter {
  uint64_t ns = 1000;
  uint64_t next[SmallDump::kTraceRings] = {};
  uint64_t dropped = 0;
};

// Numbers that do not compress.
uint64_t noise(uint64_t number, uint32_t row) {
  number = (number * SmallDump::kTraceRings + row + 1) * 0x9e3779b97f4a7c15;
  number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9;
  return number >> 32;
}

void write_records(SmallDump& dump, Counter& counter, uint64_t count, uint32_t rings = 8) {
  for (uint64_t i = 0; i < count; ++i) {
    const auto row = static_cast<uint32_t>(i % rings);
    const uint64_t number = counter.next[row]++;
    const bool written = dump.trace_writer(row).write({TraceKind::kRelease,
                                                       SmallDump::kStartTicks + (counter.ns += 100),
                                                       row,
                                                       format::kNoRow,
                                                       {0, number << 32 | noise(number, row)}});
    counter.dropped += written ? 0 : 1;
  }
}

struct Told {
  std::vector<uint64_t> numbers[SmallDump::kTraceRings];
  uint64_t wrong = 0;
  TraceHealth health;

  [[nodiscard]] uint64_t records() const {
    uint64_t sum = 0;
    for (const auto& ring : numbers) sum += ring.size();
    return sum;
  }
  // Each ring's numbers, what was dropped included, lead up to `end`.
  [[nodiscard]] bool explains(const Counter& end) const {
    uint64_t all = 0;
    for (uint32_t row = 0; row < SmallDump::kTraceRings; ++row) {
      const auto& ring = numbers[row];
      if (std::adjacent_find(ring.begin(), ring.end(), std::greater_equal<>()) != ring.end())
        return false;
      if (!ring.empty()) all += end.next[row] - ring.front();
    }
    return records() + health.lost >= all && records() <= all;
  }
  // The same, and nothing was dropped.
  [[nodiscard]] bool is_run(const Counter& end) const {
    for (uint32_t row = 0; row < SmallDump::kTraceRings; ++row)
      for (size_t i = 0; i < numbers[row].size(); ++i)
        if (numbers[row][i] != end.next[row] - (numbers[row].size() - i)) return false;
    return true;
  }
};

Told read_trace(const std::string& path) {
  Dump dump = Dump::open(path, Access::kRead);
  DumpTrace trace(dump);
  Told told;
  for (TraceRecord record; trace.next(record);) {
    if (record.kind == TraceKind::kLost) continue;
    const uint64_t number = record.arguments[1] >> 32;
    const bool right = record.kind == TraceKind::kRelease && record.thread == record.core &&
                       record.thread < SmallDump::kTraceRings &&
                       (record.arguments[1] & 0xffffffff) == noise(number, record.thread);
    told.wrong += right ? 0 : 1;
    if (record.thread < SmallDump::kTraceRings) told.numbers[record.thread].push_back(number);
  }
  told.health = trace.health();
  return told;
}

bool moves(const std::string& path) {
  DumpDrain drain(path);
  return drain.step(true) == DumpDrain::Step::kMoved;
}

}  // namespace

TEST_CASE("trace drain: a program without a trace has no second journal") {
  const TempDir dir;
  SmallDump plain(dir / "a.mprof", 256);
  SmallDump quiet(dir / "b.mprof", 256, 0, kRingBytes);
  for (SmallDump* dump : {&plain, &quiet}) {
    DumpDrain drain(dump->path());
    while (drain.step(true) != DumpDrain::Step::kComplete) {
    }
    CHECK(exists(dump->journal_path()));
    CHECK_FALSE(exists(dump->trace_path()));
    CHECK(drain.take_complaints().empty());
  }
}

TEST_CASE("trace drain: what the rings held is in the journal, and the rest in the rings") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  Counter counter;
  DumpDrain drain(dump.path());
  for (int pass = 0; pass < 20; ++pass) {
    write_records(dump, counter, 5000);
    CHECK(drain.step(true) == DumpDrain::Step::kMoved);
  }
  CHECK(drain.step(true) == DumpDrain::Step::kComplete);
  const uint64_t bytes = drain.trace().journal()->file_bytes();
  write_records(dump, counter, 3000);
  const Told told = read_trace(dump.path());
  CHECK(told.records() == 103'000);
  CHECK(told.is_run(counter));
  CHECK(told.wrong == 0);
  CHECK(told.health.whole());
  CHECK(told.health.journal == dump.trace_path());
  CHECK(read_file(dump.trace_path()).size() == bytes);
  // The block that is being written stays in the ring.
  for (uint32_t row = 0; row < 8; ++row)
    CHECK(dump.trace_head(row)->released.load() % format::kTraceBlockBytes == 0);
}

TEST_CASE("trace drain: after its death between frame and release nothing comes twice") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  Counter counter;
  uint64_t released[8];
  for (int pass = 0; pass < 30; ++pass) {
    write_records(dump, counter, 3000);
    for (uint32_t row = 0; row < 8; ++row) released[row] = dump.trace_head(row)->released.load();
    REQUIRE(moves(dump.path()));
    // As if killed before it got there.
    if (pass % 3 == 0)
      for (uint32_t row = 0; row < 8; ++row) dump.trace_head(row)->released.store(released[row]);
  }
  const Told told = read_trace(dump.path());
  CHECK(told.records() + counter.dropped == 90'000);
  CHECK(counter.dropped == 0);
  CHECK(told.is_run(counter));
  CHECK(told.health.whole());
}

TEST_CASE("trace drain: cut at any byte, its frames are readable and the drainer goes on") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  Counter counter;
  uint64_t released[8];
  write_records(dump, counter, 1000);
  REQUIRE(moves(dump.path()));
  const size_t first = read_file(dump.trace_path()).size();
  write_records(dump, counter, 1000);
  for (uint32_t row = 0; row < 8; ++row) released[row] = dump.trace_head(row)->released.load();
  REQUIRE(moves(dump.path()));
  const std::string whole = read_file(dump.trace_path());
  for (size_t cut = first; cut < whole.size(); cut += 97) {
    write_file(dump.trace_path(), whole.substr(0, cut));
    for (uint32_t row = 0; row < 8; ++row) dump.trace_head(row)->released.store(released[row]);
    Told told = read_trace(dump.path());
    CHECK(told.records() == 2000);
    CHECK(told.health.torn_journal_bytes == cut - first);
    {
      DumpDrain drain(dump.path());
      CHECK(drain.trace().journal()->truncated_bytes() == cut - first);
      CHECK(drain.step(true) == DumpDrain::Step::kMoved);
    }
    told = read_trace(dump.path());
    CHECK(told.records() == 2000);
    CHECK(told.health.torn_journal_bytes == 0);
    CHECK(told.health.whole());
  }
}

TEST_CASE("trace drain: a pass of many frames goes on from ring to ring, and says so") {
  const TempDir dir;
  constexpr uint32_t kLarge = 1 << 20;
  SmallDump dump(dir / "a.mprof", 256, 0, kLarge);
  Counter counter;
  write_records(dump, counter, 8 * 60'000);
  REQUIRE(counter.dropped == 0);
  REQUIRE(moves(dump.path()));
  const dumper::JournalFile file(dump.path(), JournalKind::kTrace);
  JournalReader reader(file.fd(), file.path(),
                       dumper::journal_header_of(*dump.header(), JournalKind::kTrace));
  std::vector<bool> more;
  for (dumper::JournalFrame frame; reader.next(frame);)
    more.push_back((frame.flags & dumper::kFrameMore) != 0);
  REQUIRE(more.size() > 2);
  CHECK_FALSE(more.back());
  CHECK(std::count(more.begin(), more.end(), false) == 1);
  const Told told = read_trace(dump.path());
  CHECK(told.records() == 480'000);
  CHECK(told.is_run(counter));
  CHECK(told.health.late == 0);
}

TEST_CASE("trace drain: positions that make no sense are skipped, and the target can write again") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  Counter counter;
  write_records(dump, counter, 800);
  const uint64_t real = dump.trace_head(2)->written.load();
  dump.trace_head(2)->written.store((uint64_t{1} << 40) + real);
  DumpDrain drain(dump.path());
  drain.step(true);
  CHECK(drain.trace().damaged_rings() == 1);
  format::TraceWriter next(dump.trace_head(2), dump.trace_data(2), kRingBytes, 2);
  REQUIRE(next.write({TraceKind::kYield, SmallDump::kStartTicks + 1'000'000'000, 2}));
  drain.step(true);
  const Told told = read_trace(dump.path());
  CHECK(told.records() == 701);
  CHECK(told.health.gaps == 1);
}

TEST_CASE("trace drain: a trace that cannot be written leaves the events alone, and says why") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  Counter counter;
  write_records(dump, counter, 800);
  dump.alloc(0, 0, SmallDump::kStartTicks, 100);
  write_file(dump.trace_path(), "a diary");
  DumpDrain drain(dump.path());
  CHECK(drain.step(true) == DumpDrain::Step::kMoved);
  const auto complaints = drain.take_complaints();
  REQUIRE(complaints.size() == 1);
  CHECK_THAT(complaints[0], Contains("left alone"));
  CHECK(drain.step(true) == DumpDrain::Step::kComplete);
  CHECK(drain.take_complaints().empty());
  CHECK(read_file(dump.trace_path()) == "a diary");
  CHECK(drain.events().units_moved() > 0);
  const Told told = read_trace(dump.path());
  CHECK(told.records() == 800);
  CHECK(told.health.journal_trouble != "");
}

TEST_CASE("trace drain: on a full disk it waits, and nothing is lost that the rings can hold") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  Counter counter;
  DumpDrain drain(dump.path());
  write_records(dump, counter, 1000);
  REQUIRE(drain.step(true) == DumpDrain::Step::kMoved);
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  rlimit tight = old;
  tight.rlim_cur = drain.trace().journal()->file_bytes() + 100;
  ::setrlimit(RLIMIT_FSIZE, &tight);
  write_records(dump, counter, 1000);
  CHECK(drain.step(true) == DumpDrain::Step::kDiskFull);
  CHECK(drain.error() == EFBIG);
  CHECK(read_trace(dump.path()).records() == 2000);
  write_records(dump, counter, 1000);
  CHECK(drain.step(true) == DumpDrain::Step::kDiskFull);
  ::setrlimit(RLIMIT_FSIZE, &old);
  CHECK(drain.step(true) == DumpDrain::Step::kMoved);
  const Told told = read_trace(dump.path());
  CHECK(told.records() == 3000);
  CHECK(told.health.whole());
}

TEST_CASE("trace drain: read while it is drained, it has everything once") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, static_cast<uint32_t>(::getpid()), kRingBytes);
  dump.header()->trace_on.store(1);
  const pid_t child = ::fork();
  if (child == 0) {
    DumpDrain drain(dump.path());
    for (;;) drain.step(true);
  }
  Counter counter;
  for (int round = 0; round < 100; ++round) {
    for (int i = 0; i < 5; ++i) write_records(dump, counter, 300);
    const Told told = read_trace(dump.path());
    CHECK(told.records() + told.health.lost == (round + 1) * 1500u);
    CHECK(told.health.lost == counter.dropped);
    CHECK(told.health.gaps + told.health.damaged_bytes + told.health.damaged_journal_bytes == 0);
    CHECK(told.explains(counter));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  CHECK(exists(dump.trace_path()));
}

TEST_CASE("trace drain: the newest is kept within the space that it may take") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  dump.header()->trace_max_bytes = kMiB;
  Counter counter;
  DumpDrain drain(dump.path());
  uint64_t most = 0;
  for (int pass = 0; pass < 200; ++pass) {
    write_records(dump, counter, 5000, 7);
    write_records(dump, counter, 8);  // and one that has little to say
    REQUIRE(drain.step(true) == DumpDrain::Step::kMoved);
    most = std::max(most, disk_bytes(dump.trace_path()));
  }
  REQUIRE(counter.dropped == 0);
  const auto* journal = drain.trace().journal();
  CHECK(journal->file_bytes() > 5 * kMiB);
  CHECK(most <= kMiB + 16384);
  CHECK(most > kMiB * 3 / 4);
  CHECK(journal->dropped_bytes() > 4 * kMiB);
  CHECK_FALSE(drain.trace().is_full());
  const Told told = read_trace(dump.path());
  CHECK(told.wrong == 0);
  CHECK(told.is_run(counter));
  CHECK(told.records() > 100'000);
  // The quiet ring is there as long as the others, though it is amid a block for ever; what its
  // block has from before is not told again.
  CHECK(told.numbers[7].size() > 15);
  CHECK(told.numbers[7].size() < 60);
  CHECK(told.health.recorder_dropped_bytes == journal->dropped_bytes());
  CHECK(told.health.recorder_dropped_frames > 0);
  CHECK(told.health.gaps + told.health.damaged_bytes + told.health.missing_journal_frames == 0);
  REQUIRE(told.health.lines().size() == 1);
  CHECK_THAT(told.health.lines()[0], Contains("given up to save space"));
}

TEST_CASE("trace drain: a recorder that is killed at any moment is readable and goes on") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  dump.header()->trace_max_bytes = kMiB;
  Counter counter;
  std::mt19937_64 random(3);
  for (int round = 0; round < 60; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      DumpDrain drain(dump.path());
      for (;;) drain.step(true);
    }
    for (uint64_t n = 20 + random() % 30; n > 0; --n) {
      write_records(dump, counter, 700);
      ::usleep(static_cast<useconds_t>(random() % 400));
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const Told told = read_trace(dump.path());
    CHECK(told.wrong == 0);
    CHECK(told.health.gaps + told.health.damaged_journal_bytes +
              told.health.missing_journal_frames ==
          0);
    CHECK(told.explains(counter));
    CHECK(disk_bytes(dump.trace_path()) <= kMiB + 2 * kRingBytes * SmallDump::kTraceRings);
    CHECK(told.records() > 0);
  }
  CHECK(read_trace(dump.path()).health.recorder_dropped_frames > 0);
}

TEST_CASE(
    "trace drain: a mark that is damaged is not believed, the frames are found all the same") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, 0, kRingBytes);
  dump.header()->trace_max_bytes = kMiB;
  Counter counter;
  {
    DumpDrain drain(dump.path());
    for (int pass = 0; pass < 60; ++pass) {
      write_records(dump, counter, 5000);
      REQUIRE(drain.step(true) == DumpDrain::Step::kMoved);
    }
  }
  const Told before = read_trace(dump.path());
  REQUIRE(before.health.recorder_dropped_frames > 0);
  const int fd = ::open(dump.trace_path().c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(::pwrite(fd, "x", 1, sizeof(dumper::JournalHeader) + 3) == 1);
  ::close(fd);
  const Told after = read_trace(dump.path());
  CHECK(after.records() >= before.records());  // nobody knows that blocks are told from their begin
  CHECK(after.is_run(counter));
  CHECK(after.health.recorder_dropped_frames == 0);
  CHECK(after.health.missing_journal_frames == before.health.recorder_dropped_frames);
  CHECK(after.health.damaged_journal_bytes == before.health.recorder_dropped_bytes);
}

TEST_CASE("trace drain: one that stops when full takes no more than a tail, and says so") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, static_cast<uint32_t>(::getpid()), kRingBytes);
  dump.header()->trace_max_bytes = kMiB;
  dump.header()->trace_stops_when_full = 1;
  dump.header()->trace_on.store(1);
  dump.header()->control.trace.store(1);
  Counter counter;
  std::vector<std::string> said;
  DumpDrain drain(dump.path());
  for (int pass = 0; pass < 150; ++pass) {
    write_records(dump, counter, 5000);
    drain.step(true);
    for (std::string& line : drain.take_complaints()) said.push_back(std::move(line));
    // The target hears of it.
    if (dump.header()->control.trace.load() == 0) dump.header()->trace_on.store(0);
  }
  CHECK(drain.trace().is_full());
  CHECK(dump.header()->control.trace.load() == 0);
  REQUIRE(said.size() == 1);
  CHECK_THAT(said[0], Contains("the trace ends here"));
  CHECK(disk_bytes(dump.trace_path()) > kMiB);
  CHECK(disk_bytes(dump.trace_path()) < 4 * kMiB);
  CHECK(counter.dropped > 0);
  const Told told = read_trace(dump.path());
  CHECK(told.numbers[0].front() == 0);
  CHECK(told.records() + told.health.lost == 150 * 5000);
  CHECK(told.health.lost == counter.dropped);
  CHECK(told.health.gaps == 0);
}

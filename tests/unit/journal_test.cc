// SPDX-License-Identifier: Apache-2.0
#include "dumper/journal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "dumper/double_entry.h"
#include "dumper/drain.h"
#include "dumper/events.h"
#include "tests/unit/catch.h"
#include "tests/unit/small_dump.h"

namespace {

using namespace mprof;
using Catch::Matchers::Contains;
using dumper::DumpDrain;
using dumper::FrameBuilder;
using dumper::JournalFrame;
using dumper::JournalReader;
using dumper::JournalWriter;
using testing::SmallDump;
using testing::TempDir;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

dumper::JournalHeader header_for_test() {
  static format::DumpHeader dump{};
  dump.generation = 42;
  dump.pid = 7;
  dump.profbuf_words = 64;
  return dumper::journal_header_of(dump);
}

FrameBuilder frame_of(uint32_t row, uint64_t from, const std::vector<uint64_t>& words) {
  FrameBuilder builder({from + 1, from + 2});
  const auto out = builder.add({row, 0, from, from + words.size(), 5, 6});
  std::copy(words.begin(), words.end(), out.begin());
  return builder;
}

std::vector<uint64_t> some_words(uint64_t seed, size_t count) {
  std::mt19937_64 random(seed);
  std::vector<uint64_t> words(count);
  for (uint64_t& word : words) word = random() % 1000;
  return words;
}

// Three frames of row 1, 50 words each, the last one marked complete.
void write_three_frames(const std::string& path) {
  JournalWriter writer(path, header_for_test());
  for (uint64_t i = 0; i < 3; ++i)
    REQUIRE(writer.append(frame_of(1, 50 * i, some_words(i, 50)),
                          i == 2 ? dumper::kFrameComplete : 0) == 0);
}

struct ReadBack {
  std::vector<uint64_t> froms;
  uint64_t wrong = 0;
  bool complete = false;
  uint64_t damaged = 0;
  uint64_t tail = 0;
  uint64_t missing = 0;
};

// What a reader makes of a journal of write_three_frames() after something happened to it.
ReadBack read_back(int fd) {
  JournalReader reader(fd, "test", header_for_test());
  ReadBack result;
  JournalFrame frame;
  while (reader.next(frame)) {
    for (const auto& span : frame.spans) {
      const auto expected = some_words(span.head.from / 50, 50);
      if (!std::equal(span.words.begin(), span.words.end(), expected.begin(), expected.end()))
        ++result.wrong;
      result.froms.push_back(span.head.from);
    }
    result.complete = (frame.flags & dumper::kFrameComplete) != 0;
  }
  result.damaged = reader.damaged_bytes();
  result.tail = reader.tail_bytes();
  result.missing = reader.missing_frames();
  return result;
}

class MemoryFile {
 public:
  explicit MemoryFile(const std::string& bytes) : fd_(::memfd_create("journal", MFD_CLOEXEC)) {
    set(bytes);
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  void set(const std::string& bytes) {
    REQUIRE(::ftruncate(fd_, 0) == 0);
    REQUIRE(::pwrite(fd_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

uint32_t crc(const void* bytes, size_t count) {
  return static_cast<uint32_t>(crc32_z(0, static_cast<const Bytef*>(bytes), count));
}

// A frame with right checksums around any payload, as a hostile file may have it.
std::string sealed_head(uint32_t stored_bytes, uint32_t payload_crc, uint32_t raw_bytes,
                        uint64_t offset) {
  dumper::FrameHead head{};
  head.magic = dumper::kFrameMagic;
  head.stored_bytes = stored_bytes;
  head.raw_bytes = raw_bytes;
  head.file_offset = offset;
  head.payload_crc = payload_crc;
  head.head_crc = crc(&head.payload_crc, sizeof head - offsetof(dumper::FrameHead, payload_crc));
  return {reinterpret_cast<const char*>(&head), sizeof head};
}

std::string sealed_frame(const std::string& stored, uint32_t raw_bytes, uint64_t offset) {
  return sealed_head(static_cast<uint32_t>(stored.size()), crc(stored.data(), stored.size()),
                     raw_bytes, offset) +
         stored;
}

std::string header_bytes() {
  const auto header = header_for_test();
  return {reinterpret_cast<const char*>(&header), sizeof header};
}

std::string compressed(const std::vector<uint64_t>& raw) {
  std::string out(ZSTD_compressBound(raw.size() * 8), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), raw.data(), raw.size() * 8, 1));
  return out;
}

}  // namespace

TEST_CASE("journal: frames come back as they were written") {
  const TempDir dir;
  const std::string path = dir / "x.journal";
  write_three_frames(path);
  const MemoryFile file(read_file(path));
  const ReadBack result = read_back(file.fd());
  CHECK(result.froms == std::vector<uint64_t>{0, 50, 100});
  CHECK(result.wrong == 0);
  CHECK(result.complete);
  CHECK(result.damaged + result.tail + result.missing == 0);
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
}

TEST_CASE("journal: cut at every byte, it is readable up to the last whole frame") {
  const TempDir dir;
  const std::string path = dir / "x.journal";
  std::vector<size_t> ends;
  {
    JournalWriter writer(path, header_for_test());
    ends.push_back(writer.file_bytes());
    for (uint64_t i = 0; i < 3; ++i) {
      REQUIRE(writer.append(frame_of(1, 50 * i, some_words(i, 50)), 0) == 0);
      ends.push_back(writer.file_bytes());
    }
  }
  const std::string whole = read_file(path);
  for (size_t cut = 0; cut <= whole.size(); ++cut) {
    MemoryFile file(whole.substr(0, cut));
    if (cut < ends[0]) {
      CHECK_THROWS_AS(read_back(file.fd()), dumper::JournalError);
      continue;
    }
    const ReadBack result = read_back(file.fd());
    const auto frames =
        static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), cut) - ends.begin() - 1);
    CHECK(result.froms.size() == frames);
    CHECK(result.wrong + result.damaged == 0);
    CHECK(result.tail == cut - ends[frames]);
  }
}

TEST_CASE("journal: the writer goes on after a cut at any byte") {
  const TempDir dir;
  const std::string path = dir / "x.journal";
  write_three_frames(path);
  const std::string whole = read_file(path);
  for (size_t cut = 0; cut <= whole.size(); cut += 3) {
    write_file(path, whole.substr(0, cut));
    uint64_t position = 0;
    {
      JournalWriter writer(path, header_for_test());
      if (!writer.resume().empty()) position = writer.resume().at(1).position;
      for (; position < 150; position += 50)
        REQUIRE(writer.append(frame_of(1, position, some_words(position / 50, 50)), 0) == 0);
    }
    const MemoryFile file(read_file(path));
    const ReadBack result = read_back(file.fd());
    CHECK(result.froms == std::vector<uint64_t>{0, 50, 100});
    CHECK(result.wrong + result.damaged + result.tail + result.missing == 0);
  }
}

TEST_CASE("journal: a flipped bit costs its frame and no other") {
  const TempDir dir;
  const std::string path = dir / "x.journal";
  write_three_frames(path);
  const std::string whole = read_file(path);
  MemoryFile file(whole);
  std::mt19937_64 random(5);
  uint64_t refused = 0;
  uint64_t wrong = 0;
  uint64_t too_few = 0;
  uint64_t uncounted = 0;
  for (int i = 0; i < 100000; ++i) {
    const size_t at = random() % whole.size();
    const char flipped = static_cast<char>(whole[at] ^ (1 << random() % 8));
    REQUIRE(::pwrite(file.fd(), &flipped, 1, static_cast<off_t>(at)) == 1);
    try {
      const ReadBack result = read_back(file.fd());
      wrong += result.wrong;
      too_few += result.froms.size() == 2 ? 0 : 1;
      uncounted += result.damaged + result.tail == 0 ? 1 : 0;
    } catch (const dumper::JournalError&) {
      refused += at < sizeof(dumper::JournalHeader) ? 0 : 1;
    }
    REQUIRE(::pwrite(file.fd(), &whole[at], 1, static_cast<off_t>(at)) == 1);
  }
  CHECK(refused == 0);
  CHECK(wrong == 0);
  CHECK(too_few == 0);
  CHECK(uncounted == 0);
}

TEST_CASE("journal: random bytes behind the header are damage, not a crash") {
  std::mt19937_64 random(6);
  for (int i = 0; i < 300; ++i) {
    std::string bytes = header_bytes();
    for (uint64_t n = random() % 20000; n > 0; --n) bytes += static_cast<char>(random());
    for (uint64_t n = random() % 50; n > 0; --n) bytes += "JFRM";
    const MemoryFile file(bytes);
    const ReadBack result = read_back(file.fd());
    CHECK(result.froms.empty());
    CHECK(result.tail == bytes.size() - sizeof(dumper::JournalHeader));
  }
}

TEST_CASE("journal: hostile frames with right checksums are checked all the same") {
  constexpr uint64_t kAt = sizeof(dumper::JournalHeader);
  const std::vector<uint64_t> good{1, 2, 0};
  const auto read = [](const std::string& frame) {
    const MemoryFile file(header_bytes() + frame);
    JournalReader reader(file.fd(), "test", header_for_test());
    JournalFrame out;
    return reader.next(out);
  };
  CHECK(read(sealed_frame(compressed(good), 24, kAt)));
  // Its head claims less, more, too much, or a length that is no number of words.
  CHECK_FALSE(read(sealed_frame(compressed(good), 16, kAt)));
  CHECK_FALSE(read(sealed_frame(compressed(good), 32, kAt)));
  CHECK_FALSE(read(sealed_frame(compressed(good), 0xfffffff8, kAt)));
  CHECK_FALSE(read(sealed_frame(compressed(good), 23, kAt)));
  CHECK_FALSE(read(sealed_frame(compressed(good), 24, kAt + 1)));
  CHECK_FALSE(read(sealed_frame("no zstd frame at all", 24, kAt)));
  // A payload that would unpack to far more than it may.
  CHECK_FALSE(read(sealed_frame(compressed(std::vector<uint64_t>(3 << 20)), 24, kAt)));
  // Spans that are more, or longer, than the payload; words behind the last one.
  CHECK_FALSE(read(sealed_frame(compressed({1, 2, 1}), 24, kAt)));
  CHECK_FALSE(read(sealed_frame(compressed({1, 2, UINT64_MAX}), 24, kAt)));
  CHECK_FALSE(read(sealed_frame(compressed({1, 2, 1, 0, 0, 2, 0, 0, 9}), 72, kAt)));
  CHECK_FALSE(read(sealed_frame(compressed({1, 2, 1, 0, 10, 2, 0, 0, 9}), 72, kAt)));
  CHECK_FALSE(read(sealed_frame(compressed({1, 2, 0, 9}), 32, kAt)));
}

TEST_CASE("journal: a file full of heads that each claim the rest does not cost its square") {
  std::string bytes = header_bytes();
  while (bytes.size() < (4u << 20)) bytes += sealed_head(1 << 20, 0, 24, bytes.size());
  const MemoryFile file(bytes);
  const clock_t begin = ::clock();
  CHECK(read_back(file.fd()).froms.empty());
  CHECK(static_cast<double>(::clock() - begin) / CLOCKS_PER_SEC < 5);
}

TEST_CASE("journal: nothing foreign is overwritten, no link is followed") {
  const TempDir dir;
  const std::string path = dir / "x.journal";
  write_file(path, "a diary");
  CHECK_THROWS_WITH(JournalWriter(path, header_for_test()), Contains("left alone"));
  CHECK(read_file(path) == "a diary");
  const std::string page(5000, 'd');
  write_file(path, page);
  CHECK_THROWS_WITH(JournalWriter(path, header_for_test()), Contains("not the journal of this"));
  CHECK(read_file(path) == page);
  REQUIRE(::unlink(path.c_str()) == 0);
  write_three_frames(path);
  format::DumpHeader dump{};
  dump.generation = 43;
  CHECK_THROWS_WITH(JournalWriter(path, dumper::journal_header_of(dump)), Contains("another run"));
  REQUIRE(::unlink(path.c_str()) == 0);
  write_file(dir / "precious", "");
  REQUIRE(::symlink((dir / "precious").c_str(), path.c_str()) == 0);
  CHECK_THROWS_WITH(JournalWriter(path, header_for_test()), Contains("symbolic link"));
  REQUIRE(::unlink(path.c_str()) == 0);
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  CHECK_THROWS_WITH(JournalWriter(path, header_for_test()), Contains("not a regular file"));
}

TEST_CASE("journal: one drainer at a time") {
  const TempDir dir;
  const std::string path = dir / "x.journal";
  const JournalWriter first(path, header_for_test());
  CHECK_THROWS_WITH(JournalWriter(path, header_for_test()), Contains("another mprof drain"));
}

TEST_CASE("journal: a frame that does not fit on the disk is taken back") {
  const TempDir dir;
  const std::string path = dir / "x.journal";
  JournalWriter writer(path, header_for_test());
  REQUIRE(writer.append(frame_of(1, 0, some_words(0, 50)), 0) == 0);
  const uint64_t bytes = writer.file_bytes();
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  rlimit tight = old;
  tight.rlim_cur = bytes + 30;
  ::setrlimit(RLIMIT_FSIZE, &tight);
  const int error = writer.append(frame_of(1, 50, some_words(1, 50)), 0);
  ::setrlimit(RLIMIT_FSIZE, &old);
  CHECK(error == EFBIG);
  CHECK(read_file(path).size() == bytes);
  CHECK(writer.append(frame_of(1, 50, some_words(1, 50)), 0) == 0);
  const MemoryFile file(read_file(path));
  CHECK(read_back(file.fd()).froms == std::vector<uint64_t>{0, 50});
}

namespace {

std::vector<uint64_t> sizes_of_events(const std::string& dump_path,
                                      dumper::StreamHealth* health = nullptr) {
  std::vector<uint64_t> sizes;
  const dumper::Dump dump = dumper::Dump::open(dump_path, dumper::Access::kRead);
  const auto found = dumper::read_events(dump, [&](const dumper::Event& event) {
    if (event.kind != format::RecordKind::kLost) sizes.push_back(event.size_bytes);
  });
  if (health != nullptr) *health = found;
  return sizes;
}

// Allocations of sizes first .. last through profbuf 0.
uint64_t fill(SmallDump& dump, uint64_t first, uint64_t last) {
  uint64_t delivered = 0;
  for (uint64_t n = first; n <= last; ++n)
    delivered += dump.alloc(0, static_cast<uint32_t>(n % SmallDump::kBuckets),
                            SmallDump::kStartTicks + n * 1000, n)
                     ? 1
                     : 0;
  return delivered;
}

std::vector<uint64_t> numbers(uint64_t first, uint64_t last) {
  std::vector<uint64_t> out;
  for (uint64_t n = first; n <= last; ++n) out.push_back(n);
  return out;
}

}  // namespace

TEST_CASE("drain: events in the journal and in the rings are one stream") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256);
  fill(dump, 1, 40);
  CHECK(sizes_of_events(dump.path()) == numbers(1, 40));  // no journal at all
  DumpDrain drain(dump.path());
  CHECK(drain.step(true) == DumpDrain::Step::kMoved);
  CHECK(dump.head(0)->released.load() == dump.head(0)->written.load());
  fill(dump, 41, 90);
  dumper::StreamHealth health;
  CHECK(sizes_of_events(dump.path(), &health) == numbers(1, 90));
  CHECK(health.whole());
  CHECK_FALSE(health.journal_complete);
  CHECK(drain.step(false) == DumpDrain::Step::kMoved);
  CHECK(drain.step(false) == DumpDrain::Step::kComplete);
  CHECK(sizes_of_events(dump.path(), &health) == numbers(1, 90));
  CHECK(health.journal_complete);
}

TEST_CASE("drain: after its death between frame and release nothing comes twice") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256);
  fill(dump, 1, 40);
  const uint64_t released_before = dump.head(0)->released.load();
  { CHECK(DumpDrain(dump.path()).step(true) == DumpDrain::Step::kMoved); }
  dump.head(0)->released.store(released_before);  // as if killed before it got there
  fill(dump, 41, 60);
  CHECK(sizes_of_events(dump.path()) == numbers(1, 60));
  {
    DumpDrain second(dump.path());
    CHECK(second.step(true) == DumpDrain::Step::kMoved);
  }
  CHECK(dump.head(0)->released.load() == dump.head(0)->written.load());
  dumper::StreamHealth health;
  CHECK(sizes_of_events(dump.path(), &health) == numbers(1, 60));
  CHECK(health.whole());
}

TEST_CASE("drain: a torn last frame is written again from the ring") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256);
  fill(dump, 1, 30);
  { CHECK(DumpDrain(dump.path()).step(true) == DumpDrain::Step::kMoved); }
  const uint64_t released = dump.head(0)->released.load();
  fill(dump, 31, 60);
  { CHECK(DumpDrain(dump.path()).step(true) == DumpDrain::Step::kMoved); }
  dump.head(0)->released.store(released);
  const std::string journal = read_file(dump.journal_path());
  write_file(dump.journal_path(), journal.substr(0, journal.size() - 7));
  dumper::StreamHealth health;
  CHECK(sizes_of_events(dump.path(), &health) == numbers(1, 60));
  CHECK(health.whole());
  CHECK(health.torn_journal_bytes > 0);
  {
    DumpDrain drain(dump.path());
    CHECK(drain.events().journal()->truncated_bytes() > 0);
    CHECK(drain.step(true) == DumpDrain::Step::kMoved);
  }
  CHECK(sizes_of_events(dump.path(), &health) == numbers(1, 60));
  CHECK(health.torn_journal_bytes == 0);
}

TEST_CASE("drain: a journal that is gone leaves a gap that is said") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256);
  fill(dump, 1, 30);
  { CHECK(DumpDrain(dump.path()).step(true) == DumpDrain::Step::kMoved); }
  REQUIRE(::unlink(dump.journal_path().c_str()) == 0);
  fill(dump, 31, 60);
  dumper::StreamHealth health;
  CHECK(sizes_of_events(dump.path(), &health) == numbers(31, 60));
  CHECK(health.gaps == 1);
  CHECK_FALSE(health.whole());
  const auto dump_read = dumper::Dump::open(dump.path(), dumper::Access::kRead);
  CHECK(health.lines(dump_read.clock()).size() == 1);
}

TEST_CASE("drain: positions that make no sense are skipped, and the target can write again") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 64);
  fill(dump, 1, 5);
  dump.head(0)->written.store(uint64_t{1} << 40);
  DumpDrain drain(dump.path());
  drain.step(true);
  CHECK(drain.events().damaged_rings() == 1);
  fill(dump, 6, 9);
  drain.step(true);
  dumper::StreamHealth health;
  CHECK(sizes_of_events(dump.path(), &health) == numbers(6, 9));
  CHECK(health.gaps == 1);
}

TEST_CASE("drain: it follows a process to its end, and the books are equal") {
  const TempDir dir;
  const std::string path = dir / "a.mprof";
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    SmallDump dump(path, 1024, static_cast<uint32_t>(::getpid()));
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    for (uint64_t n = 1; n <= 200000; ++n) {
      fill(dump, n, n);
      if (n % 100 == 0) ::usleep(200);
    }
    dump.end_cleanly(SmallDump::kStartTicks + 200000 * 1000);
    ::_exit(0);
  }
  char byte;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  DumpDrain drain(path);
  while (drain.step(false) != DumpDrain::Step::kComplete) {
    ::usleep(static_cast<useconds_t>(drain.pause().count() * 1000));
    // Reaped here, so that its death is seen through the pidfd only.
    ::waitpid(child, nullptr, WNOHANG);
  }
  ::close(ready[0]);
  ::close(ready[1]);
  const auto dump = dumper::Dump::open(path, dumper::Access::kRead);
  const auto entry = dumper::check_double_entry(dump);
  const bool balanced = entry.verdict == dumper::DoubleEntry::Verdict::kEqual ||
                        entry.verdict == dumper::DoubleEntry::Verdict::kLossExplains;
  INFO(entry.line(dump.clock()));
  CHECK(balanced);
  CHECK(entry.health.events + entry.health.lost() == 200000);
  CHECK(entry.health.journal_complete);
}

TEST_CASE("drain: a target that became another program by exec has ended") {
  const TempDir dir;
  const std::string path = dir / "a.mprof";
  int closed_by_exec[2];
  REQUIRE(::pipe2(closed_by_exec, O_CLOEXEC) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    {
      SmallDump dump(path, 256, static_cast<uint32_t>(::getpid()));
      fill(dump, 1, 20);
    }
    ::execlp("sleep", "sleep", "60", nullptr);
    ::_exit(127);
  }
  ::close(closed_by_exec[1]);
  char byte;
  CHECK(::read(closed_by_exec[0], &byte, 1) == 0);
  ::close(closed_by_exec[0]);
  DumpDrain drain(path);
  bool complete = false;
  for (int i = 0; i < 100 && !complete; ++i) {
    complete = drain.step(true) == DumpDrain::Step::kComplete;
    ::usleep(50'000);
  }
  CHECK(complete);
  CHECK(sizes_of_events(path) == numbers(1, 20));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST_CASE("drain: every dump that appears in the directory is drained, older ones are not") {
  const TempDir dir;
  SmallDump before(dir / "old.mprof", 256);
  before.header()->realtime_start_ns = 1000;
  fill(before, 1, 10);
  dumper::Drainer drainer(dir.path(), "*.mprof", SmallDump::kStartRealtimeNs);
  drainer.start();
  write_file(dir / "unfinished.mprof", std::string(16384, '\0'));
  SmallDump a(dir / "a.mprof", 256);
  fill(a, 1, 20);
  SmallDump b(dir / "b.mprof", 256);
  fill(b, 1, 30);
  ::usleep(300'000);
  drainer.stop();
  CHECK(drainer.complaints().empty());
  CHECK(drainer.dumps_seen() == 2);
  CHECK(::access(before.journal_path().c_str(), F_OK) != 0);
  dumper::StreamHealth health;
  CHECK(sizes_of_events(a.path(), &health) == numbers(1, 20));
  CHECK(health.journal_complete);
  CHECK(sizes_of_events(b.path(), &health) == numbers(1, 30));
  CHECK(health.journal_complete);
}

TEST_CASE("double entry: equal to the last unit, and any unit that is off is found") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 4096);
  std::mt19937_64 random(7);
  for (uint64_t n = 1; n <= 300; ++n) {
    const auto bucket = static_cast<uint32_t>(random() % SmallDump::kBuckets);
    const auto profbuf = static_cast<uint32_t>(random() % SmallDump::kProfbufs);
    const uint64_t size = random() % 100000;
    const uint64_t weight = format::sample_weight(size, 524288);
    const uint64_t now = SmallDump::kStartTicks + n;
    REQUIRE(dump.alloc(profbuf, bucket, now, size, weight));
    if (n % 2 == 0) REQUIRE(dump.free(profbuf, bucket, now, size, now - 1, weight));
  }
  dump.end_cleanly(SmallDump::kStartTicks + 1000);
  const auto reader = dumper::Dump::open(dump.path(), dumper::Access::kRead);
  auto entry = dumper::check_double_entry(reader);
  CHECK(entry.equal());
  CHECK(entry.samples == 450);
  CHECK(entry.line(reader.clock()) == "events equal the 64 buckets to the last unit (450 samples)");
  dump.bucket(9)->totals[0].free_bytes += 1;
  entry = dumper::check_double_entry(reader);
  CHECK(entry.verdict == dumper::DoubleEntry::Verdict::kDifferent);
  CHECK(entry.different_buckets == 1);
  CHECK_THAT(entry.first, Contains("bucket 9 has"));
}

TEST_CASE("double entry: loss is explained, and when it began") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 64);
  const uint64_t delivered = fill(dump, 1, 50);
  dump.end_cleanly(SmallDump::kStartTicks + 100'000);
  const auto reader = dumper::Dump::open(dump.path(), dumper::Access::kRead);
  const auto entry = dumper::check_double_entry(reader);
  CHECK(entry.verdict == dumper::DoubleEntry::Verdict::kLossExplains);
  CHECK(entry.missing_samples == static_cast<int64_t>(50 - delivered));
  CHECK(entry.health.first_lost_ticks == SmallDump::kStartTicks + (delivered + 1) * 1000);
  CHECK_THAT(entry.line(reader.clock()), Contains("since 0.000 s after the start"));
}

TEST_CASE("double entry: of a killed target one sample a thread at work may be missing") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256);
  fill(dump, 1, 20);
  dump.bucket(5)->totals[0].alloc_samples += 1;
  const auto reader = dumper::Dump::open(dump.path(), dumper::Access::kRead);
  CHECK(dumper::check_double_entry(reader).verdict == dumper::DoubleEntry::Verdict::kDifferent);
  dump.thread(0)->inside.store(7);
  CHECK(dumper::check_double_entry(reader).verdict ==
        dumper::DoubleEntry::Verdict::kEqualButForKilled);
}

TEST_CASE("double entry: a running target is not checked") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 256, static_cast<uint32_t>(::getpid()));
  fill(dump, 1, 20);
  const auto reader = dumper::Dump::open(dump.path(), dumper::Access::kRead);
  CHECK(dumper::check_double_entry(reader).verdict == dumper::DoubleEntry::Verdict::kNotChecked);
}

TEST_CASE("double entry: count rows are compared with their events, each sum of them") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 4096);
  for (uint64_t i = 0; i < 300; ++i)
    REQUIRE(dump.counted(i % 4, static_cast<uint32_t>(i % 7), i, i * 1000 + 7,
                         format::wait_weight(i * 1000 + 7, 100'000)));
  REQUIRE(dump.alloc(0, 3, 1000, 64));
  dump.end_cleanly(SmallDump::kStartTicks + 1000);
  const auto reader = dumper::Dump::open(dump.path(), dumper::Access::kRead);
  auto entry = dumper::check_double_entry(reader);
  CHECK(entry.equal());
  CHECK(entry.samples == 301);
  CHECK(entry.health.events == 301);
  // What was there before the library is in no profbuf.
  dump.count(9)->stack = format::kNoRow;
  dump.count(9)->kind = static_cast<uint32_t>(format::CountKind::kThreadCreate);
  format::add_to(dump.count(9)->totals[0], {0, format::kWeightOne});
  CHECK(dumper::check_double_entry(reader).equal());
  format::CountTotals& totals = dump.count(5)->totals[0];
  for (uint64_t* sum : {&totals.count, &totals.value, &totals.samples}) {
    *sum += 1;
    entry = dumper::check_double_entry(reader);
    CHECK(entry.verdict == dumper::DoubleEntry::Verdict::kDifferent);
    CHECK(entry.different_buckets == 1);
    CHECK_THAT(entry.first, Contains("count row 5 has"));
    *sum -= 1;
  }
  // An event of a row that is not there, and of one that was never published.
  dump.write_event(0, format::RecordKind::kCounted, 4000, {1, 2});
  CHECK(dumper::check_double_entry(reader).different_buckets == 1);
  dump.write_event(0, format::RecordKind::kCounted, SmallDump::kCounts - 1, {1, 2});
  CHECK(dumper::check_double_entry(reader).different_buckets == 2);
}

TEST_CASE("double entry: what threads without a profbuf did is explained by its count") {
  const TempDir dir;
  SmallDump dump(dir / "a.mprof", 4096);
  for (uint64_t i = 0; i < 10; ++i) REQUIRE(dump.counted(0, 1, i, 50));
  format::add_to(dump.count(1)->totals[0], {70, format::kWeightOne});
  format::add_to(dump.count(1)->totals[0], {80, format::kWeightOne});
  dump.end_cleanly(SmallDump::kStartTicks + 1000);
  const auto reader = dumper::Dump::open(dump.path(), dumper::Access::kRead);
  CHECK(dumper::check_double_entry(reader).verdict == dumper::DoubleEntry::Verdict::kDifferent);
  dump.header()->lost[static_cast<size_t>(format::Lost::kNoProfbuf)] = 2;
  const auto entry = dumper::check_double_entry(reader);
  CHECK(entry.verdict == dumper::DoubleEntry::Verdict::kLossExplains);
  CHECK_THAT(entry.line(reader.clock()), Contains("events lack 2 of 12 samples, as many as were"));
  CHECK_THAT(entry.line(reader.clock()), Contains("(2 of threads without a profbuf)"));
  dump.header()->lost[static_cast<size_t>(format::Lost::kNoProfbuf)] = 3;
  CHECK(dumper::check_double_entry(reader).verdict == dumper::DoubleEntry::Verdict::kDifferent);
}

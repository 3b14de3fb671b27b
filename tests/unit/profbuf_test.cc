// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "dumper/events.h"
#include "format/profbuf.h"
#include "format/profbuf_reader.h"
#include "format/profbuf_writer.h"
#include "format/weights.h"
#include "tests/unit/catch.h"

namespace {

using namespace mprof;
using dumper::Event;
using format::RecordKind;

// Both ends of a ring. `twice`: at two addresses, as two processes see it; once is what
// ThreadSanitizer can follow.
class Ring {
 public:
  explicit Ring(uint64_t words, uint64_t start = 0, bool twice = true) : words_(words) {
    const int fd = ::memfd_create("ring", MFD_CLOEXEC);
    REQUIRE(::ftruncate(fd, static_cast<off_t>(bytes())) == 0);
    target_ = map(fd);
    drainer_ = twice ? map(fd) : target_;
    ::close(fd);
    head()->written.store(start);
    head()->released.store(start);
    head()->released_seen = start;
    position_ = start;
    writer_ = format::ProfbufWriter(head(), words_of(target_), words_);
    writer_.set_thread(3);
  }
  ~Ring() {
    ::munmap(target_, bytes());
    if (drainer_ != target_) ::munmap(drainer_, bytes());
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  format::ProfbufWriter& writer() { return writer_; }
  format::ProfbufReader reader() {
    return {reinterpret_cast<format::ProfbufHead*>(drainer_), words_of(drainer_), words_};
  }
  format::ProfbufHead* head() { return reinterpret_cast<format::ProfbufHead*>(target_); }
  std::atomic<uint64_t>* words() { return words_of(target_); }

  // What the writer does with the number `n`: a record of 3 or 4 words that all depend on it.
  bool write(uint64_t n) {
    const bool weighted = n % 3 == 0;
    uint64_t record[4] = {
        format::pack_record_word({RecordKind::kAlloc, static_cast<uint8_t>(weighted ? 4 : 3),
                                  weighted ? format::kWeighted : uint16_t{0},
                                  static_cast<uint32_t>(n)}),
        n + 1000, n * 7, n * 11};
    return writer_.write(record, weighted ? 4 : 3);
  }

  // All that is there, as the drainer takes it, in pieces of at most `piece` words.
  dumper::ProfbufSpan take(size_t piece = SIZE_MAX) {
    format::ProfbufReader r = reader();
    buffer_.resize(std::min<size_t>(piece, words_));
    const auto chunk = r.copy(position_, buffer_);
    position_ = chunk.end;
    r.release(position_);
    dumper::SpanHead span{
        0, chunk.damaged ? dumper::kSpanDamaged : 0, chunk.begin, chunk.end, r.dropped(), 0};
    return {span, std::span(buffer_).first(chunk.end - chunk.begin)};
  }

 private:
  [[nodiscard]] size_t bytes() const {
    return sizeof(format::ProfbufHead) + words_ * sizeof(uint64_t);
  }
  [[nodiscard]] char* map(int fd) const {
    void* at = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(at != MAP_FAILED);
    return static_cast<char*>(at);
  }
  static std::atomic<uint64_t>* words_of(char* base) {
    return reinterpret_cast<std::atomic<uint64_t>*>(base + sizeof(format::ProfbufHead));
  }

  uint64_t words_;
  char* target_;
  char* drainer_;
  uint64_t position_;
  format::ProfbufWriter writer_;
  std::vector<uint64_t> buffer_;
};

// Checks that the numbers come in order, whole, and that each loss stands where it happened.
class Checker {
 public:
  explicit Checker(uint64_t start = 0) : parser_(sink_, 1) {
    if (start != 0) parser_.feed({{0, 0, start, start, 0, 0}, {}});  // one gap, before the start
    gaps_expected_ = start != 0 ? 1 : 0;
  }
  void feed(const dumper::ProfbufSpan& span) { parser_.feed(span); }

  [[nodiscard]] uint64_t next() const { return next_; }
  [[nodiscard]] uint64_t delivered() const { return delivered_; }
  [[nodiscard]] uint64_t lost() const { return lost_; }
  [[nodiscard]] bool right() const {
    const auto health = parser_.health();
    return wrong_ == 0 && health.damaged_records == 0 && health.gaps == gaps_expected_;
  }

 private:
  void check(const Event& event) {
    if (event.kind == RecordKind::kLost) {
      wrong_ += event.ticks == next_ + 1000 ? 0 : 1;
      next_ += event.lost;
      lost_ += event.lost;
      return;
    }
    const bool weighted = next_ % 3 == 0;
    const bool right = event.kind == RecordKind::kAlloc && event.thread == 3 &&
                       event.row == static_cast<uint32_t>(next_) && event.ticks == next_ + 1000 &&
                       event.size_bytes == next_ * 7 &&
                       event.weight == (weighted ? next_ * 11 : format::kWeightOne);
    wrong_ += right ? 0 : 1;
    ++next_;
    ++delivered_;
  }

  dumper::EventSink sink_ = [this](const Event& event) { check(event); };
  dumper::EventParser parser_;
  uint64_t next_ = 0;
  uint64_t delivered_ = 0;
  uint64_t lost_ = 0;
  uint64_t wrong_ = 0;
  uint64_t gaps_expected_ = 0;
};

// Numbers 0 .. count through a ring whose reader comes by every `visit` records.
void run_numbers(uint64_t words, uint64_t start, uint64_t count, uint64_t visit, size_t piece) {
  Ring ring(words, start);
  Checker checker(start);
  for (uint64_t n = 0; n < count; ++n) {
    ring.write(n);
    if (n % visit == 0) checker.feed(ring.take(piece));
  }
  for (auto span = ring.take(piece); !span.words.empty(); span = ring.take(piece))
    checker.feed(span);
  CHECK(checker.right());
  const uint64_t unreported = ring.reader().dropped() - checker.lost();
  CHECK(checker.delivered() + ring.reader().dropped() == count);
  CHECK(checker.next() + unreported == count);
}

}  // namespace

TEST_CASE("profbuf: a record goes through two mappings, after the name of its thread") {
  Ring ring(64);
  CHECK(ring.write(0));
  CHECK(ring.head()->written.load() == 2 + 4);
  Checker checker;
  checker.feed(ring.take());
  CHECK(checker.delivered() == 1);
  CHECK(checker.right());
  CHECK(ring.head()->released.load() == 6);
  CHECK(ring.take().words.empty());
}

TEST_CASE("profbuf: a detached writer drops") {
  format::ProfbufWriter writer;
  const uint64_t record[3] = {0, 0, 0};
  CHECK_FALSE(writer.write(record, 3));
}

TEST_CASE("profbuf: records wrap around the end of the data, whole or cut into pieces") {
  for (const uint64_t words : {16, 32, 64, 1024})
    for (const uint64_t visit : {1, 2, 3})
      for (const size_t piece : {size_t{1}, size_t{5}, size_t{4096}})
        run_numbers(words, 0, 3000, visit, piece);
}

TEST_CASE("profbuf: positions pass 2^63 and 2^64") {
  for (const uint64_t start : {(uint64_t{1} << 63) - 100, uint64_t{0} - 100, uint64_t{0} - 1})
    for (const uint64_t visit : {1, 3, 40}) run_numbers(64, start, 3000, visit, 4096);
}

TEST_CASE("profbuf: every fill level meets every record length") {
  for (uint64_t offset = 0; offset < 40; ++offset)
    for (uint64_t visit = 1; visit < 24; ++visit) run_numbers(32, offset, 200, visit, 4096);
}

TEST_CASE("profbuf: a ring takes exactly what it has room for, then drops and counts") {
  Ring ring(16);
  CHECK(ring.write(1));  // 2 + 3 words
  CHECK(ring.write(2));
  CHECK(ring.write(3));  // 4 words: 12 of 16
  CHECK(ring.write(6));  // 16 of 16
  CHECK_FALSE(ring.write(7));
  CHECK_FALSE(ring.write(8));
  CHECK(ring.head()->dropped.load() == 2);
  CHECK(ring.head()->first_drop_ticks.load() == 7 + 1000);
  CHECK(ring.head()->written.load() == 16);
}

TEST_CASE("profbuf: once dropping, a record is dropped until it fits behind the report") {
  Ring ring(16);
  for (const uint64_t n : {1, 2, 3, 4}) ring.write(n);  // 2 + 3 + 3 + 4 + 3 words
  REQUIRE(ring.head()->written.load() == 15);
  CHECK_FALSE(ring.write(7));
  ring.reader().release(4);  // 5 words free: enough for record 8, not for the report before it
  CHECK_FALSE(ring.write(8));
  ring.reader().release(5);  // 6 words: both fit
  CHECK(ring.write(10));
  std::vector<uint64_t> words(16);
  const auto chunk = ring.reader().copy(5, words);
  REQUIRE(chunk.end == 21);
  const auto lost = format::unpack_record_word(words[10]);
  CHECK(lost.kind == RecordKind::kLost);
  CHECK(lost.words == 3);
  CHECK(words[11] == 7 + 1000);
  CHECK(words[12] == 2);
  CHECK(format::unpack_record_word(words[13]).argument == 10);
}

TEST_CASE("profbuf: loss that was never reported is what `dropped` has beyond the reports") {
  Ring ring(16);
  for (uint64_t n = 0; n < 20; ++n) ring.write(n);
  Checker checker;
  checker.feed(ring.take());
  CHECK(checker.lost() == 0);
  CHECK(checker.delivered() + ring.reader().dropped() == 20);
  ring.write(20);
  checker.feed(ring.take());
  CHECK(checker.lost() == ring.reader().dropped());
  CHECK(checker.next() == 21);
  CHECK(checker.right());
}

TEST_CASE("profbuf: the next thread announces itself") {
  Ring ring(64);
  std::vector<uint32_t> threads;
  const dumper::EventSink sink = [&](const Event& event) { threads.push_back(event.thread); };
  dumper::EventParser parser(sink, 1);
  ring.write(1);
  ring.writer().set_thread(0);
  ring.write(2);
  ring.write(4);
  parser.feed(ring.take());
  CHECK(threads == std::vector<uint32_t>{3, 0, 0});
}

TEST_CASE("profbuf: a drainer that writes nonsense makes the writer drop, not write elsewhere") {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    Ring ring(16);
    ring.reader().release(i % 2 == 0 ? random() : random() % 64);
    for (uint64_t n = 0; n < 8; ++n) ring.write(n);
    const uint64_t written = ring.head()->written.load();
    CHECK(written + 0 <= 8 * 7 + 2);
    if (ring.head()->dropped.load() == 0) CHECK(written == 2 + 3 * 4 + 5 * 3);
  }
}

TEST_CASE("profbuf: a target that writes nonsense positions is skipped and reported") {
  std::mt19937_64 random(2);
  Ring ring(16);
  uint64_t position = 0;
  std::vector<uint64_t> buffer(16);
  for (int i = 0; i < 100000; ++i) {
    const uint64_t written = i % 2 == 0 ? random() : position + random() % 40;
    ring.head()->written.store(written);
    const auto chunk = ring.reader().copy(position, buffer);
    if (written - position > 16) {
      CHECK(chunk.damaged);
      CHECK(chunk.begin == written);
    }
    CHECK(chunk.end - chunk.begin <= 16);
    position = chunk.end;
  }
}

TEST_CASE("profbuf: words that are no records are damage, and the stream goes on") {
  std::mt19937_64 random(3);
  uint64_t events = 0;
  uint64_t words_fed = 0;
  const dumper::EventSink sink = [&](const Event&) { ++events; };
  dumper::EventParser parser(sink, 4);
  uint64_t position = 0;
  for (int i = 0; i < 100000; ++i) {
    std::vector<uint64_t> words(random() % 20);
    for (uint64_t& word : words)
      word = random() % 2 == 0 ? random() : random() % 5 | (random() % 9) << 8 | random() % 4 << 16;
    dumper::SpanHead head{static_cast<uint32_t>(random() % 5),
                          0,
                          position,
                          position + words.size(),
                          random() % 100,
                          0};
    parser.feed({head, words});
    position += words.size();
    words_fed += words.size();
  }
  CHECK(events > 0);
  CHECK(events <= words_fed / 3);
  CHECK(parser.health().damaged_records > 0);
}

TEST_CASE("profbuf: bytes that flip under the reader never take it out of the ring") {
  Ring ring(64, 0, false);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> changes{0};
  std::thread scribbler([&] {
    std::mt19937_64 random(4);
    while (!stop.load(std::memory_order_relaxed)) {
      ring.words()[random() % 64].store(random(), std::memory_order_relaxed);
      ring.head()->written.store(random() % 256, std::memory_order_release);
      changes.fetch_add(1, std::memory_order_relaxed);
    }
  });
  uint64_t events = 0;
  const dumper::EventSink sink = [&](const Event&) { ++events; };
  dumper::EventParser parser(sink, 1);
  uint64_t words = 0;
  for (int i = 0; i < 100'000'000; ++i) {
    if (changes.load(std::memory_order_relaxed) >= 300000 && parser.health().gaps > 100) break;
    const auto span = ring.take();
    words += span.words.size();
    parser.feed(span);
  }
  stop.store(true);
  scribbler.join();
  CHECK(events <= words);
  CHECK(parser.health().gaps > 100);
}

namespace {

// A writer and a reader at once. The reader naps now and then, so that the ring overflows.
void run_two_threads(bool twice, uint64_t count, uint64_t words) {
  Ring ring(words, uint64_t{0} - 50000, twice);
  Checker checker(uint64_t{0} - 50000);
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (uint64_t n = 0; n < count; ++n) ring.write(n);
    done.store(true, std::memory_order_release);
  });
  for (int visit = 0;; ++visit) {
    const bool last = done.load(std::memory_order_acquire);
    const auto span = ring.take();
    checker.feed(span);
    if (last && span.words.empty()) break;
    if (visit % 1000 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  writer.join();
  CHECK(checker.right());
  CHECK(checker.delivered() + ring.reader().dropped() == count);
}

}  // namespace

TEST_CASE("profbuf: a writer and a reader at once, one mapping") {
  run_two_threads(false, 300000, 64);
  run_two_threads(false, 300000, 4096);
}

TEST_CASE("profbuf: a writer and a reader at once, two mappings") {
  run_two_threads(true, 2000000, 64);
  run_two_threads(true, 2000000, 4096);
}

TEST_CASE("profbuf: a writer in another process") {
  constexpr uint64_t kCount = 500000;
  Ring ring(1024);
  const pid_t child = ::fork();
  if (child == 0) {
    for (uint64_t n = 0; n < kCount; ++n) ring.write(n);
    ::_exit(0);
  }
  REQUIRE(child > 0);
  Checker checker;
  for (bool ended = false;;) {
    const auto span = ring.take();
    checker.feed(span);
    if (ended && span.words.empty()) break;
    ended = ended || ::waitpid(child, nullptr, WNOHANG) == child;
  }
  CHECK(checker.right());
  CHECK(checker.delivered() + ring.reader().dropped() == kCount);
}

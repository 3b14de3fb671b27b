// SPDX-License-Identifier: Apache-2.0
// The profbuf and the drain between processes that are killed, stopped and started again.
//
// Usage: profbuf_two_process_test [RECORDS [KILLS]]; RECORDS go through a ring without loss, KILLS
// writers are killed. Prints what it saw; the exit code is 0 when all of it was right.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dumper/double_entry.h"
#include "dumper/drain.h"
#include "dumper/events.h"
#include "format/profbuf_reader.h"
#include "format/profbuf_writer.h"
#include "tests/unit/small_dump.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define MPROF_SLOW_BUILD 1
#else
#define MPROF_SLOW_BUILD 0
#endif

namespace {

using namespace mprof;
using format::RecordKind;
using testing::SmallDump;
using testing::TempDir;

int failures = 0;

void expect(bool right, const char* what, uint64_t a = 0, uint64_t b = 0) {
  if (right) return;
  ++failures;
  std::fprintf(stderr, "WRONG: %s (%lu, %lu)\n", what, a, b);
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

pid_t in_child(const std::function<void()>& work) {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) std::abort();
  if (pid != 0) return pid;
  work();
  ::_exit(0);
}

void end_of(pid_t pid) { ::waitpid(pid, nullptr, 0); }

bool has_ended(pid_t pid) { return ::waitpid(pid, nullptr, WNOHANG) == pid; }

// A ring in memory that is shared with the children, mapped anew for the reader.
struct SharedRing {
  struct Counters {
    std::atomic<uint64_t> begun;
    std::atomic<uint64_t> done;
  };

  explicit SharedRing(uint64_t word_count) : words(word_count) {
    const int fd = ::memfd_create("ring", MFD_CLOEXEC);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes())) != 0) std::abort();
    target =
        static_cast<char*>(::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    drainer =
        static_cast<char*>(::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    ::close(fd);
  }
  SharedRing(const SharedRing&) = delete;
  SharedRing& operator=(const SharedRing&) = delete;
  ~SharedRing() {
    ::munmap(target, bytes());
    ::munmap(drainer, bytes());
  }

  [[nodiscard]] size_t bytes() const { return format::kPageBytes + words * sizeof(uint64_t); }
  static format::ProfbufHead* head(char* base) {
    return reinterpret_cast<format::ProfbufHead*>(base);
  }
  static std::atomic<uint64_t>* data(char* base) {
    return reinterpret_cast<std::atomic<uint64_t>*>(base + format::kPageBytes);
  }
  Counters* counters() { return reinterpret_cast<Counters*>(target + 1024); }
  format::ProfbufWriter writer() { return {head(target), data(target), words}; }
  format::ProfbufReader reader() { return {head(drainer), data(drainer), words}; }

  uint64_t words;
  char* target;
  char* drainer;
};

// Record number `n`: every word depends on it.
bool write_number(format::ProfbufWriter& writer, uint64_t n) {
  const uint64_t record[4] = {
      format::pack_record_word({RecordKind::kFree, 4, 0, static_cast<uint32_t>(n)}), n,
      n * 0x9e3779b97f4a7c15, ~n};
  return writer.write(record, 4);
}

// Takes words as a drainer does and checks that the numbers come in order and whole.
class NumberReader {
 public:
  explicit NumberReader(SharedRing& ring) : ring_(ring), buffer_(ring.words), parser_(sink_, 1) {}

  // False when there was nothing.
  bool take() {
    format::ProfbufReader reader = ring_.reader();
    const auto chunk = reader.copy(reader.released(), buffer_);
    parser_.feed(
        {{0, chunk.damaged ? dumper::kSpanDamaged : 0, chunk.begin, chunk.end, reader.dropped(), 0},
         std::span(buffer_).first(chunk.end - chunk.begin)});
    reader.release(chunk.end);
    return chunk.end != chunk.begin;
  }
  [[nodiscard]] uint64_t next() const { return next_; }
  [[nodiscard]] uint64_t delivered() const { return delivered_; }
  [[nodiscard]] bool right() const {
    const auto health = parser_.health();
    return torn_ == 0 && health.gaps == 0 && health.damaged_records == 0;
  }

 private:
  void check(const dumper::Event& event) {
    if (event.kind == RecordKind::kLost) {
      torn_ += event.ticks == next_ ? 0 : 1;
      next_ += event.lost;
      return;
    }
    const bool whole = event.ticks == next_ && event.row == static_cast<uint32_t>(next_) &&
                       event.size_bytes == next_ * 0x9e3779b97f4a7c15 &&
                       event.alloc_ticks == ~next_;
    torn_ += whole ? 0 : 1;
    ++next_;
    ++delivered_;
  }

  SharedRing& ring_;
  std::vector<uint64_t> buffer_;
  dumper::EventSink sink_ = [this](const dumper::Event& event) { check(event); };
  dumper::EventParser parser_;
  uint64_t next_ = 0;
  uint64_t delivered_ = 0;
  uint64_t torn_ = 0;
};

// A writer that waits for room, so that each record must arrive.
void every_record_arrives(uint64_t count) {
  const auto begin = std::chrono::steady_clock::now();
  SharedRing ring(131072);
  const pid_t child = in_child([&] {
    format::ProfbufWriter writer = ring.writer();
    const format::ProfbufHead* head = SharedRing::head(ring.target);
    for (uint64_t n = 0; n < count; ++n) {
      while (head->written.load(std::memory_order_relaxed) -
                 head->released.load(std::memory_order_relaxed) >
             ring.words - 16)
        ::usleep(50);
      write_number(writer, n);
    }
  });
  NumberReader reader(ring);
  for (bool ended = false;;) {
    const bool some = reader.take();
    if (!some && ended) break;
    if (!some) ended = has_ended(child);
    if (!some) ::usleep(50);
  }
  expect(reader.right(), "a record was torn, missing or twice");
  expect(reader.delivered() == count, "delivered, of", reader.delivered(), count);
  std::printf("%lu records through a ring of %lu words between two processes: %.1f s\n",
              reader.delivered(), ring.words, seconds_since(begin));
}

// One writer, killed `us` microseconds after its first record.
void kill_one_writer(uint64_t us, bool slow_reader, uint64_t* lost_total) {
  SharedRing ring(256);
  const pid_t child = in_child([&] {
    format::ProfbufWriter writer = ring.writer();
    for (uint64_t n = 0;; ++n) {
      ring.counters()->begun.store(n + 1, std::memory_order_relaxed);
      write_number(writer, n);
      ring.counters()->done.store(n + 1, std::memory_order_relaxed);
    }
  });
  while (ring.counters()->done.load() == 0) ::sched_yield();
  NumberReader reader(ring);
  const auto begin = std::chrono::steady_clock::now();
  while (seconds_since(begin) * 1e6 < static_cast<double>(us)) {
    reader.take();
    if (slow_reader) ::usleep(50);
  }
  ::kill(child, SIGKILL);
  end_of(child);
  while (reader.take()) continue;
  const uint64_t accounted = reader.delivered() + ring.reader().dropped();
  expect(reader.right(), "not a gap-free prefix");
  expect(accounted >= ring.counters()->done.load() && accounted <= ring.counters()->begun.load(),
         "delivered + dropped, produced", accounted, ring.counters()->done.load());
  *lost_total += ring.reader().dropped();
}

void writers_are_killed(int kills) {
  std::mt19937_64 random(1);
  uint64_t lost = 0;
  for (int i = 0; i < kills; ++i) kill_one_writer(random() % 5000, i % 2 == 0, &lost);
  expect(lost > 0, "no ring ever overflowed: the test proves too little");
  std::printf("%d writers killed: each left a gap-free prefix, delivered + dropped = produced\n",
              kills);
}

constexpr uint32_t kTargetThreads = 4;

// A program of four threads. Thread i numbers its samples by their size, in bucket i; row i of the
// thread table counts them, and its `inside` is odd while it is at work, as in libmprof.so.
void be_target(SmallDump& dump, uint64_t samples) {
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kTargetThreads; ++i)
    threads.emplace_back([&dump, i, samples] {
      std::mt19937_64 random(i);
      format::ThreadRow* row = dump.thread(i);
      for (uint64_t n = 0; n < samples; ++n) {
        row->inside.fetch_add(1);
        row->samples.store(n + 1);
        dump.alloc(i, i, SmallDump::kStartTicks + n, n);
        row->inside.fetch_add(1);
        if (random() % 64 == 0) ::usleep(static_cast<useconds_t>(random() % 100));
      }
    });
  for (std::thread& thread : threads) thread.join();
}

void be_drainer(const std::string& path) {
  dumper::DumpDrain drain(path);
  std::mt19937_64 random(static_cast<uint64_t>(::getpid()));
  while (drain.step(random() % 2 == 0) != dumper::DumpDrain::Step::kComplete)
    if (random() % 4 == 0) ::usleep(100);
}

struct Outcome {
  uint64_t delivered = 0;
  uint64_t lost = 0;
  bool in_order = true;
};

// Every thread's numbers must go up by one, but for what a kLost record at the place says.
Outcome read_outcome(const dumper::Dump& dump, std::vector<uint64_t>& next) {
  Outcome outcome;
  const auto health = dumper::read_events(dump, [&](const dumper::Event& event) {
    uint64_t& expected = next.at(event.profbuf);
    if (event.kind == RecordKind::kLost) {
      outcome.in_order &= event.ticks == SmallDump::kStartTicks + expected;
      expected += event.lost;
      return;
    }
    outcome.in_order &= event.size_bytes == expected && event.thread == event.profbuf;
    ++expected;
    ++outcome.delivered;
  });
  outcome.lost = health.lost();
  outcome.in_order &= health.gaps == 0 && health.damaged_records == 0 &&
                      health.damaged_journal_bytes == 0 && health.missing_journal_frames == 0;
  return outcome;
}

// Lets drainers come and go, killed or stopped and continued, until the target has ended.
int torment_drainers(const std::string& path, pid_t target, std::mt19937_64& random) {
  int drainers = 0;
  for (bool ended = false; !ended; ++drainers) {
    const pid_t drainer = in_child([&] { be_drainer(path); });
    ::usleep(static_cast<useconds_t>(random() % 8000));
    if (random() % 3 == 0) {
      ::kill(drainer, SIGSTOP);
      ::usleep(static_cast<useconds_t>(random() % 5000));
      ::kill(drainer, SIGCONT);
      ::usleep(static_cast<useconds_t>(random() % 3000));
    }
    ::kill(drainer, SIGKILL);
    end_of(drainer);
    ended = has_ended(target);
  }
  return drainers;
}

void drainers_are_killed(uint64_t samples, int rounds, bool kill_target) {
  std::mt19937_64 random(2);
  int drainers = 0;
  uint64_t delivered = 0;
  uint64_t lost = 0;
  for (int round = 0; round < rounds; ++round) {
    const TempDir dir;
    const std::string path = dir / "target.mprof";
    const pid_t target = in_child([&] {
      SmallDump dump(path, 1024, static_cast<uint32_t>(::getpid()));
      be_target(dump, samples);
      dump.end_cleanly(SmallDump::kStartTicks + samples);
    });
    std::thread killer;
    while (true) {
      try {
        (void)dumper::Dump::open(path, dumper::Access::kRead);
        break;
      } catch (const dumper::DumpError&) {
        ::usleep(100);
      }
    }
    if (kill_target) {
      const auto delay = static_cast<useconds_t>(random() % 60000);
      end_of(in_child([&] {
        if (::fork() == 0) {
          ::usleep(delay);
          ::kill(target, SIGKILL);
        }
      }));
    }
    drainers += torment_drainers(path, target, random);
    be_drainer(path);
    const auto dump = dumper::Dump::open(path, dumper::Access::kRead);
    std::vector<uint64_t> next(SmallDump::kProfbufs);
    const Outcome outcome = read_outcome(dump, next);
    uint64_t produced = 0;
    for (uint32_t i = 0; i < kTargetThreads; ++i) produced += dump.thread(i)->samples;
    const uint64_t accounted = outcome.delivered + outcome.lost;
    const uint64_t slack = kill_target ? kTargetThreads : 0;
    expect(outcome.in_order, "a gap, a duplicate or damage");
    expect(accounted <= produced && accounted + slack >= produced, "delivered + dropped, produced",
           accounted, produced);
    const auto entry = dumper::check_double_entry(dump);
    expect(entry.verdict != dumper::DoubleEntry::Verdict::kDifferent &&
               entry.verdict != dumper::DoubleEntry::Verdict::kNotChecked,
           entry.line(dump.clock()).c_str());
    expect(entry.health.journal_complete, "the journal is not marked complete");
    delivered += outcome.delivered;
    lost += outcome.lost;
  }
  std::printf(
      "%d %s targets with %d drainers killed, some stopped before: %lu delivered, %lu "
      "dropped, no gap, no duplicate\n",
      rounds, kill_target ? "killed" : "whole", drainers, delivered, lost);
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t records = argc > 1 ? std::strtoull(argv[1], nullptr, 10)
                                    : (MPROF_SLOW_BUILD != 0 ? 1'000'000 : 100'000'000);
  const int kills = argc > 2 ? std::atoi(argv[2]) : 200;
  every_record_arrives(records);
  writers_are_killed(kills);
  drainers_are_killed(20000, 5, false);
  drainers_are_killed(1'000'000, std::max(kills / 10, 1), true);
  return failures == 0 ? 0 : 1;
}

// SPDX-License-Identifier: Apache-2.0
// Names are offsets here, as without symbols: "program+0x1000" is the call that returns to 0x11001.
#include "dumper/report_threads.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <string>
#include <thread>

#include "dumper/decode_pprof.h"
#include "tests/unit/catch.h"
#include "tests/unit/dump_image.h"

namespace mprof::dumper {
namespace {

using Catch::Matchers::Contains;
using format::CountKind;
using format::WaitKind;
using testing::count_totals;
using testing::DumpImage;

constexpr uint64_t kMs = 1'000'000;  // ticks are nanoseconds
constexpr uint64_t kStartTicks = 1'000'000;

std::string text_of(Dump& dump, ThreadForm form) {
  Symbolizer symbolizer(SymbolOptions{SymbolDetail::kNone, false, {}, {}});
  const ThreadsReading reading = collect_threads(dump, {});
  return report_threads(dump, reading, form, symbolizer, SymbolDetail::kNone);
}

std::string text_of(const DumpImage& image, ThreadForm form = ThreadForm::kParagraphs) {
  Dump dump = Dump::from_fd(image.duplicate(), "image", false);
  return text_of(dump, form);
}

void show_wait(format::ThreadRow& row, WaitKind kind, uint64_t object, uint32_t stack,
               uint64_t start_ticks) {
  row.wait_object = object;
  row.wait_stack = stack;
  row.wait_start_ticks = start_ticks;
  row.wait_kind = static_cast<uint32_t>(kind) + 1;
}

format::ThreadRow& add_thread(DumpImage& image, uint32_t tid, const char* name) {
  auto& row = image.row<format::ThreadRow>(format::TableId::kThreads, image.add_thread(tid));
  strcpy(row.name, name);
  return row;
}

// A process that ended after a second: one thread that waited for a global lock, two that slept in
// the same way, one that had ended.
void fill_ended(DumpImage& image) {
  image.header().end_realtime_ns = image.header().realtime_start_ns + 1000 * kMs;
  image.header().end_state.store(format::EndState::kClean);
  const uint32_t program = image.add_module("/bin/program", 0x10000, 0x20000);
  const uint32_t main = image.add_node(format::kStackComplete, 0x11001, program);
  const uint32_t lock = image.add_node(main, 0x11101, program);
  const uint32_t creation = image.add_count(CountKind::kThreadCreate, main, count_totals(1, 0));
  format::ThreadRow& waiter = add_thread(image, 4712, "waiter");
  show_wait(waiter, WaitKind::kMutex, 0x1f010, lock, kStartTicks + 400 * kMs);
  waiter.creation = creation + 1;
  waiter.labels = image.add_label("tenant", "t1", format::kNoRow) + 1;
  for (const uint32_t tid : {4714u, 4713u})
    show_wait(add_thread(image, tid, "sleeper"), WaitKind::kSleep, 0, format::kNoRow,
              kStartTicks + 999 * kMs);
  add_thread(image, 4715, "gone").end_ticks = kStartTicks + 500 * kMs;
}

TEST_CASE("report_threads: of an ended process, what each thread waited for at the end") {
  DumpImage image;
  fill_ended(image);
  const std::string text = text_of(image);
  CHECK_THAT(text, Contains("# the process has ended: these are the threads that had not"));
  CHECK_THAT(text, Contains("# 3 threads of /bin/program"));
  CHECK_THAT(text, Contains("thread 4712 \"waiter\" [mutex lock, 600.0 ms, for program+0xf010]:\n"
                            "# labels: {\"tenant\":\"t1\"}\n"
                            "program+0x1100\n"
                            "program+0x1000\n"
                            "(as it was when this wait began)\n"
                            "created by program+0x1000\n"));
  CHECK_THAT(text, Contains("thread 4713 \"sleeper\" [sleep, 1.0 ms]:\n"
                            "(no stack: the process has ended; a dump keeps the stacks of waits "
                            "for locks)\n"));
  CHECK(text.find("thread 4713") < text.find("thread 4714"));
  CHECK_THAT(text, !Contains("4715"));
}

TEST_CASE("report_threads: the text that pprof reads has equal threads together") {
  DumpImage image;
  fill_ended(image);
  const std::string text = text_of(image, ThreadForm::kGrouped);
  CHECK_THAT(text, Catch::Matchers::StartsWith("thread profile: total 3\n2 @ "));
  CHECK_THAT(text, Contains("# labels: {\"thread\":\"sleeper\", \"state\":\"sleep\"}\n"));
  CHECK_THAT(
      text,
      Contains("\n1 @ 0x11101 0x11001\n"
               "# labels: {\"tenant\":\"t1\", \"thread\":\"waiter\", \"state\":\"mutex lock\"}\n"));
}

TEST_CASE("report_threads: the profile counts threads") {
  DumpImage image;
  fill_ended(image);
  const Profile profile = decode_pprof(text_of(image, ThreadForm::kPprof));
  CHECK(profile.types == std::vector<ValueType>{{"threads", "count"}});
  CHECK(profile.period_type == ValueType{"threads", "count"});
  CHECK(profile.period == 1);
  int64_t total = 0;
  for (const Sample& sample : profile.samples) total += sample.values[0];
  CHECK(total == 3);
  CHECK(std::any_of(profile.comments.begin(), profile.comments.end(),
                    [](const std::string& line) { return line.starts_with("the process has"); }));
}

TEST_CASE("report_threads: names cannot steer a terminal") {
  DumpImage image;
  fill_ended(image);
  add_thread(image, 4716, "a\x1b[2Jb");
  CHECK(text_of(image).find('\x1b') == std::string::npos);
}

uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// A dump of this very process, with a thread in it that stands where the row says.
class LiveImage {
 public:
  explicit LiveImage(pthread_mutex_t* mutex = nullptr)
      : image_(static_cast<uint32_t>(getpid())), row_(add_thread(image_, 1, "standing")) {
    thread_ = std::thread([this, mutex] { stand(mutex); });
    there_.get_future().wait();
  }
  ~LiveImage() {
    go_.set_value();
    thread_.join();
  }
  LiveImage(const LiveImage&) = delete;
  LiveImage& operator=(const LiveImage&) = delete;

  std::string text() {
    const int fd = image_.duplicate();
    Dump dump = Dump::from_fd(fd, fmt::format("/proc/self/fd/{}", fd), true);
    return text_of(dump, ThreadForm::kParagraphs);
  }
  format::ThreadRow& row() { return row_; }
  format::DumpHeader& header() { return image_.header(); }

 private:
  [[gnu::noinline]] void stand(pthread_mutex_t* mutex) {
    const auto* frame = static_cast<const uint64_t*>(__builtin_frame_address(0));
    if (mutex != nullptr) pthread_mutex_lock(mutex);
    pthread_setname_np(pthread_self(), "standing");
    row_.parked_pc = frame[1];
    row_.parked_sp = reinterpret_cast<uint64_t>(frame + 2);
    row_.parked_fp = frame[0];
    row_.parked = 1;
    row_.tid = static_cast<uint32_t>(syscall(SYS_gettid));
    there_.set_value();
    go_.get_future().wait();
    row_.parked = 2;
    if (mutex != nullptr) pthread_mutex_unlock(mutex);
  }

  DumpImage image_;
  format::ThreadRow& row_;
  std::promise<void> there_;
  std::promise<void> go_;
  std::thread thread_;
};

std::string paragraph_of(const std::string& text, const std::string& name) {
  const size_t at = text.rfind("thread ", text.find("\"" + name + "\""));
  REQUIRE(at != std::string::npos);
  return text.substr(at, text.find("\n\n", at) - at);
}

TEST_CASE("report_threads: a parked thread's stack is read from outside") {
  LiveImage live;
  show_wait(live.row(), WaitKind::kPoll, 0, format::kNoRow, now_ns());
  const std::string text = live.text();
  CHECK_THAT(text, Contains("# threads were asked one by one"));
  CHECK_THAT(text, Contains("1 read from outside"));
  const std::string paragraph = paragraph_of(text, "standing");
  CHECK_THAT(paragraph, Contains("[poll, "));
  CHECK_THAT(paragraph, Contains("\nreport_threads_unit_test+0x"));
}

TEST_CASE("report_threads: who holds a lock is read from the lock") {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  LiveImage live(&mutex);
  show_wait(live.row(), WaitKind::kMutex, reinterpret_cast<uint64_t>(&mutex), format::kNoRow,
            now_ns());
  CHECK_THAT(paragraph_of(live.text(), "standing"),
             Contains(fmt::format(", held by {} \"standing\"]", live.row().tid.load())));
}

TEST_CASE("report_threads: a thread that cannot be asked says why") {
  LiveImage live;
  CHECK_THAT(live.text(), Contains("(no stack: the program has handlers of its own for every "));
  live.header().signal_number = SIGURG;  // which nobody catches here
  CHECK_THAT(live.text(), Contains("(no stack: signal 23 has no handler in it)"));
}

TEST_CASE("report_threads: a thread that does not answer is listed without a stack") {
  LiveImage live;
  live.row().parked = 0;
  live.header().signal_number = SIGURG;
  signal(SIGURG, [](int) {});
  const std::string paragraph = paragraph_of(live.text(), "standing");
  signal(SIGURG, SIG_DFL);
  CHECK_THAT(paragraph, Contains("(no stack: it did not answer within 200 ms)"));
}

}  // namespace
}  // namespace mprof::dumper

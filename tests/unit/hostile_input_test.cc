// SPDX-License-Identifier: Apache-2.0
// What docs/hostile-input.md promises: of names, of files that a dump names, and of memory.
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "dumper/control.h"
#include "dumper/decode_pprof.h"
#include "dumper/difference.h"
#include "dumper/double_entry.h"
#include "dumper/elf_file.h"
#include "dumper/http_server.h"
#include "dumper/journal.h"
#include "dumper/list_processes.h"
#include "dumper/report_diff.h"
#include "dumper/report_info.h"
#include "dumper/report_locks.h"
#include "dumper/report_threads.h"
#include "dumper/report_top.h"
#include "dumper/serve.h"
#include "dumper/site_name.h"
#include "dumper/terminal_text.h"
#include "dumper/timeline.h"
#include "dumper/trace/trace_command.h"
#include "dumper/write_profiles.h"
#include "tests/unit/catch.h"
#include "tests/unit/dump_image.h"
#include "tests/unit/small_dump.h"
#include "tests/unit/temp_folder.h"
#include "tests/unit/trace_events.h"

namespace mprof::dumper {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;
using mprof::testing::DumpImage;
using mprof::testing::SmallDump;
using test::TempFolder;

// Sets the title of a terminal, colours, clears it; in UTF-8 and as single bytes; and HTML.
const std::string kEvil =
    "\x1b]0;x\x07\x1b[2J\xc2\x9b"
    "31m\x9b"
    "1m\n\r\t\xe2\x80\xae<b>&";

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// With such a name wherever the dump has one.
void fill_with_evil_names(DumpImage& image) {
  using format::TableId;
  const std::string path = "/nonexistent/" + kEvil;
  const uint32_t module = image.add_module(path, 0x10000, 0x20000);
  const uint32_t node = image.add_node(format::kStackComplete, 0x11001, module);
  const uint32_t labels = image.add_label(kEvil, kEvil, format::kNoRow);
  image.add_bucket(node, testing::heap_totals(3, 1, 100), labels);
  const uint32_t lock = image.add_address_label("lock", 0x1f010, module, labels);
  image.add_count(format::CountKind::kBlock, node, testing::count_totals(3, 50'000), lock);
  image.add_count(format::CountKind::kMutex, node, testing::count_totals(3, 50'000),
                  image.add_stack_label("victim", node, lock));
  image.add_count(format::CountKind::kThreadCreate, node, testing::count_totals(1, 0), labels);
  image.add_count(testing::custom_kind(image.add_custom("a/" + kEvil)), node,
                  testing::count_totals(3, 0));
  auto& thread = image.row<format::ThreadRow>(TableId::kThreads, image.add_thread(4711));
  kEvil.copy(thread.name, sizeof thread.name - 1);
  thread.creation = 3;
  image.add_trace_ring(0);
  image.header().trace_sessions = 1;
  path.copy(image.header().executable, sizeof image.header().executable - 1);
  path.copy(image.header().command_line, sizeof image.header().command_line - 1);
  image.header().allocator_name = image.add_string(kEvil + '\0');
}

struct Text {
  const char* what;
  std::string text;
};

std::vector<Text> profile_texts(Dump& dump, const Reading& reading, Symbolizer& symbolizer) {
  std::vector<Text> texts;
  for (const View& view : recorded_views(dump, false)) {
    const Profile profile = named_profile(dump, reading, {}, view, symbolizer, SymbolDetail::kFull);
    texts.push_back({"top", format_top(profile, compute_top(profile, {}), {})});
    texts.push_back({"text", profile_text(profile, view)});
    texts.push_back({"diff", format_diff({kEvil, profile}, {kEvil, profile},
                                         compute_diff(profile, profile, {}), {})});
    if (view == View(HeapView::kAllocs))
      texts.push_back({"summary", report_summary(dump, reading.heap, profile)});
  }
  return texts;
}

std::string trace_summary(Dump& dump, Symbolizer& symbolizer) {
  const TempFolder folder;
  TraceOutput output;
  output.form = TraceForm::kSummary;
  output.path = folder / "summary";
  (void)write_trace(dump, {}, output, symbolizer, SymbolDetail::kFull);
  return read_file(output.path);
}

std::string lifetimes_text(const Dump& dump, Symbolizer& symbolizer) {
  LifetimeReport report = measure_lifetimes(dump, {0, 1});
  report.buckets.resize(1);
  report.buckets[0].alloc_bytes = report.buckets[0].freed_bytes[0] = 1;
  SiteNames names(dump, symbolizer, SymbolDetail::kFull);
  return lifetimes_table(
      report, [&names](uint32_t row) { return names.of_bucket(row) + kEvil; }, 20, dump.clock());
}

std::vector<Text> all_texts(Dump& dump) {
  Symbolizer symbolizer(SymbolOptions{SymbolDetail::kFull, false, {}, {}});
  const Reading reading = read_whole(dump);
  std::vector<Text> texts = profile_texts(dump, reading, symbolizer);
  const ThreadsReading threads = collect_threads(dump, {});
  for (const ThreadForm form : {ThreadForm::kGrouped, ThreadForm::kParagraphs})
    texts.push_back(
        {"threads", report_threads(dump, threads, form, symbolizer, SymbolDetail::kFull)});
  const LockReport locks = compute_locks(dump, reading.counts, symbolizer, SymbolDetail::kFull);
  texts.push_back({"locks", locks_table(locks, 20, 0)});
  const std::string books = check_double_entry(dump).line(dump.clock());
  texts.push_back({"info", report_info(dump, reading.heap, books)});
  texts.push_back({"trace", trace_summary(dump, symbolizer)});
  texts.push_back({"lifetimes", lifetimes_text(dump, symbolizer)});
  ProfiledProcess process;
  process.dump = process.executable = kEvil;
  process.command = {kEvil};
  texts.push_back({"ps", processes_table({process})});
  return texts;
}

TEST_CASE("hostile names reach no terminal: every text is free of what it obeys") {
  DumpImage image;
  fill_with_evil_names(image);
  Dump dump = Dump::from_fd(image.duplicate(), "dump", false);
  size_t with_name = 0;
  for (const auto& [what, text] : all_texts(dump)) {
    INFO(what << ": " << text);
    CHECK(printable_lines(text) == text);
    CHECK_THAT(text, !Contains("\n\t<b>&") && !Contains("\n?\t"));  // nor a line of its own
    with_name += text.find("<b>&") != std::string::npos ? 1 : 0;
  }
  CHECK(with_name >= 10);
}

TEST_CASE("printable: what is left is UTF-8 that a terminal shows and does not obey") {
  CHECK(printable("plain ä € 😀") == "plain ä € 😀");
  CHECK(printable("a\x1b[1mb\x7f") == "a?[1mb?");
  CHECK(printable("\xc2\x9b"
                  "1m\x9b"
                  "1m") == "?1m?1m");
  CHECK(printable("\xc3") == "?");
  CHECK(printable("\xc0\x80\xe0\x80\x80\xed\xa0\x80\xf5") == "?????????");
  CHECK(printable("\xe2\x80\xae"
                  "x\xe2\x81\xa6") == "?x?");
  CHECK(printable("a\nb\tc") == "a?b?c");
  CHECK(printable_lines("a\nb\tc\r\x1b") == "a\nb\tc??");
}

HttpResponse answer(const std::string& dump, const std::string& path) {
  ServeOptions options;
  options.what = {dump};
  HttpRequest request;
  request.method = "GET";
  request.path = path;
  request.host = "localhost";
  return make_handler(options, "")(request);
}

TEST_CASE("serve: names of a dump are escaped in its pages, and no text has control characters") {
  const TempFolder folder;
  DumpImage image;
  fill_with_evil_names(image);
  write_file(folder / "dump", {reinterpret_cast<const char*>(image.bytes()), image.size_bytes()});
  const HttpResponse index = answer(folder / "dump", "/debug/pprof/");
  CHECK(index.status == 200);
  CHECK_THAT(index.body, !Contains("<b>") && Contains("&lt;b&gt;&amp;"));
  const HttpResponse heap = answer(folder / "dump", "/debug/pprof/nothing" + kEvil);
  CHECK(heap.status == 404);
  CHECK(printable_lines(heap.body) == heap.body);
}

TEST_CASE("serve: a path names a profile, and no file") {
  const TempFolder folder;
  DumpImage image;
  testing::fill_with_sample_content(image);
  write_file(folder / "dump", {reinterpret_cast<const char*>(image.bytes()), image.size_bytes()});
  write_file(folder / "secret", "secret");
  for (const std::string path :
       {"/secret", "/debug/pprof/../../secret", "/debug/pprof/secret", "//secret",
        "/debug/pprof//secret", "/debug/pprof/../../../etc/passwd", "/etc/passwd"}) {
    const HttpResponse response = answer(folder / "dump", path);
    INFO(path);
    CHECK(response.status == 404);
    CHECK_THAT(response.body, !Contains("root:"));
  }
}

std::string compile(const TempFolder& folder, const std::string& flags, const std::string& name) {
  write_file(folder / "program.cc", "int named(int n) { return n; }\nint main() {}\n");
  folder.run("g++ -O1 -g " + flags + " program.cc -o " + name);
  return folder / name;
}

std::string id_of(const std::string& path) {
  FileProblem problem;
  return ElfFile::open(path, problem)->build_id_hex();
}

ModuleSymbols status_of(const std::string& path, const std::string& id) {
  SymbolOptions options;
  options.debug_dirs.clear();
  return Symbolizer(options).status({path, id});
}

TEST_CASE("symbols are taken only from a file with the build id of the module") {
  const TempFolder folder;
  const std::string with_id = compile(folder, "-Wl,--build-id=sha1", "with");
  const std::string without = compile(folder, "-Wl,--build-id=none", "without");
  CHECK(status_of(with_id, id_of(with_id)) == ModuleSymbols::kOk);
  CHECK(status_of(with_id, "00112233445566778899") == ModuleSymbols::kFileReplaced);
  CHECK(status_of(without, id_of(with_id)) == ModuleSymbols::kFileReplaced);
  // A dump that says nothing of the build: any program that this user may read would do.
  CHECK(status_of(with_id, "") == ModuleSymbols::kFileReplaced);
  CHECK(status_of(without, "") == ModuleSymbols::kOk);
  CHECK(status_of(without + " (deleted)", "") == ModuleSymbols::kFileReplaced);
}

TEST_CASE("symbols: links, .. and roots of other processes lead to regular files or nowhere") {
  const TempFolder folder;
  const std::string path = compile(folder, "-Wl,--build-id=sha1", "program");
  const std::string id = id_of(path);
  fs::create_symlink(path, folder / "link");
  fs::create_directory(folder / "sub");
  CHECK(status_of(folder / "link", id) == ModuleSymbols::kOk);
  CHECK(status_of(folder / "sub/../program", id) == ModuleSymbols::kOk);
  CHECK(status_of("/proc/self/root" + path, id) == ModuleSymbols::kOk);
  REQUIRE(mkfifo((folder / "fifo").c_str(), 0600) == 0);
  fs::create_symlink(folder / "fifo", folder / "to-fifo");
  fs::create_symlink("/dev/zero", folder / "to-device");
  fs::create_symlink("to-itself", folder / "to-itself");
  CHECK(status_of(folder / "to-fifo", id) == ModuleSymbols::kRefused);
  CHECK(status_of(folder / "to-device", id) == ModuleSymbols::kRefused);
  CHECK(status_of(folder / "to-itself", id) != ModuleSymbols::kOk);
}

TEST_CASE("symbols: what the kernel makes up is not opened") {
  CHECK(status_of("/proc/self/status", "") == ModuleSymbols::kRefused);
  CHECK(status_of("/proc/self/mem", "") == ModuleSymbols::kRefused);
  CHECK(status_of("/proc/self/exe", id_of("/proc/self/exe")) == ModuleSymbols::kOk);
  if (fs::exists("/sys/kernel/notes"))
    CHECK(status_of("/sys/kernel/notes", "") == ModuleSymbols::kRefused);
}

// The executable that a dump named was looked at as `mprof doctor` looks at a command: of a text
// file it read the first line, and said that the interpreter named there was missing.
TEST_CASE("info shows nothing of a file that a dump names as its executable") {
  const TempFolder folder;
  write_file(folder / "notes.txt", "#!/secret-word\n");
  DumpImage image;  // nothing was sampled, so it looks for the reason
  (folder / "notes.txt").copy(image.header().executable, sizeof image.header().executable - 1);
  Dump dump = Dump::from_fd(image.duplicate(), "dump", false);
  const std::string text = report_info(dump, read_heap(dump), "");
  CHECK_THAT(text, Contains("why empty") && !Contains("secret-word"));
}

// A period of 0 ns divided nothing by nothing, and the result became a count.
TEST_CASE("a rate of CPU samples above all clocks gives a profile all the same") {
  DumpImage image;
  testing::fill_with_sample_content(image);
  image.header().cpu_hz = UINT32_MAX;
  image.row<format::ThreadRow>(format::TableId::kThreads, 0).cpu_in_mprof_ns = 0;
  Dump dump = Dump::from_fd(image.duplicate(), "dump", false);
  Symbolizer symbolizer(SymbolOptions{SymbolDetail::kNone, false, {}, {}});
  LabelNames names(dump, symbolizer, SymbolDetail::kNone);
  const Reading reading{{}, read_counts(dump)};
  CHECK(make_profile(dump, reading, format::CountKind::kCpu, names).profile.period == 1);
}

uint64_t bytes_of_labels(const Profile& profile) {
  uint64_t bytes = 0;
  for (const Sample& sample : profile.samples)
    for (const Label& label : sample.labels) bytes += label.key.size() + label.str.size();
  return bytes;
}

// Each of the rows had eight megabytes of labels, from 130 KiB of texts that they all share.
TEST_CASE("memory: labels that share their texts are bounded by the size of the dump") {
  constexpr uint32_t kTextBytes = 60'000;
  constexpr uint32_t kRows = 100;
  DumpImage image;
  while (image.size_bytes() < 200'000) image.add_chunk(format::TableId::kStrings);
  image.add_string(std::string(60, 'x'));  // behind the small chunks
  const uint32_t text = 65536;             // in a chunk that is large enough
  image.directory(format::TableId::kStrings).used_rows.store(text + kTextBytes + 100);
  for (uint32_t i = 0; i < 200; ++i)
    image.row<char>(format::TableId::kStrings, text + i) = static_cast<char>('a' + i % 26);
  image.add_chunk(format::TableId::kLabels);
  image.add_chunk(format::TableId::kLabels);
  for (int i = 0; i < 6; ++i) image.add_chunk(format::TableId::kCounts);
  for (int i = 0; i < 6; ++i) image.add_chunk(format::TableId::kStackNodes);
  const uint32_t node = image.add_node(format::kStackComplete, 0x11001, format::kNoRow);
  uint32_t set = format::kNoRow;
  for (uint32_t i = 0; i < 12; ++i) {
    set = image.add_typed_label("", format::LabelType::kText, text + i, kTextBytes, set);
    image.label_at(set).key = text + i;
    image.label_at(set).key_bytes.store(kTextBytes - i);
  }
  for (uint32_t i = 0; i < kRows; ++i)
    image.add_count(format::CountKind::kBlock, image.add_node(node, 0x12001 + i, format::kNoRow),
                    testing::count_totals(1, 50'000), set);
  Dump dump = Dump::from_fd(image.duplicate(), "dump", false);
  Symbolizer symbolizer(SymbolOptions{SymbolDetail::kNone, false, {}, {}});
  LabelNames names(dump, symbolizer, SymbolDetail::kNone);
  const Reading reading{{}, read_counts(dump)};
  const Profile profile = make_profile(dump, reading, format::CountKind::kBlock, names).profile;
  CHECK(reading.counts.rows.size() == kRows);
  CHECK(bytes_of_labels(profile) <=
        MemoryBudget::kFreeBytes + MemoryBudget::kMostToOne * dump.file_bytes());
  CHECK(profile.samples.size() < kRows);
  CHECK_FALSE(profile.samples.empty());
  CHECK_THAT(dump.damage().back(), Contains("a profile would take more memory"));
}

std::string gzip_of_zeros(size_t size) {
  const std::string zeros(size, '\0');
  std::string packed(size / 500 + 1000, '\0');
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(zeros.data()));
  stream.avail_in = static_cast<uInt>(zeros.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

// The limits were numbers: any small file could take a gigabyte, and four more for its rows.
TEST_CASE("memory: what a profile unpacks to is bounded by its size, and so is what it becomes") {
  DecodeLimits limits;
  limits.free_bytes = 1 << 20;
  CHECK_THROWS_WITH(decode_pprof(gzip_of_zeros(50 << 20), limits),
                    Contains("decompresses to more than"));
  std::string rows("\x32\0", 2);  // the empty string, then empty samples: two bytes each
  for (int i = 0; i < 1'000'000; ++i) rows.append("\x12\0", 2);
  limits.most_memory_to_one = 10;
  CHECK_THROWS_WITH(decode_pprof(rows, limits), Contains("it needs more than"));
}

// A pass that never ends kept all that was read in memory: a frame of two kilobytes unpacks to two
// megabytes.
TEST_CASE("memory: a trace's journal whose passes do not end is not kept as a whole") {
  constexpr uint64_t kSpanBytes = 1 << 20;
  constexpr uint64_t kFrames = 100;
  const TempFolder folder;
  SmallDump target(folder / "dump", 64, 0, kSpanBytes);
  testing::TraceRing ring(kSpanBytes);
  uint64_t ticks = SmallDump::kStartTicks + 1'000'000'000;
  while (ring.head.written < kSpanBytes - 2 * format::kTraceBlockBytes)
    ring.writer.write({format::TraceKind::kCpu, ++ticks, 0, format::kNoRow, {}});
  {
    const auto header = journal_header_of(*target.header(), JournalKind::kTrace);
    JournalWriter writer(target.trace_path(), header);
    for (uint64_t i = 0; i < kFrames; ++i) {
      FrameBuilder builder({SmallDump::kStartTicks, SmallDump::kStartTicks}, JournalKind::kTrace);
      const auto out = builder.add({0, 0, i * kSpanBytes, (i + 1) * kSpanBytes, 0, 0});
      std::memcpy(out.data(), ring.data.data(), kSpanBytes);
      REQUIRE(writer.append(builder, kFrameMore) == 0);
    }
  }
  Dump dump = Dump::open(target.path(), Access::kRead);
  DumpTrace trace(dump);
  TraceRecord record;
  REQUIRE(trace.next(record));
  CHECK(trace.progress() < 1);
}

TEST_CASE("memory: a journal's rings beyond any number of threads are not remembered") {
  const TempFolder folder;
  SmallDump target(folder / "dump", 64);
  const auto header = journal_header_of(*target.header());
  const std::string path = target.journal_path();
  {
    JournalWriter writer(path, header);
    FrameBuilder builder({1, 2});
    builder.add({7, 0, 0, 1, 0, 0})[0] = 0;
    builder.add({1u << 31, 0, 0, 1, 0, 0})[0] = 0;
    REQUIRE(writer.append(builder, 0) == 0);
  }
  const JournalWriter writer(path, header);
  CHECK(writer.resume().size() == 1);
  CHECK(writer.resume().contains(7));
}

}  // namespace
}  // namespace mprof::dumper

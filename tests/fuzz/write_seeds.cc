// SPDX-License-Identifier: Apache-2.0
// Writes those files of the corpus that stand for what the library and the drainer write, with
// their own code: write_seeds FOLDER, with a folder for each target. make_corpus.py calls it.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "dumper/drain.h"
#include "dumper/journal.h"
#include "dumper/ring_drain.h"
#include "tests/unit/dump_image.h"
#include "tests/unit/small_dump.h"
#include "tests/unit/trace_events.h"

namespace {

using namespace mprof;  // NOLINT
namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Without the zeros at its end, which the reader makes up itself.
std::string bytes_of(testing::DumpImage& image) {
  std::string bytes(reinterpret_cast<const char*>(image.bytes()), image.size_bytes());
  return bytes.substr(0, bytes.find_last_not_of('\0') + 1);
}

void write_dumps(const fs::path& folder) {
  testing::DumpImage image;
  testing::fill_with_sample_content(image);
  write(folder / "all-tables", bytes_of(image));
  image.header().end_state.store(format::EndState::kClean);
  image.header().end_realtime_ns = image.header().realtime_start_ns + 1'000'000'000;
  image.header().lost[0].store(3);
  // Rings take most of the room, and have targets of their own.
  for (const auto id : {format::TableId::kTraceRings, format::TableId::kTraceData,
                        format::TableId::kProfbufs, format::TableId::kProfbufData}) {
    image.directory(id).used_rows.store(0);
    for (auto& offset : image.directory(id).chunk_offset) offset.store(0);
  }
  write(folder / "no-rings", bytes_of(image));
}

// What the drainer makes of samples and trace records.
void write_journals(const fs::path& folder) {
  const testing::TempDir temporary;
  testing::SmallDump dump(temporary / "dump", 64, 0, 2 * format::kTraceBlockBytes);
  for (uint64_t i = 0; i < 20; ++i) {
    dump.alloc(i % 3, 5, testing::SmallDump::kStartTicks + 1000 * i, 64 + i);
    dump.free(i % 3, 5, testing::SmallDump::kStartTicks + 1000 * i + 500, 64 + i,
              testing::SmallDump::kStartTicks + 1000 * i);
    dump.counted(1, 2, testing::SmallDump::kStartTicks + 1000 * i, 777);
    dump.trace_writer(i % 2).write({format::TraceKind::kRelease,
                                    testing::SmallDump::kStartTicks + 1000 * i,
                                    1,
                                    format::kNoRow,
                                    {0, 0x1000}});
  }
  dump.end_cleanly(testing::SmallDump::kStartTicks + 1'000'000);
  dumper::DumpDrain drain(dump.path());
  while (drain.step(true) != dumper::DumpDrain::Step::kComplete) {
  }
  for (const auto kind : {dumper::JournalKind::kEvents, dumper::JournalKind::kTrace}) {
    const bool is_trace = kind == dumper::JournalKind::kTrace;
    const std::string name = is_trace ? "trace" : "events";
    const std::string path = is_trace ? dump.trace_path() : dump.journal_path();
    write(folder / (name + "-file"), std::string(1, is_trace ? '\3' : '\2') + read(path));
    write(folder / (name + "-empty"), std::string(1, is_trace ? '\3' : '\2'));
    // The same as what frames hold.
    std::string frames(1, is_trace ? '\1' : '\0');
    const dumper::JournalFile file(dump.path(), kind);
    dumper::JournalReader reader(file.fd(), path, dumper::journal_header_of(*dump.header(), kind));
    for (dumper::JournalFrame frame; reader.next(frame);) {
      std::string raw;
      const auto put = [&raw](const void* from, size_t size) {
        raw.append(static_cast<const char*>(from), size);
      };
      const uint64_t count = frame.spans.size();
      put(&frame.clock, sizeof frame.clock);
      put(&count, sizeof count);
      for (const dumper::ProfbufSpan& span : frame.spans) {
        put(&span.head, sizeof span.head);
        put(span.words.data(), span.words.size_bytes());
      }
      const auto size = static_cast<uint16_t>(raw.size());
      frames.append(reinterpret_cast<const char*>(&size), sizeof size);
      frames += static_cast<char>(frame.flags);
      frames += '\0';
      frames += raw;
    }
    write(folder / (name + "-frames"), frames);
  }
}

// Two rings with events of every kind.
void write_rings(const fs::path& folder) {
  for (uint8_t form = 0; form < 4; ++form) {
    std::mt19937_64 random(form + 1);
    std::string bytes = {static_cast<char>(form), '\x80'};
    for (uint32_t ring = 0; ring < 2; ++ring) {
      testing::TraceRing made(2 * format::kTraceBlockBytes, ring);
      uint64_t ticks = 2'000'000;
      for (int i = 0; i < 60; ++i) {
        format::TraceEvent event{};
        const uint64_t kinds = static_cast<uint64_t>(format::TraceKind::kCount) - 1;
        event.kind = static_cast<format::TraceKind>(1 + random() % kinds);
        event.ticks = ticks += random() % 1000;
        event.core = static_cast<uint32_t>(random() % 4);
        event.stack = random() % 2 == 0 ? format::kNoRow : static_cast<uint32_t>(random() % 12);
        testing::fill_arguments(random, event);
        if (event.kind == format::TraceKind::kThread || event.kind == format::TraceKind::kCreate)
          event.arguments[0] = random() % 2;
        made.writer.write(event);
      }
      bytes.append(reinterpret_cast<const char*>(made.data.data()),
                   std::min<uint64_t>(made.head.written, 4096));
    }
    write(folder / ("rings-" + std::to_string(form)), bytes);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const fs::path folder = argv[1];
  write_dumps(folder / "dump_reader");
  write_journals(folder / "journal");
  write_rings(folder / "trace");
  return 0;
}

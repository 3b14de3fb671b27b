// SPDX-License-Identifier: Apache-2.0
// Hostile bytes as a journal of events or of a trace, beside a dump that is fine: through the
// reader, all that is made of the events or the trace, and the drainer that goes on behind it.
//
// The first byte says which of the two it is (bit 0), and whether the rest is the file as it is
// (bit 1) or what frames hold: then each gets its head, its checksums and its compression here,
// because no mutation would find them.
#include <zlib.h>
#include <zstd.h>

#include <cstddef>

#include "dumper/journal.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/use_dump.h"
#include "tests/unit/small_dump.h"

namespace {

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using mprof::fuzz::Input;
using mprof::fuzz::require;
using mprof::testing::SmallDump;

SmallDump& target() {
  static SmallDump dump(mprof::fuzz::folder() + "/dump", 64, 0,
                        2 * mprof::format::kTraceBlockBytes);
  return dump;
}

uint32_t crc_of(const void* bytes, size_t count) {
  return static_cast<uint32_t>(crc32_z(0, static_cast<const Bytef*>(bytes), count));
}

void append_frame(std::string& file, uint64_t sequence, uint32_t flags, std::string raw) {
  raw.resize(raw.size() / sizeof(uint64_t) * sizeof(uint64_t));
  std::string stored(ZSTD_compressBound(raw.size()), '\0');
  stored.resize(ZSTD_compress(stored.data(), stored.size(), raw.data(), raw.size(), 1));
  FrameHead head{};
  head.magic = kFrameMagic;
  head.flags = flags;
  head.sequence = sequence;
  head.stored_bytes = static_cast<uint32_t>(stored.size());
  head.raw_bytes = static_cast<uint32_t>(raw.size());
  head.file_offset = file.size();
  head.payload_crc = crc_of(stored.data(), stored.size());
  head.head_crc = crc_of(&head.payload_crc, sizeof head - offsetof(FrameHead, payload_crc));
  file.append(reinterpret_cast<const char*>(&head), sizeof head).append(stored);
}

std::string journal_of(const JournalHeader& header, Input input, bool as_it_is) {
  if (as_it_is) return std::string(input.rest());
  std::string file(header.header_bytes, '\0');
  memcpy(file.data(), &header, sizeof header);
  uint64_t sequence = 0;
  while (input.left() != 0) {
    const auto size = input.number<uint16_t>();
    const auto flags = input.number<uint8_t>();
    sequence += input.number<uint8_t>() / 64;
    append_frame(file, sequence++, flags & 7u, std::string(input.bytes(size)));
  }
  return file;
}

void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// An empty file is one for which there was no room: none.
uint64_t frames_in(const std::string& path, const JournalHeader& header) {
  const JournalFile file(target().path(), header.kind);
  require(file.trouble().empty());
  if (!file.usable()) return 0;
  JournalReader reader(file.fd(), path, header);
  JournalFrame frame;
  while (reader.next(frame)) {
  }
  return reader.frames();
}

// What a drainer adds is there, behind all that was whole before.
void go_on(const std::string& path, const JournalHeader& header) {
  try {
    const uint64_t before = frames_in(path, header);
    {
      JournalWriter writer(path, header);
      FrameBuilder builder({1, 2}, header.kind);
      builder.add({3, 0, 0, 1, 0, 0})[0] = 0;
      require(writer.append(builder, kFrameComplete) == 0);
    }
    require(frames_in(path, header) == before + 1);
    mprof::fuzz::understood();
  } catch (const JournalError&) {
    return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const auto first = input.number<uint8_t>();
  const JournalKind kind = (first & 1) != 0 ? JournalKind::kTrace : JournalKind::kEvents;
  const JournalHeader header = journal_header_of(*target().header(), kind);
  const std::string path = journal_path_of(target().path(), kind);
  write(path, journal_of(header, input, (first & 2) != 0));
  {
    Dump dump = Dump::open(target().path(), Access::kRead);
    if (kind == JournalKind::kTrace) {
      mprof::fuzz::use_trace(dump, TraceForm::kSummary, mprof::fuzz::folder() + "/out");
    } else {
      mprof::fuzz::use_time(dump);
      mprof::fuzz::show(check_double_entry(dump).line(dump.clock()));
    }
  }
  go_on(path, header);
  unlink(path.c_str());
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// The journal of a dump: what the drainer moved out of the profbufs, as checksummed zstd frames.
// The format and its rules are in docs/journal-format.md.
//
// Threads   one at a time for each object.
// Fails     JournalError, one line, when the file cannot be used at all. Damage inside it is
//           counted and skipped.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "format/dump.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace mprof::dumper {

struct JournalError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline constexpr uint64_t kJournalMagic = 0x0a6c6e726a706d89;  // "\x89mpjrnl\n"
inline constexpr uint32_t kJournalVersion = 1;
inline constexpr uint32_t kFrameMagic = 0x4d52464a;  // "JFRM"
inline constexpr uint32_t kFrameComplete = 1;
inline constexpr uint32_t kSpanDamaged = 1;
inline constexpr uint32_t kMaxRawBytes = 16u << 20;
inline constexpr uint32_t kMaxStoredBytes = kMaxRawBytes + (64u << 10);

struct JournalHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t header_bytes;
  uint64_t generation;
  uint64_t start_time_clock_ticks;
  uint32_t pid;
  uint32_t profbuf_words;
  uint32_t zero;
  uint32_t crc;
};
static_assert(sizeof(JournalHeader) == 48);

struct FrameHead {
  uint32_t magic;
  uint32_t head_crc;
  uint32_t payload_crc;
  uint32_t flags;
  uint64_t sequence;
  uint32_t stored_bytes;
  uint32_t raw_bytes;
  uint64_t file_offset;
};
static_assert(sizeof(FrameHead) == 40);

struct SpanHead {
  uint32_t row;
  uint32_t flags;
  uint64_t from;
  uint64_t to;
  uint64_t dropped;
  uint64_t first_drop_ticks;
};
static_assert(sizeof(SpanHead) == 40);

// The journal that belongs to a dump.
[[nodiscard]] std::string journal_path_of(const std::string& dump_path);
[[nodiscard]] JournalHeader journal_header_of(const format::DumpHeader& dump);

// What one frame says about one profbuf.
struct ProfbufSpan {
  SpanHead head;
  std::span<const uint64_t> words;
};

struct JournalFrame {
  uint64_t sequence = 0;
  bool complete = false;
  format::ClockPoint clock{};
  std::vector<ProfbufSpan> spans;  // their words are valid until the next frame is read
};

// Collects the raw payload of one frame.
class FrameBuilder {
 public:
  explicit FrameBuilder(format::ClockPoint clock);

  // Room for the words of one more span; 0 when the frame is full.
  [[nodiscard]] size_t room_words() const;
  // Appends a span with space for `head.to - head.from` words, to be filled by the caller before
  // the next call.
  std::span<uint64_t> add(const SpanHead& head);
  [[nodiscard]] bool empty() const { return raw_[2] == 0; }
  [[nodiscard]] std::span<const uint64_t> raw() const { return raw_; }

 private:
  std::vector<uint64_t> raw_;
};

// Splits a raw payload into its spans. False when it is not exactly a frame's content.
[[nodiscard]] bool parse_raw_frame(std::span<const uint64_t> raw, JournalFrame& frame);

// Reads frames one after the other; memory for one frame.
class JournalReader {
 public:
  // Does not own `fd`. Throws when the file has no valid header, or one of another dump.
  JournalReader(int fd, std::string path, const JournalHeader& expected);
  JournalReader(const JournalReader&) = delete;
  JournalReader& operator=(const JournalReader&) = delete;
  ~JournalReader();

  // The next whole frame; false at the end.
  [[nodiscard]] bool next(JournalFrame& frame);

  [[nodiscard]] uint64_t end_of_last_frame() const { return end_of_last_frame_; }
  [[nodiscard]] uint64_t frames() const { return frames_; }
  [[nodiscard]] uint64_t next_sequence() const { return next_sequence_; }
  // Bytes between whole frames that belong to none.
  [[nodiscard]] uint64_t damaged_bytes() const { return damaged_bytes_; }
  // Bytes behind the last whole frame, after next() said false. Mostly a frame that is being
  // written, or whose writer died; its words are still in the rings.
  [[nodiscard]] uint64_t tail_bytes() const { return tail_bytes_; }
  [[nodiscard]] uint64_t missing_frames() const { return missing_frames_; }

 private:
  enum class Verdict { kWhole, kBad };
  Verdict reject(uint64_t looked_at_bytes);
  Verdict read_frame_at(uint64_t offset, JournalFrame& frame);
  bool read_head_at(uint64_t offset, FrameHead& head) const;
  bool load_payload(uint64_t offset, const FrameHead& head);
  uint64_t find_magic(uint64_t offset) const;
  size_t read_at(uint64_t offset, void* out, size_t bytes) const;
  [[nodiscard]] uint64_t file_bytes() const;

  int fd_;
  std::string path_;
  uint64_t offset_ = sizeof(JournalHeader);
  uint64_t end_of_last_frame_ = sizeof(JournalHeader);
  uint64_t next_sequence_ = 0;
  uint64_t frames_ = 0;
  uint64_t damaged_bytes_ = 0;
  uint64_t tail_bytes_ = 0;
  uint64_t missing_frames_ = 0;
  uint64_t search_budget_bytes_;
  std::vector<char> stored_;
  std::vector<uint64_t> raw_;
  ZSTD_DCtx_s* decompressor_;
};

// Appends frames. Holds the lock that makes it the only writer.
class JournalWriter {
 public:
  // Creates the journal, or verifies it, truncates a torn tail and goes on behind the last whole
  // frame. Throws when it belongs to something else or another drainer holds it.
  JournalWriter(const std::string& path, const JournalHeader& header);
  JournalWriter(const JournalWriter&) = delete;
  JournalWriter& operator=(const JournalWriter&) = delete;
  ~JournalWriter();

  // 0, or the errno for which nothing was added.
  [[nodiscard]] int append(const FrameBuilder& builder, bool complete);
  void sync() const;

  struct Resume {
    uint32_t row;
    uint64_t position;
  };
  // Where each profbuf that the journal knows goes on.
  [[nodiscard]] const std::vector<Resume>& resume() const { return resume_; }
  [[nodiscard]] bool was_complete() const { return was_complete_; }
  [[nodiscard]] uint64_t truncated_bytes() const { return truncated_bytes_; }
  [[nodiscard]] uint64_t file_bytes() const { return end_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  void open_file();
  void lock();
  void recover(const JournalHeader& header);
  void write_header(const JournalHeader& header);
  int write_at_end(const std::vector<char>& bytes);

  std::string path_;
  int fd_ = -1;
  uint64_t end_ = 0;
  uint64_t sequence_ = 0;
  uint64_t truncated_bytes_ = 0;
  bool was_complete_ = false;
  std::vector<Resume> resume_;
  std::vector<char> buffer_;
  ZSTD_CCtx_s* compressor_;
};

}  // namespace mprof::dumper

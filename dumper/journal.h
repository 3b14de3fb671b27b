// SPDX-License-Identifier: Apache-2.0
// The journals of a dump: what the drainer moved out of its rings, as checksummed zstd frames. One
// has the events of the profbufs, the other the trace. Format and rules: docs/journal-format.md.
//
// Threads   one at a time for each object.
// Fails     JournalError, one line, when the file cannot be used at all. Damage inside it is
//           counted and skipped.
#pragma once

#include <cstdint>
#include <map>
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
// A new journal for which there is no room now.
struct NoRoomForJournal : JournalError {
  NoRoomForJournal(const std::string& text, int error) : JournalError(text), error(error) {}
  int error;
};

inline constexpr uint64_t kJournalMagic = 0x0a6c6e726a706d89;  // "\x89mpjrnl\n"
inline constexpr uint32_t kJournalVersion = 1;
inline constexpr uint32_t kFrameMagic = 0x4d52464a;  // "JFRM"
inline constexpr uint32_t kFrameComplete = 1;
inline constexpr uint32_t kFrameMore = 2;     // the pass over the rings goes on in the next frame
inline constexpr uint32_t kFrameSegment = 4;  // reading a trace can begin here
inline constexpr uint32_t kSpanDamaged = 1;
// Bits 8 to 19 of a span's flags: so many bytes at its begin are in an earlier frame, too.
inline constexpr uint32_t kSpanRepeatedShift = 8;
inline constexpr uint32_t kMostRepeated = 0xfff;
inline constexpr uint32_t kMaxRawBytes = 16u << 20;
inline constexpr uint32_t kMaxStoredBytes = kMaxRawBytes + (64u << 10);

enum class JournalKind : uint32_t {
  kEvents,  // profbufs: positions count words
  kTrace,   // trace rings: positions count bytes
};

struct JournalHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t header_bytes;  // here the frames begin
  uint64_t generation;
  uint64_t start_time_clock_ticks;
  uint32_t pid;
  uint32_t ring_units;  // of one ring
  JournalKind kind;
  uint32_t crc;
};
static_assert(sizeof(JournalHeader) == 48);

// Behind the header of a trace: frames before `offset` were dropped to save space. All zero: none.
struct KeptMark {
  uint64_t offset;
  uint64_t sequence;  // of the frame there
  uint32_t zero;
  uint32_t crc;
};
static_assert(sizeof(KeptMark) == 24);

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
inline uint32_t repeated_in(const SpanHead& head) {
  return head.flags >> kSpanRepeatedShift & kMostRepeated;
}

// The journal of a kind that belongs to a dump.
[[nodiscard]] std::string journal_path_of(const std::string& dump_path,
                                          JournalKind kind = JournalKind::kEvents);
[[nodiscard]] JournalHeader journal_header_of(const format::DumpHeader& dump,
                                              JournalKind kind = JournalKind::kEvents);

// What one frame says about one ring.
struct ProfbufSpan {
  SpanHead head;
  std::span<const uint64_t> words;  // a trace ring's bytes are padded to words

  [[nodiscard]] std::span<const uint8_t> bytes() const {
    return {reinterpret_cast<const uint8_t*>(words.data()), head.to - head.from};
  }
};

struct JournalFrame {
  uint64_t sequence = 0;
  uint64_t file_offset = 0;
  uint32_t flags = 0;
  format::ClockPoint clock{};
  std::vector<ProfbufSpan> spans;  // their words are valid until the next frame is read
};

// Collects the raw payload of one frame.
class FrameBuilder {
 public:
  explicit FrameBuilder(format::ClockPoint clock, JournalKind kind = JournalKind::kEvents);

  // Room for one more span, in the units of positions; 0 when the frame is full.
  [[nodiscard]] size_t room() const;
  // Appends a span with space for `head.to - head.from` units, to be filled by the caller before
  // the next call.
  std::span<uint64_t> add(const SpanHead& head);
  [[nodiscard]] bool empty() const { return raw_[2] == 0; }
  [[nodiscard]] std::span<const uint64_t> raw() const { return raw_; }

 private:
  JournalKind kind_;
  std::vector<uint64_t> raw_;
};

// Splits a raw payload into its spans. False when it is not exactly a frame's content.
[[nodiscard]] bool parse_raw_frame(std::span<const uint64_t> raw, JournalKind kind,
                                   JournalFrame& frame);

// The journal of a dump, opened for reading if it is there.
class JournalFile {
 public:
  JournalFile(const std::string& dump_path, JournalKind kind);
  JournalFile(const JournalFile&) = delete;
  JournalFile& operator=(const JournalFile&) = delete;
  ~JournalFile();

  [[nodiscard]] bool usable() const { return fd_ >= 0 && trouble_.empty(); }
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] uint64_t disk_bytes() const { return disk_bytes_; }
  // Why one that is there cannot be used.
  [[nodiscard]] const std::string& trouble() const { return trouble_; }

 private:
  std::string path_;
  int fd_;
  uint64_t disk_bytes_ = 0;
  std::string trouble_;
};

// Reads frames one after the other; memory for one frame.
class JournalReader {
 public:
  // Does not own `fd`. Throws when the file has no valid header, or one of another dump. What is
  // appended from now on is not read.
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
  // Of a trace, to save space: how much was dropped before the frames that were, or will be, read.
  [[nodiscard]] uint64_t dropped_bytes() const { return kept_.offset - first_frame_; }
  [[nodiscard]] uint64_t dropped_frames() const { return kept_.sequence; }
  // How far it is, and how far it will go.
  [[nodiscard]] uint64_t offset() const { return offset_; }
  [[nodiscard]] uint64_t file_bytes() const;

 private:
  enum class Verdict { kWhole, kBad };
  void find_kept();
  Verdict reject(uint64_t looked_at_bytes);
  Verdict read_frame_at(uint64_t offset, JournalFrame& frame);
  bool read_head_at(uint64_t offset, FrameHead& head) const;
  bool load_payload(uint64_t offset, const FrameHead& head);
  uint64_t find_magic(uint64_t offset) const;
  size_t read_at(uint64_t offset, void* out, size_t bytes) const;

  int fd_;
  std::string path_;
  JournalKind kind_;
  uint64_t first_frame_;
  KeptMark kept_;
  uint64_t bytes_at_the_start_;
  uint64_t offset_;
  uint64_t end_of_last_frame_;
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

  // 0, or the errno for which nothing was added. `flags`: kFrameComplete, kFrameMore.
  [[nodiscard]] int append(const FrameBuilder& builder, uint32_t flags);
  void sync() const;

  // From the next frame on reading can begin anew: the spans of that frame must allow it.
  void begin_segment() { begins_segment_ = true; }
  [[nodiscard]] uint64_t segment_bytes() const {
    return end_ - (segments_.empty() ? kept_.offset : segments_.back().offset);
  }
  // Gives the space of the oldest segments back until the rest has no more than `bytes`, or is one
  // segment. 0, or why that cannot be.
  [[nodiscard]] int keep_newest(uint64_t bytes);
  // Whether the file system can give space inside a file back.
  [[nodiscard]] bool can_drop() const;
  // What the frames that were kept have on disk.
  [[nodiscard]] uint64_t kept_bytes() const { return end_ - kept_.offset; }
  [[nodiscard]] uint64_t dropped_bytes() const { return kept_.offset - header_.header_bytes; }

  struct Resume {
    uint64_t position;
    uint64_t dropped;  // that the journal knows of
  };
  // Where each ring that the journal knows goes on, by row.
  [[nodiscard]] const std::map<uint32_t, Resume>& resume() const { return resume_; }
  [[nodiscard]] bool was_complete() const { return was_complete_; }
  [[nodiscard]] uint64_t truncated_bytes() const { return truncated_bytes_; }
  [[nodiscard]] uint64_t file_bytes() const { return end_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  void open_file();
  void lock();
  void recover();
  void write_header();
  int write_at_end(const std::vector<char>& bytes);
  [[nodiscard]] int write_mark(KeptMark mark);
  [[nodiscard]] int punch(uint64_t from, uint64_t to) const;

  std::string path_;
  JournalHeader header_;
  int fd_ = -1;
  uint64_t end_ = 0;
  KeptMark kept_{};
  std::vector<KeptMark> segments_;  // where each one begins that was kept
  bool begins_segment_ = false;
  uint64_t sequence_ = 0;
  uint64_t truncated_bytes_ = 0;
  bool was_complete_ = false;
  std::map<uint32_t, Resume> resume_;
  std::vector<char> buffer_;
  ZSTD_CCtx_s* compressor_;
};

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace mprof::dumper {
namespace {

constexpr size_t kSpanHeadWords = sizeof(SpanHead) / sizeof(uint64_t);
constexpr size_t kFrameIntroWords = 3;  // clock point, number of spans
constexpr size_t kMaxRawWords = kMaxRawBytes / sizeof(uint64_t);
// A trace ring may be full again after some milliseconds: its bytes are given back frame by frame.
constexpr size_t kMaxTraceWords = (2u << 20) / sizeof(uint64_t);
// Bytes that the search behind damage may look at more than once. A hostile file can be full of
// frame heads that each claim the whole rest of it.
constexpr uint64_t kSearchBudgetBytes = uint64_t{256} << 20;
constexpr size_t kSearchBlockBytes = 4096;
// A frame of some bytes may unpack to spans of a hundred thousand rings. No program has more
// threads than this.
constexpr size_t kMostRings = size_t{1} << 20;

uint32_t crc_of(const void* bytes, size_t count) {
  return static_cast<uint32_t>(crc32_z(0, static_cast<const Bytef*>(bytes), count));
}

uint32_t crc_of_head(const FrameHead& head) {
  return crc_of(&head.payload_crc, sizeof head - offsetof(FrameHead, payload_crc));
}

uint32_t crc_of_mark(const KeptMark& mark) { return crc_of(&mark, offsetof(KeptMark, crc)); }

uint64_t units_of_word(JournalKind kind) {
  return kind == JournalKind::kTrace ? sizeof(uint64_t) : 1;
}

size_t words_for(uint64_t units, JournalKind kind) {
  return units / units_of_word(kind) + (units % units_of_word(kind) != 0 ? 1 : 0);
}

uint32_t first_frame_of(JournalKind kind) {
  return sizeof(JournalHeader) + (kind == JournalKind::kTrace ? sizeof(KeptMark) : 0);
}

std::string errno_text(int error) { return std::strerror(error); }

[[noreturn]] void fail(const std::string& path, const char* what, int error) {
  const std::string text = fmt::format("{}: {}: {}", path, what, errno_text(error));
  if (error == ENOSPC || error == EDQUOT) throw NoRoomForJournal(text, error);
  throw JournalError(text);
}

bool same_dump(const JournalHeader& a, const JournalHeader& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

std::string why_not(const JournalHeader& found, const JournalHeader& expected) {
  if (found.magic != kJournalMagic) return "it does not begin as a journal does";
  if (found.version != kJournalVersion)
    return fmt::format("it has version {}; this mprof reads version {}", found.version,
                       kJournalVersion);
  if (found.crc != crc_of(&found, offsetof(JournalHeader, crc)))
    return "the checksum of its header is wrong";
  if (found.generation != expected.generation || found.pid != expected.pid)
    return fmt::format("it belongs to another run (pid {})", found.pid);
  return "its header does not fit the dump";
}

size_t pread_fully(int fd, uint64_t offset, void* out, size_t bytes) {
  size_t done = 0;
  while (done < bytes) {
    const ssize_t n = ::pread(fd, static_cast<char*>(out) + done, bytes - done,
                              static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

}  // namespace

std::string journal_path_of(const std::string& dump_path, JournalKind kind) {
  return dump_path + (kind == JournalKind::kTrace ? ".trace" : ".journal");
}

JournalHeader journal_header_of(const format::DumpHeader& dump, JournalKind kind) {
  JournalHeader header{};
  header.magic = kJournalMagic;
  header.version = kJournalVersion;
  header.header_bytes = first_frame_of(kind);
  header.generation = dump.generation;
  header.start_time_clock_ticks = dump.start_time_clock_ticks;
  header.pid = dump.pid;
  header.ring_units = kind == JournalKind::kTrace ? dump.trace_ring_bytes : dump.profbuf_words;
  header.kind = kind;
  header.crc = crc_of(&header, offsetof(JournalHeader, crc));
  return header;
}

FrameBuilder::FrameBuilder(format::ClockPoint clock, JournalKind kind)
    : kind_(kind), raw_{clock.ticks, clock.monotonic_ns, 0} {}

size_t FrameBuilder::room() const {
  const size_t most = kind_ == JournalKind::kTrace ? kMaxTraceWords : kMaxRawWords;
  const size_t used = raw_.size() + kSpanHeadWords;
  return used >= most ? 0 : (most - used) * units_of_word(kind_);
}

std::span<uint64_t> FrameBuilder::add(const SpanHead& head) {
  const size_t begin = raw_.size();
  raw_.resize(begin + kSpanHeadWords + words_for(head.to - head.from, kind_));
  std::memcpy(&raw_[begin], &head, sizeof head);
  ++raw_[2];
  return std::span(raw_).subspan(begin + kSpanHeadWords);
}

bool parse_raw_frame(std::span<const uint64_t> raw, JournalKind kind, JournalFrame& frame) {
  frame.spans.clear();
  if (raw.size() < kFrameIntroWords) return false;
  frame.clock = {raw[0], raw[1]};
  const uint64_t count = raw[2];
  raw = raw.subspan(kFrameIntroWords);
  if (count > raw.size() / kSpanHeadWords) return false;
  frame.spans.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    ProfbufSpan span;
    if (raw.size() < kSpanHeadWords) return false;
    std::memcpy(&span.head, raw.data(), sizeof span.head);
    raw = raw.subspan(kSpanHeadWords);
    const size_t words = words_for(span.head.to - span.head.from, kind);
    if (words > raw.size()) return false;
    span.words = raw.first(words);
    raw = raw.subspan(words);
    frame.spans.push_back(span);
  }
  return raw.empty();
}

JournalFile::JournalFile(const std::string& dump_path, JournalKind kind)
    : path_(journal_path_of(dump_path, kind)),
      fd_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  struct stat status {};
  if (fd_ < 0 && errno != ENOENT)
    trouble_ = fmt::format("{}: cannot be opened: {}", path_, errno_text(errno));
  else if (fd_ >= 0 && (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)))
    trouble_ = fmt::format("{}: is not a regular file", path_);
  else if (fd_ >= 0 && status.st_size == 0)
    ::close(std::exchange(fd_, -1));  // there was no room even for its header
  disk_bytes_ = static_cast<uint64_t>(status.st_blocks) * 512;
}

JournalFile::~JournalFile() {
  if (fd_ >= 0) ::close(fd_);
}

JournalReader::JournalReader(int fd, std::string path, const JournalHeader& expected)
    : fd_(fd),
      path_(std::move(path)),
      kind_(expected.kind),
      first_frame_(expected.header_bytes),
      kept_{first_frame_, 0, 0, 0},
      bytes_at_the_start_(UINT64_MAX),
      offset_(first_frame_),
      end_of_last_frame_(first_frame_),
      search_budget_bytes_(kSearchBudgetBytes),
      decompressor_(nullptr) {
  JournalHeader found{};
  const size_t bytes = read_at(0, &found, sizeof found);
  if (bytes < sizeof found)
    throw JournalError(fmt::format("{}: the journal has {} bytes; its header alone takes {}", path_,
                                   bytes, sizeof found));
  if (!same_dump(found, expected))
    throw JournalError(
        fmt::format("{}: not the journal of this dump: {}", path_, why_not(found, expected)));
  find_kept();
  bytes_at_the_start_ = file_bytes();
  decompressor_ = ZSTD_createDCtx();
}

// While it is read, a trace may lose more of its oldest frames. A mark that is damaged is not
// believed: then the frames are searched for.
void JournalReader::find_kept() {
  if (kind_ != JournalKind::kTrace) return;
  KeptMark mark{};
  const bool read = read_at(sizeof(JournalHeader), &mark, sizeof mark) == sizeof mark;
  if (!read || mark.crc != crc_of_mark(mark) || mark.offset <= offset_) return;
  kept_ = mark;
  offset_ = mark.offset;
  end_of_last_frame_ = mark.offset;
  next_sequence_ = mark.sequence;
}

JournalReader::~JournalReader() { ZSTD_freeDCtx(decompressor_); }

size_t JournalReader::read_at(uint64_t offset, void* out, size_t bytes) const {
  return pread_fully(fd_, offset, out, bytes);
}

uint64_t JournalReader::file_bytes() const {
  struct stat status {};
  if (::fstat(fd_, &status) != 0) return 0;
  return std::min(static_cast<uint64_t>(status.st_size), bytes_at_the_start_);
}

bool JournalReader::next(JournalFrame& frame) {
  uint64_t begin = offset_;
  for (;;) {
    if (read_frame_at(offset_, frame) == Verdict::kWhole) {
      damaged_bytes_ += offset_ - begin;
      offset_ = end_of_last_frame_;
      return true;
    }
    const uint64_t kept_before = kept_.offset;
    find_kept();
    if (kept_.offset != kept_before) {
      begin = offset_;
      continue;
    }
    offset_ = search_budget_bytes_ == 0 ? file_bytes() : find_magic(offset_ + 1);
    if (offset_ >= file_bytes()) break;
  }
  offset_ = std::max(begin, file_bytes());
  tail_bytes_ = offset_ - begin;
  return false;
}

bool JournalReader::read_head_at(uint64_t offset, FrameHead& head) const {
  return read_at(offset, &head, sizeof head) == sizeof head && head.magic == kFrameMagic &&
         head.head_crc == crc_of_head(head) && head.file_offset == offset &&
         head.sequence >= next_sequence_ && head.stored_bytes <= kMaxStoredBytes &&
         head.raw_bytes <= kMaxRawBytes && head.raw_bytes % sizeof(uint64_t) == 0;
}

// The lengths come from the file, so memory is asked for only after the file was seen to have the
// bytes, and the decompressed size is bounded by what the head may claim.
bool JournalReader::load_payload(uint64_t offset, const FrameHead& head) {
  if (offset + head.stored_bytes > file_bytes()) return false;
  stored_.resize(head.stored_bytes);
  if (read_at(offset, stored_.data(), stored_.size()) != stored_.size()) return false;
  if (crc_of(stored_.data(), stored_.size()) != head.payload_crc) return false;
  raw_.resize(head.raw_bytes / sizeof(uint64_t));
  const size_t got = ZSTD_decompressDCtx(decompressor_, raw_.data(), head.raw_bytes, stored_.data(),
                                         stored_.size());
  return ZSTD_isError(got) == 0 && got == head.raw_bytes;
}

JournalReader::Verdict JournalReader::reject(uint64_t looked_at_bytes) {
  search_budget_bytes_ -= std::min(search_budget_bytes_, looked_at_bytes);
  return Verdict::kBad;
}

JournalReader::Verdict JournalReader::read_frame_at(uint64_t offset, JournalFrame& frame) {
  FrameHead head;
  if (!read_head_at(offset, head)) return reject(kSearchBlockBytes);
  if (!load_payload(offset + sizeof head, head) || !parse_raw_frame(raw_, kind_, frame))
    return reject(kSearchBlockBytes + head.stored_bytes);
  frame.sequence = head.sequence;
  frame.file_offset = offset;
  frame.flags = head.flags;
  missing_frames_ += head.sequence - next_sequence_;
  next_sequence_ = head.sequence + 1;
  end_of_last_frame_ = offset + sizeof head + head.stored_bytes;
  ++frames_;
  return Verdict::kWhole;
}

uint64_t JournalReader::find_magic(uint64_t offset) const {
  char block[kSearchBlockBytes];
  char magic[sizeof kFrameMagic];
  std::memcpy(magic, &kFrameMagic, sizeof magic);
  for (;;) {
    const size_t bytes = read_at(offset, block, sizeof block);
    if (bytes < sizeof magic) return offset + bytes;
    const auto* hit = std::search(block, block + bytes, magic, magic + sizeof magic);
    if (hit != block + bytes) return offset + static_cast<uint64_t>(hit - block);
    offset += bytes - (sizeof magic - 1);  // the magic may lie across two blocks
  }
}

JournalWriter::JournalWriter(const std::string& path, const JournalHeader& header)
    : path_(path), header_(header), kept_{header.header_bytes, 0, 0, 0}, compressor_(nullptr) {
  try {
    open_file();
    lock();
    recover();
  } catch (...) {
    if (fd_ >= 0) ::close(fd_);
    throw;
  }
  compressor_ = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(compressor_, ZSTD_c_compressionLevel, 1);
}

JournalWriter::~JournalWriter() {
  ZSTD_freeCCtx(compressor_);
  ::close(fd_);
}

void JournalWriter::open_file() {
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
  if (fd_ < 0 && errno == ELOOP)
    throw JournalError(fmt::format("{}: is a symbolic link; not followed", path_));
  if (fd_ < 0) fail(path_, "cannot be opened", errno);
  struct stat status {};
  if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode))
    throw JournalError(fmt::format("{}: is not a regular file; left alone", path_));
}

void JournalWriter::lock() {
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  if (errno == EWOULDBLOCK)
    throw JournalError(fmt::format("{}: another mprof drain is at work on it", path_));
  throw JournalError(fmt::format("{}: cannot be locked: {}", path_, errno_text(errno)));
}

void JournalWriter::recover() {
  JournalHeader found{};
  const size_t bytes = pread_fully(fd_, 0, &found, sizeof found);
  struct stat status {};
  if (::fstat(fd_, &status) != 0)
    throw JournalError(fmt::format("{}: {}", path_, errno_text(errno)));
  const auto file_bytes = static_cast<uint64_t>(status.st_size);
  if (file_bytes < header_.header_bytes && std::memcmp(&found, &header_, bytes) == 0) {
    write_header();  // new, or cut inside its header
    return;
  }
  if (bytes < sizeof found)
    throw JournalError(fmt::format("{}: is not a journal of mprof; left alone", path_));
  JournalReader reader(fd_, path_, header_);
  kept_ = {header_.header_bytes + reader.dropped_bytes(), reader.dropped_frames(), 0, 0};
  JournalFrame frame;
  while (reader.next(frame)) {
    for (const ProfbufSpan& span : frame.spans)
      if (span.head.row < kMostRings) resume_[span.head.row] = {span.head.to, span.head.dropped};
    was_complete_ = (frame.flags & kFrameComplete) != 0;
    if ((frame.flags & kFrameSegment) != 0)
      segments_.push_back({frame.file_offset, frame.sequence, 0, 0});
  }
  end_ = reader.end_of_last_frame();
  sequence_ = reader.next_sequence();
  if (file_bytes > end_) truncated_bytes_ = file_bytes - end_;
  if (truncated_bytes_ != 0 && ::ftruncate(fd_, static_cast<off_t>(end_)) != 0)
    throw JournalError(fmt::format("{}: cannot be truncated: {}", path_, errno_text(errno)));
  // The drainer before may have died between marking and giving back.
  if (dropped_bytes() != 0) (void)punch(header_.header_bytes, kept_.offset);
}

void JournalWriter::write_header() {
  std::vector<char> bytes(header_.header_bytes);
  std::memcpy(bytes.data(), &header_, sizeof header_);
  const int error = write_at_end(bytes);
  if (error != 0) fail(path_, "cannot be written", error);
}

int JournalWriter::write_mark(KeptMark mark) {
  mark.crc = crc_of_mark(mark);
  for (;;) {
    const ssize_t n = ::pwrite(fd_, &mark, sizeof mark, sizeof(JournalHeader));
    if (n == sizeof mark) return 0;
    if (n >= 0 || errno != EINTR) return n >= 0 ? ENOSPC : errno;
  }
}

int JournalWriter::punch(uint64_t from, uint64_t to) const {
  const int how = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  const auto bytes = static_cast<off_t>(to - from);
  return ::fallocate(fd_, how, static_cast<off_t>(from), bytes) == 0 ? 0 : errno;
}

// Behind the end of the file there is nothing that it could take.
bool JournalWriter::can_drop() const {
  constexpr uint64_t kPage = format::kPageBytes;
  const uint64_t behind = (end_ / kPage + 2) * kPage;
  return punch(behind, behind + kPage) == 0;
}

// First the mark, then the hole: a reader never takes one for damage.
int JournalWriter::keep_newest(uint64_t bytes) {
  if (kept_bytes() <= bytes) return 0;
  auto first = segments_.begin();
  while (first != segments_.end() && first + 1 != segments_.end() && end_ - first->offset > bytes)
    ++first;
  if (first == segments_.end() || first->offset == kept_.offset) return 0;
  const int error = write_mark(*first);
  if (error != 0) return error;
  kept_ = *first;
  segments_.erase(segments_.begin(), first);
  return punch(header_.header_bytes, kept_.offset);
}

int JournalWriter::append(const FrameBuilder& builder, uint32_t flags) {
  const std::span<const uint64_t> raw = builder.raw();
  buffer_.resize(sizeof(FrameHead) + ZSTD_compressBound(raw.size_bytes()));
  const size_t stored =
      ZSTD_compress2(compressor_, buffer_.data() + sizeof(FrameHead),
                     buffer_.size() - sizeof(FrameHead), raw.data(), raw.size_bytes());
  if (ZSTD_isError(stored) != 0) return ENOMEM;  // the buffer is large enough by construction
  buffer_.resize(sizeof(FrameHead) + stored);
  FrameHead head{};
  head.magic = kFrameMagic;
  head.flags = flags | (begins_segment_ ? kFrameSegment : 0);
  head.sequence = sequence_;
  head.stored_bytes = static_cast<uint32_t>(stored);
  head.raw_bytes = static_cast<uint32_t>(raw.size_bytes());
  head.file_offset = end_;
  head.payload_crc = crc_of(buffer_.data() + sizeof head, stored);
  head.head_crc = crc_of_head(head);
  std::memcpy(buffer_.data(), &head, sizeof head);
  const int error = write_at_end(buffer_);
  if (error != 0) return error;
  if (begins_segment_) segments_.push_back({head.file_offset, sequence_, 0, 0});
  begins_segment_ = false;
  ++sequence_;
  return 0;
}

int JournalWriter::write_at_end(const std::vector<char>& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        ::pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(end_ + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = n == 0 ? ENOSPC : errno;
      if (::ftruncate(fd_, static_cast<off_t>(end_)) != 0) return errno;
      return error;
    }
    done += static_cast<size_t>(n);
  }
  end_ += bytes.size();
  return 0;
}

void JournalWriter::sync() const { ::fdatasync(fd_); }

}  // namespace mprof::dumper

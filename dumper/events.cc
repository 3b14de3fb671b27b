// SPDX-License-Identifier: Apache-2.0
#include "dumper/events.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dumper/ring_copy.h"
#include "format/profbuf_reader.h"
#include "format/weights.h"

namespace mprof::dumper {
namespace {

using format::RecordKind;
using format::RecordWord;

// Row numbers in a journal are not believed; a dump that was cut may have lost rows that its
// journal knows.
constexpr uint64_t kRowsBelievedAnyway = 1u << 16;

bool is_record(RecordWord head) {
  return (head.flags & ~format::kWeighted) == 0 && head.words != 0 &&
         head.words == format::expected_words(head.kind, head.flags);
}

void read_frames(const JournalFile& file, const JournalHeader& header, EventParser& parser,
                 StreamHealth& found) {
  JournalReader reader(file.fd(), file.path(), header);
  JournalFrame frame;
  while (reader.next(frame)) {
    for (const ProfbufSpan& span : frame.spans) parser.feed(span);
    found.journal_complete = (frame.flags & kFrameComplete) != 0;
  }
  found.damaged_journal_bytes = reader.damaged_bytes();
  found.torn_journal_bytes = reader.tail_bytes();
  found.missing_journal_frames = reader.missing_frames();
}

void read_journal(const Dump& dump, EventParser& parser, StreamHealth& found) {
  const JournalFile file(dump.path(), JournalKind::kEvents);
  found.journal_trouble = file.trouble();
  if (!file.usable()) return;
  found.journal = file.path();
  try {
    read_frames(file, journal_header_of(dump.header()), parser, found);
  } catch (const JournalError& error) {
    found.journal_trouble = error.what();
  }
}

using ProfbufCopy = RingCopy<uint64_t>;

ProfbufCopy copy_of(uint32_t row, const ProfbufView& view) {
  const format::ProfbufReader reader(view.head, view.words, view.word_count);
  return copy_ring<uint64_t>(row, reader, *view.head, view.word_count);
}

// Feeds what lies beyond the journal.
void feed_ring(const ProfbufCopy& copy, EventParser& parser) {
  ProfbufSpan span{copy.head, copy.units};
  const uint64_t known = parser.position(copy.head.row).value_or(0) - copy.head.from;
  if (known <= span.words.size()) {
    span.head.from += known;
    span.words = span.words.subspan(known);
  } else if (static_cast<int64_t>(known) > 0 && copy.head.flags == 0) {
    return;  // drained meanwhile, all of it
  }
  parser.feed(span);
}

template <class Use>
void for_each_ring(const Dump& dump, const Use& use) {
  const auto rows = static_cast<uint32_t>(dump.rows(format::TableId::kProfbufs));
  for (uint32_t row = 0; row < rows; ++row)
    if (const auto view = dump.profbuf(row)) use(copy_of(row, *view));
}

// The words behind the time, up to the weight.
void fill_payload(Event& event, const uint64_t* words) {
  if (event.kind == RecordKind::kCounted) {
    event.value = words[2];
    return;
  }
  event.size_bytes = words[2];
  if (event.kind == RecordKind::kFree) event.alloc_ticks = words[3];
  event.bytes = format::weighted_bytes(event.size_bytes, event.weight);
}

}  // namespace

EventParser::Stream& EventParser::stream_of(uint32_t row) {
  if (row >= streams_.size()) streams_.resize(row + 1);
  return streams_[row];
}

std::optional<uint64_t> EventParser::position(uint32_t row) const {
  if (row >= streams_.size() || !streams_[row].seen) return std::nullopt;
  return streams_[row].position;
}

// A profbuf begins at 0, so one that is first seen later has a gap before it.
void EventParser::join(Stream& stream, const SpanHead& head) {
  const bool goes_on = head.from == stream.position && (head.flags & kSpanDamaged) == 0;
  if (!goes_on) {
    ++health_.gaps;
    stream.carried_words = 0;
    stream.thread = format::kNoRow;
  }
  stream.seen = true;
  stream.position = head.to;
  stream.dropped = std::max(stream.dropped, head.dropped);
  stream.first_drop_ticks = head.first_drop_ticks;
}

void EventParser::feed(const ProfbufSpan& span) {
  if (span.head.row >= max_rows_) {
    ++health_.damaged_records;
    return;
  }
  Stream& stream = stream_of(span.head.row);
  join(stream, span.head);
  parse(stream, span.head.row, span.words);
}

// Adds words to the record that the last span cut until it is whole. How many it took.
size_t EventParser::complete_carried(Stream& stream, uint32_t row,
                                     std::span<const uint64_t> words) {
  if (stream.carried_words == 0) return 0;
  const uint32_t had = stream.carried_words;
  const uint32_t needed = format::unpack_record_word(stream.carried[0]).words;
  const auto taken = static_cast<uint32_t>(std::min<size_t>(needed - had, words.size()));
  std::copy_n(words.begin(), taken, stream.carried + had);
  stream.carried_words += taken;
  if (stream.carried_words < needed) return taken;
  stream.carried_words = 0;
  parse_one(stream, row, {stream.carried, needed});
  return taken;
}

void EventParser::parse(Stream& stream, uint32_t row, std::span<const uint64_t> words) {
  size_t at = complete_carried(stream, row, words);
  while (at < words.size()) {
    const size_t taken = parse_one(stream, row, words.subspan(at));
    if (taken == kBadRecord) {
      ++health_.damaged_records;
      return;
    }
    at += taken;
  }
}

size_t EventParser::parse_one(Stream& stream, uint32_t row, std::span<const uint64_t> words) {
  const RecordWord head = format::unpack_record_word(words[0]);
  if (!is_record(head)) return kBadRecord;
  if (head.words > words.size()) {
    std::copy(words.begin(), words.end(), stream.carried);
    stream.carried_words = static_cast<uint32_t>(words.size());
    return words.size();
  }
  deliver(stream, row, head, words.data());
  return head.words;
}

void EventParser::deliver(Stream& stream, uint32_t row, RecordWord head, const uint64_t* words) {
  if (head.kind == RecordKind::kThread) {
    stream.thread = head.argument;
    return;
  }
  Event event;
  event.kind = head.kind;
  event.profbuf = row;
  event.thread = stream.thread;
  event.ticks = words[1];
  if (head.kind == RecordKind::kLost) {
    event.lost = words[2];
    stream.reported += event.lost;
    health_.lost_reported += event.lost;
    note_loss(event.ticks);
  } else {
    const bool weighted = (head.flags & format::kWeighted) != 0;
    event.row = head.argument;
    event.weight = weighted ? words[head.words - 1] : format::kWeightOne;
    fill_payload(event, words);
    ++health_.events;
    note_time(event.ticks);
  }
  sink_(event);
}

void EventParser::note_time(uint64_t ticks) {
  if (health_.first_ticks == 0 || ticks < health_.first_ticks) health_.first_ticks = ticks;
  health_.last_ticks = std::max(health_.last_ticks, ticks);
}

void EventParser::note_loss(uint64_t ticks) {
  if (health_.first_lost_ticks == 0 || ticks < health_.first_lost_ticks)
    health_.first_lost_ticks = ticks;
}

StreamHealth EventParser::health() const {
  EventParser total = *this;
  for (const Stream& stream : streams_) {
    // Wraps to a huge number only when words were lost with their kLost counts, or are hostile.
    const auto unreported = static_cast<int64_t>(stream.dropped - stream.reported);
    if (unreported <= 0) continue;
    total.health_.lost_at_the_end += static_cast<uint64_t>(unreported);
    total.note_loss(stream.first_drop_ticks);
  }
  return total.health_;
}

std::vector<std::string> StreamHealth::lines(const TickClock& clock) const {
  std::vector<std::string> out;
  const auto say = [&out](uint64_t count, const char* text) {
    if (count != 0) out.push_back(fmt::format("{} {}", count, text));
  };
  if (lost() != 0)
    out.push_back(
        fmt::format("{} events dropped because a profbuf was full, the first {:.3f} s "
                    "after the start",
                    lost(), static_cast<double>(clock.since_start_ns(first_lost_ticks)) / 1e9));
  say(gaps,
      "gaps in the streams of profbufs: the journal that had these events is not here, or "
      "positions were damaged");
  say(damaged_records, "pieces of profbufs that do not read as records");
  say(damaged_journal_bytes, "bytes of the journal that belong to no whole frame");
  say(missing_journal_frames, "frames missing inside the journal");
  if (!journal_trouble.empty()) out.push_back(journal_trouble);
  return out;
}

StreamHealth read_events(const Dump& dump, const EventSink& sink) {
  const uint64_t rows = std::max(dump.rows(format::TableId::kProfbufs), kRowsBelievedAnyway);
  EventParser parser(sink, static_cast<uint32_t>(rows));
  StreamHealth found;
  const bool running = dump.life() == Life::kRunning;
  std::vector<ProfbufCopy> copies;
  if (running) for_each_ring(dump, [&](ProfbufCopy copy) { copies.push_back(std::move(copy)); });
  read_journal(dump, parser, found);
  for (const ProfbufCopy& copy : copies) feed_ring(copy, parser);
  if (!running) for_each_ring(dump, [&](const ProfbufCopy& copy) { feed_ring(copy, parser); });
  StreamHealth health = parser.health();
  health.damaged_journal_bytes = found.damaged_journal_bytes;
  health.torn_journal_bytes = found.torn_journal_bytes;
  health.missing_journal_frames = found.missing_journal_frames;
  health.journal = found.journal;
  health.journal_trouble = found.journal_trouble;
  health.journal_complete = found.journal_complete;
  return health;
}

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "format/trace_reader.h"

namespace mprof::dumper {
namespace {

using format::TableId;
using format::TraceKind;

// Row numbers in a journal are not believed; a dump that was cut may have lost rows that its
// journal knows.
constexpr uint64_t kRowsBelievedAnyway = 1u << 16;
constexpr uint64_t kFreeWaitingBytes = uint64_t{64} << 20;
constexpr uint64_t kMostWaitingDumps = 4;

double seconds_of(uint64_t ns) { return static_cast<double>(ns) / 1e9; }

}  // namespace

bool TraceHealth::whole() const {
  return lost == 0 && gaps == 0 && damaged_bytes == 0 && bad_rows == 0 &&
         damaged_journal_bytes == 0 && missing_journal_frames == 0 && journal_trouble.empty();
}

std::vector<std::string> TraceHealth::lines() const {
  std::vector<std::string> out;
  const auto say = [&out](uint64_t count, const char* text) {
    if (count != 0) out.push_back(fmt::format("{} {}", count, text));
  };
  if (lost != 0)
    out.push_back(
        fmt::format("{} records of the trace dropped because a ring was full, the first {:.3f} s "
                    "after the start",
                    lost, seconds_of(first_lost_ns)));
  if (recorder_dropped_frames != 0)
    out.push_back(fmt::format(
        "the trace before {:.3f} s after the start was given up to save space (MPROF_TRACE_MAX): "
        "{} frames, {} bytes",
        seconds_of(begin_ns), recorder_dropped_frames, recorder_dropped_bytes));
  say(gaps,
      "gaps in the trace: the journal that had these records is not here, or bytes were damaged");
  say(damaged_bytes, "bytes of trace rings that do not read as records");
  say(bad_rows, "numbers in the trace that no table of the dump has");
  if (late != 0)
    out.push_back(fmt::format(
        "{} records of the trace were written later than they happened, and are shown later, by "
        "{:.3f} ms at most",
        late, static_cast<double>(latest_ns) / 1e6));
  say(early, "records of the trace claimed a time when they had been read already");
  say(damaged_journal_bytes, "bytes of the trace's journal that belong to no whole frame");
  say(missing_journal_frames, "frames missing inside the trace's journal");
  if (!journal_trouble.empty()) out.push_back(journal_trouble);
  return out;
}

DumpTrace::DumpTrace(Dump& dump, const Window& window)
    : dump_(dump), window_(window), clock_(dump.clock()), file_(dump.path(), JournalKind::kTrace) {
  copy_rings();
  dump_.refresh();  // rows that these copies, and the journal up to now, speak of are there now
  tables_ = {dump_.rows(TableId::kThreads), dump_.rows(TableId::kStackNodes),
             dump_.rows(TableId::kLabels)};
  most_waiting_bytes_ = kFreeWaitingBytes + kMostWaitingDumps * dump_.file_bytes();
  open_journal();
}

void DumpTrace::open_journal() {
  health_.journal_trouble = file_.trouble();
  if (!file_.usable()) return;
  health_.journal = file_.path();
  health_.journal_bytes = file_.disk_bytes();
  try {
    journal_.emplace(file_.fd(), file_.path(),
                     journal_header_of(dump_.header(), JournalKind::kTrace));
  } catch (const JournalError& error) {
    health_.journal_trouble = error.what();
  }
}

bool DumpTrace::next(TraceRecord& record) {
  while (!is_over_) {
    if (!heap_.empty() && is_due(heap_.front().ns)) {
      if (take_oldest(record)) return true;
    } else if (!load()) {
      is_over_ = true;
    }
  }
  return false;
}

bool DumpTrace::is_due(uint64_t ns) const {
  return ns <= horizon_ns_ || waiting_bytes_ > most_waiting_bytes_;
}

// False: it lies outside the window.
bool DumpTrace::take_oldest(TraceRecord& record) {
  std::pop_heap(heap_.begin(), heap_.end());
  const uint32_t row = heap_.back().ring;
  heap_.pop_back();
  std::swap(record, rings_[row]->record);
  rings_[row]->is_waiting = false;
  pull(row);
  if (record.ns < last_ns_) {
    ++health_.late;
    health_.latest_ns = std::max(health_.latest_ns, last_ns_ - record.ns);
  }
  record.ns = last_ns_ = std::max(record.ns, last_ns_);
  if (!std::exchange(has_begun_, true)) health_.begin_ns = record.ns;
  const auto ns = static_cast<int64_t>(std::min<uint64_t>(record.ns, INT64_MAX));
  is_over_ = ns > window_.to_ns;
  if (is_over_ || ns < window_.from_ns) return false;
  note(record);
  return true;
}

void DumpTrace::note(const TraceRecord& record) {
  if (record.kind != TraceKind::kLost) {
    ++health_.records;
    health_.last_ns = record.ns;
  } else if (record.arguments[0] != 0) {
    const uint64_t since = record.ns - std::min(record.ns, record.arguments[1]);
    if (health_.lost == 0 || since < health_.first_lost_ns) health_.first_lost_ns = since;
    health_.lost += record.arguments[0];
  }
}

bool DumpTrace::load() {
  if (journal_ && load_frame()) return true;
  if (rings_are_loaded_) return false;
  load_rings();
  return true;
}

// A frame without ticks was made when the target had ended; it has no more than the rings had.
bool DumpTrace::load_frame() {
  JournalFrame frame;
  if (rings_are_loaded_ || !journal_->next(frame)) return false;
  for (const ProfbufSpan& span : frame.spans) feed(span.head, span.bytes());
  if ((frame.flags & kFrameMore) != 0 || frame.clock.ticks == 0) return true;
  const auto begin_ns =
      static_cast<uint64_t>(std::max<int64_t>(clock_.since_start_ns(frame.clock.ticks), 0));
  settle(begin_ns);
  horizon_ns_ = std::max(horizon_ns_, begin_ns - std::min(begin_ns, kSettleNs));
  return true;
}

// What an earlier pass has read cannot be younger than the begin of this one. A clock that claims
// so would keep its ring, and all that is read from it, waiting.
void DumpTrace::settle(uint64_t begin_ns) {
  settled_ns_ = begin_ns;
  for (const auto& ring : rings_) {
    if (ring == nullptr) continue;
    ring->settled = std::exchange(ring->fed_last_pass, ring->decoder.fed());
    if (ring->is_waiting) clamp(*ring);
  }
  for (Next& next : heap_) next.ns = rings_[next.ring]->record.ns;
  std::make_heap(heap_.begin(), heap_.end());
}

void DumpTrace::clamp(Ring& ring) {
  if (ring.record.ns <= settled_ns_ || ring.decoder.position() > ring.settled) return;
  ring.record.ns = settled_ns_;
  ++health_.early;
}

void DumpTrace::feed(const SpanHead& head, std::span<const uint8_t> bytes) {
  if (head.row >= std::max(dump_.rows(TableId::kTraceRings), kRowsBelievedAnyway)) {
    health_.damaged_bytes += bytes.size();
    return;
  }
  if (head.row >= rings_.size()) rings_.resize(head.row + 1);
  std::unique_ptr<Ring>& ring = rings_[head.row];
  if (ring == nullptr) {
    const bool begins_late = journal_ && journal_->dropped_frames() != 0;
    ring = std::make_unique<Ring>(TraceDecoder(clock_, tables_, begins_late));
    if (begins_late) ring->given_up = head.from + repeated_in(head);
  }
  waiting_bytes_ -= ring->decoder.waiting_bytes();
  ring->decoder.feed(head, bytes);
  waiting_bytes_ += ring->decoder.waiting_bytes();
  ring->drops.all = std::max(ring->drops.all, head.dropped);
  ring->drops.first_ticks = head.first_drop_ticks;
  if (!ring->is_waiting) pull(head.row);
}

void DumpTrace::pull(uint32_t row) {
  Ring& ring = *rings_[row];
  waiting_bytes_ -= ring.decoder.waiting_bytes();
  do ring.is_waiting = ring.decoder.next(ring.record);
  while (ring.is_waiting && ring.decoder.position() <= ring.given_up);
  waiting_bytes_ += ring.decoder.waiting_bytes();
  if (!ring.is_waiting) return;
  clamp(ring);
  heap_.push_back({ring.record.ns, row});
  std::push_heap(heap_.begin(), heap_.end());
}

void DumpTrace::load_rings() {
  rings_are_loaded_ = true;
  horizon_ns_ = UINT64_MAX;
  settled_ns_ = UINT64_MAX;
  for (Copy& copy : copies_) {
    feed(copy.head, copy.units);
    copy.units = {};
  }
  for (uint32_t row = 0; row < rings_.size(); ++row)
    if (rings_[row] != nullptr) close(row);
}

void DumpTrace::close(uint32_t row) {
  Ring& ring = *rings_[row];
  ring.drops.unreported = ring.drops.all;
  const auto copy =
      std::lower_bound(copies_.begin(), copies_.end(), row,
                       [](const Copy& c, uint32_t wanted) { return c.head.row < wanted; });
  if (copy != copies_.end() && copy->head.row == row) ring.drops.unreported = copy->unreported;
  ring.decoder.close(ring.drops);
  if (!ring.is_waiting) pull(row);
}

void DumpTrace::copy_rings() {
  const auto rows = static_cast<uint32_t>(dump_.rows(TableId::kTraceRings));
  for (uint32_t row = 0; row < rows; ++row)
    if (const auto view = dump_.trace_ring(row)) copies_.push_back(copy_of(row, *view));
}

DumpTrace::Copy DumpTrace::copy_of(uint32_t row, const TraceRingView& view) {
  const format::TraceReader reader(view.head, view.bytes, view.byte_count);
  Copy copy{copy_ring<uint8_t>(row, reader, *view.head, view.byte_count)};
  const uint64_t reported = __atomic_load_n(&view.head->dropped_reported, __ATOMIC_RELAXED);
  copy.unreported = copy.head.dropped - std::min(copy.head.dropped, reported);
  return copy;
}

TraceHealth DumpTrace::health() const {
  TraceHealth health = health_;
  for (const auto& ring : rings_) {
    if (ring == nullptr) continue;
    health.gaps += ring->decoder.gaps();
    health.damaged_bytes += ring->decoder.damaged_bytes();
    health.bad_rows += ring->decoder.bad_rows();
  }
  if (!journal_) return health;
  health.recorder_dropped_bytes = journal_->dropped_bytes();
  health.recorder_dropped_frames = journal_->dropped_frames();
  health.damaged_journal_bytes = journal_->damaged_bytes();
  health.torn_journal_bytes = journal_->tail_bytes();
  health.missing_journal_frames = journal_->missing_frames();
  return health;
}

double DumpTrace::progress() const {
  if (!journal_ || rings_are_loaded_ || is_over_) return 1;
  const uint64_t all = journal_->file_bytes() - journal_->dropped_bytes();
  const uint64_t done = journal_->offset() - journal_->dropped_bytes();
  return static_cast<double>(done) / static_cast<double>(std::max<uint64_t>(all, 1));
}

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/ring_drain.h"

#include <unistd.h>

#include <algorithm>

#include "format/profbuf_reader.h"
#include "format/trace_reader.h"

namespace mprof::dumper {
namespace {

using format::kTraceBlockBytes;
using format::TableId;

// A trace that is limited forgets its oldest segment; there are so many of them.
constexpr uint64_t kSegments = 16;
// A trace that is full still gets what its threads do until they have heard of it.
constexpr uint64_t kTailBytes = 2u << 20;

template <class View>
format::ProfbufReader profbuf_reader(const View& view) {
  return {view.head, static_cast<const std::atomic<uint64_t>*>(view.units), view.count};
}
template <class View>
format::TraceReader trace_reader(const View& view) {
  return {view.head, static_cast<const uint8_t*>(view.units), view.count};
}

}  // namespace

RingDrain::RingDrain(Dump& dump, JournalKind kind) : dump_(dump), kind_(kind) {
  if (kind == JournalKind::kEvents ||
      ::access(journal_path_of(dump.path(), kind).c_str(), F_OK) == 0)
    (void)open_journal();  // without room for it: move() tries again
}

int RingDrain::open_journal() {
  try {
    journal_.emplace(journal_path_of(dump_.path(), kind_),
                     journal_header_of(dump_.header(), kind_));
  } catch (const NoRoomForJournal& error) {
    return error.error;
  } catch (const JournalError& error) {
    if (kind_ == JournalKind::kEvents) throw;
    trouble_ = error.what();
    return 0;
  }
  complete_ = journal_->was_complete();
  can_drop_ = journal_->can_drop();
  limit();
  return 0;
}

// Looking at the dump anew is costly; the count of rings tells when it is needed. A ring whose data
// is not there yet shows when the data's count moves.
void RingDrain::refresh_if_grown() {
  const auto used = [this](TableId table) {
    const auto& directory = dump_.header().tables[static_cast<size_t>(table)];
    return directory.used_rows.load(std::memory_order_acquire);
  };
  const bool trace = kind_ == JournalKind::kTrace;
  const uint64_t heads = used(trace ? TableId::kTraceRings : TableId::kProfbufs);
  const uint64_t data = used(trace ? TableId::kTraceData : TableId::kProfbufData);
  if (heads == heads_seen_ && data == data_seen_) return;
  dump_.refresh();
  heads_seen_ = heads;
  data_seen_ = data;
}

std::optional<RingDrain::View> RingDrain::view(uint32_t row) const {
  if (kind_ == JournalKind::kTrace) {
    const auto ring = dump_.trace_ring(row);
    if (ring) return View{ring->head, ring->bytes, ring->byte_count};
  } else if (const auto ring = dump_.profbuf(row)) {
    return View{ring->head, ring->words, ring->word_count};
  }
  return std::nullopt;
}

void RingDrain::copy(const View& view, const SpanHead& head, std::span<uint64_t> out) const {
  if (kind_ == JournalKind::kTrace)
    (void)trace_reader(view).copy(head.from,
                                  {reinterpret_cast<uint8_t*>(out.data()), head.to - head.from});
  else
    (void)profbuf_reader(view).copy(head.from, out);
}

// Of a trace the block stays that is being written, so that a segment can begin with it.
void RingDrain::release(const View& view, uint64_t position) const {
  if (kind_ == JournalKind::kTrace)
    trace_reader(view).release(position);
  else
    profbuf_reader(view).release(position);
}

uint64_t RingDrain::most_bytes() const {
  return kind_ == JournalKind::kTrace ? dump_.header().trace_max_bytes : 0;
}

// The journal knows better than the ring where to go on: the drainer before may have died after
// it wrote a frame and before it released the units. A ring that is ahead of the journal (frames
// were lost in a crash of the machine) keeps its place; the gap shows in the journal.
void RingDrain::begin_ring(uint32_t row, const View& view) {
  Ring& ring = rings_[row];
  ring.seen = true;
  ring.position = view.head->released.load(std::memory_order_relaxed);  // only drainers move it
  if (!journal_) return;
  const auto known = journal_->resume().find(row);
  if (known == journal_->resume().end()) return;
  ring.dropped_written = known->second.dropped;
  const uint64_t written = view.head->written.load(std::memory_order_acquire);  // (A)
  const uint64_t pending = written - ring.position;
  if (pending > view.count || known->second.position - ring.position > pending) return;
  ring.position = known->second.position;
  release(view, ring.position);
}

void RingDrain::look_at_ring(uint32_t row, const View& view, Look& look) {
  if (!rings_[row].seen) begin_ring(row, view);
  const Ring& ring = rings_[row];
  const uint64_t pending = view.head->written.load(std::memory_order_acquire) - ring.position;
  const double full = static_cast<double>(pending) / static_cast<double>(view.count);
  look.fullest = std::max(look.fullest, std::min(full, 1.0));
  look.news = look.news || pending != 0 ||
              view.head->dropped.load(std::memory_order_relaxed) != ring.dropped_written;
}

RingDrain::Look RingDrain::look() {
  Look look;
  const bool has_room = !full_ || journal_->kept_bytes() < most_bytes() + kTailBytes;
  if (!trouble_.empty() || !has_room) return look;
  refresh_if_grown();
  const auto table = kind_ == JournalKind::kTrace ? TableId::kTraceRings : TableId::kProfbufs;
  rings_.resize(std::max(rings_.size(), dump_.rows(table)));
  for (uint32_t row = 0; row < rings_.size(); ++row)
    if (const auto ring = view(row)) look_at_ring(row, *ring, look);
  return look;
}

int RingDrain::move(format::ClockPoint begin) {
  if (const int error = journal_ ? 0 : open_journal(); error != 0) return error;
  uint32_t row = 0;
  for (bool more = true; more && trouble_.empty();) {
    begin_segment_if_due();
    FrameBuilder builder(begin, kind_);
    std::vector<Release> releases;
    more = collect(row, builder, releases);
    if (builder.empty()) break;
    const int error = journal_->append(builder, more ? kFrameMore : 0);
    if (error != 0) return error;
    complete_ = false;
    last_frame_ = std::chrono::steady_clock::now();
    release(releases);
    limit();
  }
  return 0;
}

int RingDrain::complete() {
  if (is_complete()) return 0;
  const int error = journal_->append(FrameBuilder({}, kind_), kFrameComplete);
  if (error != 0) return error;
  journal_->sync();
  complete_ = true;
  return 0;
}

// One frame's worth, from `row` on. True when the frame is full and there is more.
bool RingDrain::collect(uint32_t& row, FrameBuilder& builder, std::vector<Release>& releases) {
  for (; row < rings_.size(); ++row)
    if (rings_[row].seen && !add_ring(row, builder, releases)) return true;
  return false;
}

// The drainer that died may have been amid a segment; nobody knows what it has of each ring.
void RingDrain::begin_segment_if_due() {
  const uint64_t most = most_bytes();
  if (most == 0 || (segment_ != 0 && journal_->segment_bytes() < most / kSegments)) return;
  journal_->begin_segment();
  ++segment_;
}

// In a new segment a ring is told from the begin of its block, known or not.
uint64_t RingDrain::first_unit(const Ring& ring, const View& view, uint64_t written) const {
  if (ring.segment == segment_) return ring.position;
  const uint64_t block = ring.position - ring.position % kTraceBlockBytes;
  return written - block <= view.count ? block : ring.position;
}

// `dropped` is read after the units: it cannot be less than what the kLost records in them say.
bool RingDrain::add_ring(uint32_t row, FrameBuilder& builder, std::vector<Release>& releases) {
  const auto view = this->view(row);
  if (!view) return true;
  const Ring& ring = rings_[row];
  const uint64_t written = view->head->written.load(std::memory_order_acquire);  // (A)
  SpanHead head{row, 0, first_unit(ring, *view, written), written, 0, 0};
  if (written - ring.position > view->count) {
    head.from = head.to;
    head.flags = kSpanDamaged;
    ++damaged_;
  }
  const auto repeated = static_cast<uint32_t>(head.flags == 0 ? ring.position - head.from : 0);
  head.flags |= repeated << kSpanRepeatedShift;
  head.dropped = view->head->dropped.load(std::memory_order_relaxed);
  head.first_drop_ticks = view->head->first_drop_ticks.load(std::memory_order_relaxed);
  if (head.to == ring.position && head.dropped == ring.dropped_written) return true;
  const size_t room = builder.room();
  const bool fits = head.to - head.from <= room;
  // What is known already does not fill a frame alone.
  if (!fits && room <= repeated) return false;
  if (!fits) head.to = head.from + room;
  copy(*view, head, builder.add(head));
  releases.push_back({row, {true, head.to, head.dropped, segment_}});
  return fits;
}

// Only after the frame is written: a drainer that dies in between leaves units that the journal
// has, and begin_ring() skips them.
void RingDrain::release(const std::vector<Release>& releases) {
  for (const Release& r : releases) {
    const auto view = this->view(r.row);
    if (!view) continue;
    units_moved_ += r.after.position - rings_[r.row].position;
    rings_[r.row] = r.after;
    release(*view, r.after.position);
  }
}

void RingDrain::limit() {
  const uint64_t most = most_bytes();
  if (most == 0 || journal_->kept_bytes() <= most) return;
  const bool keeps_newest = dump_.header().trace_stops_when_full == 0 && can_drop_;
  if (!keeps_newest || journal_->keep_newest(most) != 0) full_ = true;
}

}  // namespace mprof::dumper

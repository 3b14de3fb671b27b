// SPDX-License-Identifier: Apache-2.0
// Packets of a Perfetto trace: one sequence of them, in which each name, stack and track is
// described once, before its first use.
//
// Called by perfetto.cc
// Threads   One at a time.
// Memory    Grows with the number of different names and stacks.
// Fails     as TraceFile does.
#pragma once

#include <cstdint>
#include <map>
#include <protozero/pbf_writer.hpp>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "dumper/trace/names.h"
#include "dumper/trace/trace_file.h"

namespace mprof::dumper {

enum class PerfettoEvent : int32_t { kSliceBegin = 1, kSliceEnd, kInstant, kCounter };

// How the viewer sorts the tracks below one.
enum class ChildOrder : int32_t { kAny, kByName, kByTime, kByRank };

struct PerfettoPlace {
  uint64_t parent = 0;
  ChildOrder children = ChildOrder::kAny;
  int32_t rank = 0;
};

class PerfettoWriter {
 public:
  // `identity`, not 0 and below 2^20, keeps the ids of traces apart that are put into one file.
  PerfettoWriter(TraceFile& file, uint32_t identity, TraceNames& names);
  PerfettoWriter(const PerfettoWriter&) = delete;
  PerfettoWriter& operator=(const PerfettoWriter&) = delete;

  // First of all: what the times of the events are, by two clocks at the same moment.
  void begin(uint64_t monotonic_ns, uint64_t realtime_ns);
  // After the last event.
  void flush();

  // These describe a track and give its number, never 0.
  uint64_t add_process(uint32_t pid, std::string_view path, const std::vector<std::string>& command,
                       uint64_t start_ns);
  uint64_t add_thread(uint32_t pid, uint32_t tid, std::string_view name);
  uint64_t add_track(std::string_view name, const PerfettoPlace& place);
  uint64_t add_byte_counter(std::string_view name, uint64_t parent);

  uint64_t next_flow() { return salted(++flows_); }

  // Written when it is destroyed; one at a time.
  class Event {
   public:
    Event(PerfettoWriter& writer, PerfettoEvent type, uint64_t ns, uint64_t track);
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    ~Event();
    Event& category(std::string_view name);
    // One of few texts, or any text.
    Event& name(std::string_view name);
    Event& any_name(std::string_view name);
    Event& begins_flow(uint64_t flow);
    Event& ends_flow(uint64_t flow);
    Event& stack(uint32_t row);
    Event& value(int64_t value);
    Event& note(std::string_view key, uint64_t value);
    Event& note_address(std::string_view key, uint64_t address);
    Event& note_text(std::string_view key, std::string_view text);  // one of few
    Event& note_true(std::string_view key);

   private:
    template <class Put>
    Event& add_note(std::string_view key, Put&& put);

    PerfettoWriter& writer_;
    uint64_t ns_;
    protozero::pbf_writer message_;
  };

 private:
  struct TextHash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  using Texts = std::unordered_map<std::string, uint64_t, TextHash, std::equal_to<>>;

  [[nodiscard]] uint64_t salted(uint64_t number) const { return salt_ | number; }
  // With what was interned since the one before; `ns` null: of no time.
  void append_packet();
  void put_packet(const uint64_t* ns, protozero::pbf_tag_type field, const std::string& data);
  uint64_t put_track(std::string& descriptor);
  uint64_t intern(Texts& texts, protozero::pbf_tag_type field, std::string_view text);
  uint64_t intern_frame(const TraceFrame& frame);
  void intern_stack(uint64_t id, const std::vector<TraceFrame>& frames);
  // Its leaf as one reads it; empty: there is no stack.
  const std::string& site_of_stack(uint32_t row);
  TraceFile& file_;
  uint32_t identity_;
  uint64_t salt_;
  TraceNames& names_;
  uint64_t tracks_ = 0;
  uint64_t flows_ = 0;
  Texts categories_, event_names_, keys_, texts_, functions_, files_;
  std::map<std::tuple<uint64_t, uint64_t, uint32_t>, uint64_t> frames_;
  std::unordered_map<uint32_t, std::string> sites_;  // of the stacks that are described
  // Kept for their memory.
  std::string interned_, event_, packet_, bundle_, packed_;
};

}  // namespace mprof::dumper

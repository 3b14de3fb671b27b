// SPDX-License-Identifier: Apache-2.0
// Message layout: https://github.com/google/perfetto/tree/main/protos/perfetto/trace
// Repeated numbers of these messages are not packed.
#include "dumper/trace/perfetto_writer.h"

#include <zlib.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace mprof::dumper {
namespace {

using protozero::pbf_writer;

constexpr unsigned kIdentityShift = 32;
// The readers ask for less than 512 KiB when compressed.
constexpr size_t kBundleBytes = size_t{1} << 18;

enum Trace : uint32_t { kPacket = 1 };
enum TracePacket : uint32_t {
  kClockSnapshot = 6,
  kTimestamp = 8,
  kTrustedPacketSequenceId = 10,
  kTrackEvent = 11,
  kInternedData = 12,
  kSequenceFlags = 13,
  kCompressedPackets = 50,
  kTimestampClockId = 58,
  kTracePacketDefaults = 59,
  kTrackDescriptor = 60,
  kFirstPacketOnSequence = 87,
};
enum SequenceFlags : uint32_t { kIncrementalStateCleared = 1, kNeedsIncrementalState = 2 };
enum ClockSnapshot : uint32_t { kClocks = 1, kPrimaryTraceClock = 2 };
enum Clock : uint32_t { kClockId = 1, kClockTimestamp = 2 };
enum BuiltinClock : uint32_t { kRealtime = 1, kMonotonic = 3 };
enum InternedData : uint32_t {
  kEventCategories = 1,
  kEventNames = 2,
  kDebugAnnotationNames = 3,
  kFunctionNames = 5,
  kFrames = 6,
  kCallstacks = 7,
  kSourcePaths = 18,
  kDebugAnnotationStringValues = 29,
};
enum Interned : uint32_t { kIid = 1, kText = 2 };  // of all that are texts
enum Frame : uint32_t { kFunctionNameId = 2, kSourcePathIid = 5, kLineNumber = 6 };
enum Callstack : uint32_t { kFrameIds = 2 };
enum TrackDescriptor : uint32_t {
  kUuid = 1,
  kName = 2,
  kProcess = 3,
  kThread = 4,
  kParentUuid = 5,
  kCounterDescriptor = 8,
  kChildOrdering = 11,
  kSiblingOrderRank = 12,
};
enum ProcessDescriptor : uint32_t {
  kProcessPid = 1,
  kCmdline = 2,
  kProcessName = 6,
  kStartTimestampNs = 7,
};
enum ThreadDescriptor : uint32_t { kThreadPid = 1, kTid = 2, kThreadName = 5 };
enum CounterDescriptor : uint32_t { kUnit = 3 };
constexpr int32_t kUnitSizeBytes = 3;
enum TrackEvent : uint32_t {
  kCategoryIids = 3,
  kDebugAnnotations = 4,
  kType = 9,
  kNameIid = 10,
  kTrackUuid = 11,
  kEventName = 23,
  kCounterValue = 30,
  kFlowIds = 47,
  kTerminatingFlowIds = 48,
  kCallstackIid = 56,
};
enum DebugAnnotation : uint32_t {
  kAnnotationNameIid = 1,
  kBoolValue = 2,
  kUintValue = 3,
  kPointerValue = 7,
  kStringValueIid = 17,
};

// The texts of a protobuf are UTF-8; what a program names need not be.
std::string utf8(std::string_view text) {
  const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if (std::all_of(text.begin(), text.end(), is_ascii)) return std::string(text);
  using Json = nlohmann::json;
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace

PerfettoWriter::PerfettoWriter(TraceFile& file, uint32_t identity, TraceNames& names)
    : file_(file),
      identity_(identity),
      salt_(uint64_t{identity} << kIdentityShift),
      names_(names) {}

void PerfettoWriter::begin(uint64_t monotonic_ns, uint64_t realtime_ns) {
  packet_.clear();
  {
    pbf_writer packet(packet_);
    packet.add_uint32(kTrustedPacketSequenceId, identity_);
    packet.add_uint32(kSequenceFlags, kIncrementalStateCleared);
    packet.add_bool(kFirstPacketOnSequence, true);
    pbf_writer(packet, kTracePacketDefaults).add_uint32(kTimestampClockId, kMonotonic);
    pbf_writer snapshot(packet, kClockSnapshot);
    for (const auto& [id, ns] : {std::pair{kMonotonic, monotonic_ns}, {kRealtime, realtime_ns}}) {
      pbf_writer clock(snapshot, kClocks);
      clock.add_uint32(kClockId, id);
      clock.add_uint64(kClockTimestamp, ns);
    }
    snapshot.add_enum(kPrimaryTraceClock, kMonotonic);
  }
  append_packet();
}

void PerfettoWriter::append_packet() {
  pbf_writer(bundle_).add_message(kPacket, packet_);
  if (bundle_.size() >= kBundleBytes) flush();
}

// A bundle is a packet itself. Compressed it has about a tenth of the size.
void PerfettoWriter::flush() {
  if (bundle_.empty()) return;
  uLongf bytes = compressBound(bundle_.size());
  packed_.resize(bytes);
  if (compress2(reinterpret_cast<Bytef*>(packed_.data()), &bytes,
                reinterpret_cast<const Bytef*>(bundle_.data()), bundle_.size(),
                Z_BEST_SPEED) != Z_OK)
    throw std::runtime_error("Perfetto trace: compression failed");
  bundle_.clear();
  packet_.clear();
  pbf_writer(packet_).add_bytes(kCompressedPackets, packed_.data(), bytes);
  pbf_writer(bundle_).add_message(kPacket, packet_);
  file_.append(bundle_);
  bundle_.clear();
}

void PerfettoWriter::put_packet(const uint64_t* ns, protozero::pbf_tag_type field,
                                const std::string& data) {
  packet_.clear();
  pbf_writer packet(packet_);
  if (ns != nullptr) packet.add_uint64(kTimestamp, *ns);
  packet.add_uint32(kTrustedPacketSequenceId, identity_);
  packet.add_uint32(kSequenceFlags, kNeedsIncrementalState);
  if (!interned_.empty()) packet.add_message(kInternedData, interned_);
  interned_.clear();
  packet.add_message(field, data);
  append_packet();
}

// ---- tracks

uint64_t PerfettoWriter::put_track(std::string& descriptor) {
  const uint64_t uuid = salted(++tracks_);
  pbf_writer(descriptor).add_uint64(kUuid, uuid);
  put_packet(nullptr, kTrackDescriptor, descriptor);
  return uuid;
}

uint64_t PerfettoWriter::add_process(uint32_t pid, std::string_view path,
                                     const std::vector<std::string>& command, uint64_t start_ns) {
  std::string descriptor;
  {
    pbf_writer track(descriptor);
    pbf_writer process(track, kProcess);
    process.add_int32(kProcessPid, static_cast<int32_t>(pid));
    for (const std::string& argument : command) process.add_string(kCmdline, utf8(argument));
    process.add_string(kProcessName, utf8(path.substr(path.rfind('/') + 1)));
    process.add_int64(kStartTimestampNs, static_cast<int64_t>(start_ns));
  }
  return put_track(descriptor);
}

uint64_t PerfettoWriter::add_thread(uint32_t pid, uint32_t tid, std::string_view name) {
  std::string descriptor;
  {
    pbf_writer track(descriptor);
    pbf_writer thread(track, kThread);
    thread.add_int32(kThreadPid, static_cast<int32_t>(pid));
    thread.add_int64(kTid, tid);
    thread.add_string(kThreadName, utf8(name));
  }
  return put_track(descriptor);
}

uint64_t PerfettoWriter::add_track(std::string_view name, const PerfettoPlace& place) {
  std::string descriptor;
  pbf_writer track(descriptor);
  track.add_string(kName, utf8(name));
  track.add_uint64(kParentUuid, place.parent);
  if (place.children != ChildOrder::kAny)
    track.add_enum(kChildOrdering, static_cast<int32_t>(place.children));
  if (place.rank != 0) track.add_int32(kSiblingOrderRank, place.rank);
  return put_track(descriptor);
}

uint64_t PerfettoWriter::add_byte_counter(std::string_view name, uint64_t parent) {
  std::string descriptor;
  {
    pbf_writer track(descriptor);
    track.add_string(kName, utf8(name));
    track.add_uint64(kParentUuid, parent);
    pbf_writer(track, kCounterDescriptor).add_enum(kUnit, kUnitSizeBytes);
  }
  return put_track(descriptor);
}

// ---- what is described once

uint64_t PerfettoWriter::intern(Texts& texts, protozero::pbf_tag_type field,
                                std::string_view text) {
  if (const auto found = texts.find(text); found != texts.end()) return found->second;
  const uint64_t id = texts.size() + 1;
  texts.emplace(text, id);
  pbf_writer interned(interned_);
  pbf_writer entry(interned, field);
  entry.add_uint64(kIid, id);
  entry.add_string(kText, utf8(text));
  return id;
}

uint64_t PerfettoWriter::intern_frame(const TraceFrame& frame) {
  const uint64_t function = intern(functions_, kFunctionNames, frame.function);
  const uint64_t file = frame.file.empty() ? 0 : intern(files_, kSourcePaths, frame.file);
  const auto [found, is_new] =
      frames_.try_emplace({function, file, frame.line}, frames_.size() + 1);
  if (!is_new) return found->second;
  pbf_writer interned(interned_);
  pbf_writer entry(interned, kFrames);
  entry.add_uint64(kIid, found->second);
  entry.add_uint64(kFunctionNameId, function);
  if (file != 0) entry.add_uint64(kSourcePathIid, file);
  if (frame.line != 0) entry.add_uint32(kLineNumber, frame.line);
  return found->second;
}

// Outermost first.
void PerfettoWriter::intern_stack(uint64_t id, const std::vector<TraceFrame>& frames) {
  std::vector<uint64_t> ids;
  for (auto frame = frames.rbegin(); frame != frames.rend(); ++frame)
    ids.push_back(intern_frame(*frame));
  pbf_writer interned(interned_);
  pbf_writer entry(interned, kCallstacks);
  entry.add_uint64(kIid, id);
  for (const uint64_t frame : ids) entry.add_uint64(kFrameIds, frame);
}

const std::string& PerfettoWriter::site_of_stack(uint32_t row) {
  const auto [found, is_new] = sites_.try_emplace(row);
  if (!is_new) return found->second;
  const std::vector<TraceFrame>& frames = names_.stack(row);
  if (frames.empty()) return found->second;
  intern_stack(uint64_t{row} + 1, frames);
  return found->second = site_text(frames.front());
}

// ---- events

PerfettoWriter::Event::Event(PerfettoWriter& writer, PerfettoEvent type, uint64_t ns,
                             uint64_t track)
    : writer_(writer), ns_(ns), message_(writer.event_) {
  writer.event_.clear();
  message_.add_enum(kType, static_cast<int32_t>(type));
  message_.add_uint64(kTrackUuid, track);
}

PerfettoWriter::Event::~Event() { writer_.put_packet(&ns_, kTrackEvent, writer_.event_); }

PerfettoWriter::Event& PerfettoWriter::Event::category(std::string_view name) {
  message_.add_uint64(kCategoryIids, writer_.intern(writer_.categories_, kEventCategories, name));
  return *this;
}

PerfettoWriter::Event& PerfettoWriter::Event::name(std::string_view name) {
  message_.add_uint64(kNameIid, writer_.intern(writer_.event_names_, kEventNames, name));
  return *this;
}

PerfettoWriter::Event& PerfettoWriter::Event::any_name(std::string_view name) {
  message_.add_string(kEventName, utf8(name));
  return *this;
}

PerfettoWriter::Event& PerfettoWriter::Event::begins_flow(uint64_t flow) {
  message_.add_fixed64(kFlowIds, flow);
  return *this;
}

PerfettoWriter::Event& PerfettoWriter::Event::ends_flow(uint64_t flow) {
  message_.add_fixed64(kTerminatingFlowIds, flow);
  return *this;
}

// Viewers that know no stacks of events show at least the place.
PerfettoWriter::Event& PerfettoWriter::Event::stack(uint32_t row) {
  if (row == format::kNoRow) return *this;
  const std::string& site = writer_.site_of_stack(row);
  if (site.empty()) return *this;
  message_.add_uint64(kCallstackIid, uint64_t{row} + 1);
  return note_text("at", site);
}

PerfettoWriter::Event& PerfettoWriter::Event::value(int64_t value) {
  message_.add_int64(kCounterValue, value);
  return *this;
}

template <class Put>
PerfettoWriter::Event& PerfettoWriter::Event::add_note(std::string_view key, Put&& put) {
  pbf_writer annotation(message_, kDebugAnnotations);
  annotation.add_uint64(kAnnotationNameIid,
                        writer_.intern(writer_.keys_, kDebugAnnotationNames, key));
  put(annotation);
  return *this;
}

PerfettoWriter::Event& PerfettoWriter::Event::note(std::string_view key, uint64_t value) {
  return add_note(key, [&](pbf_writer& note) { note.add_uint64(kUintValue, value); });
}

PerfettoWriter::Event& PerfettoWriter::Event::note_address(std::string_view key, uint64_t address) {
  return add_note(key, [&](pbf_writer& note) { note.add_uint64(kPointerValue, address); });
}

PerfettoWriter::Event& PerfettoWriter::Event::note_text(std::string_view key,
                                                        std::string_view text) {
  const uint64_t id = writer_.intern(writer_.texts_, kDebugAnnotationStringValues, text);
  return add_note(key, [&](pbf_writer& note) { note.add_uint64(kStringValueIid, id); });
}

PerfettoWriter::Event& PerfettoWriter::Event::note_true(std::string_view key) {
  return add_note(key, [](pbf_writer& note) { note.add_bool(kBoolValue, true); });
}

}  // namespace mprof::dumper

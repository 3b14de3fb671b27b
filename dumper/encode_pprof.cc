// SPDX-License-Identifier: Apache-2.0
// Message layout: https://github.com/google/pprof/blob/main/proto/profile.proto
#include "dumper/encode_pprof.h"

#include <zlib.h>

#include <protozero/pbf_writer.hpp>
#include <stdexcept>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mprof::dumper {
namespace {

// Entry 0 must be "": every optional text of the format says "none" with index 0.
class StringTable {
 public:
  StringTable() { index(""); }

  int64_t index(std::string_view text) {
    const auto [row, is_new] = rows_.try_emplace(text, static_cast<int64_t>(strings_.size()));
    if (is_new) strings_.push_back(text);
    return row->second;
  }
  const std::vector<std::string_view>& strings() const { return strings_; }

 private:
  // Views into the profile (or literals), which outlives the encoder.
  std::unordered_map<std::string_view, int64_t> rows_;
  std::vector<std::string_view> strings_;
};

struct MappingFlags {
  bool functions = true;
  bool filenames = true;
  bool line_numbers = true;
};

class Encoder {
 public:
  explicit Encoder(const Profile& profile) : profile_(profile), writer_(bytes_) {}

  std::string run() {
    for (const ValueType& type : profile_.types) value_type(1, type);
    for (const Sample& s : profile_.samples) sample(s);
    mappings();
    for (size_t i = 0; i < profile_.locations.size(); ++i) location(i);
    for (size_t i = 0; i < profile_.functions.size(); ++i) function(i);
    header();
    for (std::string_view text : table_.strings()) writer_.add_string(6, text.data(), text.size());
    return std::move(bytes_);
  }

 private:
  using Writer = protozero::pbf_writer;

  void value_type(protozero::pbf_tag_type field, const ValueType& type) {
    Writer message(writer_, field);
    optional(message, 1, table_.index(type.type));
    optional(message, 2, table_.index(type.unit));
  }

  void sample(const Sample& sample) {
    Writer message(writer_, 2);
    std::vector<uint64_t> ids(sample.locations.begin(), sample.locations.end());
    for (uint64_t& id : ids) ++id;
    message.add_packed_uint64(1, ids.begin(), ids.end());
    message.add_packed_int64(2, sample.values.begin(), sample.values.end());
    for (const Label& l : sample.labels) label(message, l);
  }

  // The value is written even when it is 0: its presence tells a number from a text.
  void label(Writer& parent, const Label& label) {
    Writer message(parent, 3);
    message.add_int64(1, table_.index(label.key));
    if (!label.is_number) {
      message.add_int64(2, table_.index(label.str));
      return;
    }
    message.add_int64(3, label.num);
    optional(message, 4, table_.index(label.unit));
  }

  // pprof does not symbolize a mapping that has a flag, so a flag is a claim about every location.
  std::vector<MappingFlags> whole_mappings() const {
    std::vector<MappingFlags> flags(profile_.mappings.size());
    for (const Location& l : profile_.locations) {
      if (l.mapping < 0) continue;
      MappingFlags& whole = flags[static_cast<size_t>(l.mapping)];
      if (l.lines.empty()) whole = {false, false, false};
      for (const Line& line : l.lines) {
        const Function& f = profile_.functions[line.function];
        whole.functions &= !f.name.empty();
        whole.filenames &= !f.file.empty();
        whole.line_numbers &= line.line != 0;
      }
    }
    return flags;
  }

  // Mappings may overlap: pprof finds a location's mapping by id and never by address, also while
  // it merges and symbolizes, so each keeps its true addresses.
  void mappings() {
    const std::vector<MappingFlags> whole = whole_mappings();
    for (size_t i = 0; i < whole.size(); ++i) mapping(i, whole[i]);
    if (whole.empty() && !profile_.locations.empty()) placeholder_mapping();
  }

  void mapping(size_t index, const MappingFlags& whole) {
    const Mapping& m = profile_.mappings[index];
    Writer message(writer_, 3);
    message.add_uint64(1, index + 1);
    optional(message, 2, m.start);
    optional(message, 3, m.limit);
    optional(message, 4, m.file_offset);
    // Code without a file (generated at run time). Named, or pprof warns that it misses a binary;
    // it does not look for files of names in brackets.
    optional(message, 5, table_.index(m.path.empty() ? std::string_view("[anon]") : m.path));
    optional(message, 6, table_.index(m.build_id));
    optional(message, 7, m.has_functions && whole.functions);
    optional(message, 8, m.has_filenames && whole.filenames);
    optional(message, 9, m.has_line_numbers && whole.line_numbers);
    optional(message, 10, m.has_inline_frames && whole.functions);
  }

  // A profile of synthetic frames only. Without any mapping pprof invents one, looks for its file
  // and warns "Main binary filename not available".
  void placeholder_mapping() {
    Writer message(writer_, 3);
    message.add_uint64(1, 1);
    message.add_bool(7, true);
  }

  void location(size_t index) {
    const Location& l = profile_.locations[index];
    Writer message(writer_, 4);
    message.add_uint64(1, index + 1);
    optional(message, 2, static_cast<uint64_t>(l.mapping + 1));
    optional(message, 3, l.address);
    for (const Line& line : l.lines) {
      Writer sub(message, 4);
      sub.add_uint64(1, uint64_t{line.function} + 1);
      optional(sub, 2, line.line);
      optional(sub, 3, line.column);
    }
    optional(message, 5, l.is_folded);
  }

  void function(size_t index) {
    const Function& f = profile_.functions[index];
    Writer message(writer_, 5);
    message.add_uint64(1, index + 1);
    optional(message, 2, table_.index(f.name));
    optional(message, 3, table_.index(f.system_name));
    optional(message, 4, table_.index(f.file));
    optional(message, 5, f.start_line);
  }

  void header() {
    optional(writer_, 7, table_.index(profile_.drop_frames));
    optional(writer_, 8, table_.index(profile_.keep_frames));
    optional(writer_, 9, profile_.time_nanos);
    optional(writer_, 10, profile_.duration_nanos);
    if (!(profile_.period_type == ValueType{})) value_type(11, profile_.period_type);
    optional(writer_, 12, profile_.period);
    std::vector<int64_t> comments;
    for (const std::string& comment : profile_.comments) comments.push_back(table_.index(comment));
    writer_.add_packed_int64(13, comments.begin(), comments.end());
    if (profile_.default_type >= 0)
      optional(writer_, 14,
               table_.index(profile_.types[static_cast<size_t>(profile_.default_type)].type));
    optional(writer_, 15, table_.index(profile_.doc_url));
  }

  // proto3: a zero is left out.
  static void optional(Writer& message, protozero::pbf_tag_type field, int64_t value) {
    if (value != 0) message.add_int64(field, value);
  }
  static void optional(Writer& message, protozero::pbf_tag_type field, uint64_t value) {
    if (value != 0) message.add_uint64(field, value);
  }
  static void optional(Writer& message, protozero::pbf_tag_type field, bool value) {
    if (value) message.add_bool(field, true);
  }

  const Profile& profile_;
  std::string bytes_;
  Writer writer_;
  StringTable table_;
};

struct Deflater {
  z_stream stream{};
  Deflater() {
    // 16 asks for a gzip header; zlib fills it with a zero time and no name.
    constexpr int kGzipWindowBits = 15 + 16;
    constexpr int kMemoryLevel = 8;
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzipWindowBits, kMemoryLevel,
                     Z_DEFAULT_STRATEGY) != Z_OK)
      throw std::runtime_error("gzip: zlib cannot be initialised");
  }
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;
  ~Deflater() { deflateEnd(&stream); }
};

// In chunks, because zlib counts its input and output in 32 bits.
std::string gzip(std::string_view data) {
  constexpr size_t kChunkBytes = size_t{1} << 20;
  Deflater deflater;
  z_stream& stream = deflater.stream;
  std::string result;
  std::vector<Bytef> out(kChunkBytes);
  int status = Z_OK;
  while (status == Z_OK || status == Z_BUF_ERROR) {
    const std::string_view in = data.substr(0, kChunkBytes);
    // zlib's interface is not const-correct; it does not write to its input.
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = out.data();
    stream.avail_out = static_cast<uInt>(out.size());
    status = deflate(&stream, in.size() == data.size() ? Z_FINISH : Z_NO_FLUSH);
    data.remove_prefix(in.size() - stream.avail_in);
    result.append(reinterpret_cast<const char*>(out.data()), out.size() - stream.avail_out);
  }
  if (status != Z_STREAM_END) throw std::runtime_error("gzip: compression failed");
  return result;
}

}  // namespace

std::string encode_pprof_uncompressed(const Profile& profile) {
  check(profile);
  return Encoder(profile).run();
}

std::string encode_pprof(const Profile& profile) {
  return gzip(encode_pprof_uncompressed(profile));
}

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/decode_pprof.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <optional>
#include <protozero/pbf_reader.hpp>
#include <string>
#include <utility>
#include <vector>

namespace mprof::dumper {
namespace {

using Reader = protozero::pbf_reader;
using Wire = protozero::pbf_wire_type;

[[noreturn]] void fail(const std::string& what) { throw DecodeError("pprof profile: " + what); }

// ---- gzip

struct Inflater {
  z_stream stream{};
  Inflater() {
    constexpr int kGzipWindowBits = 15 + 16;
    if (inflateInit2(&stream, kGzipWindowBits) != Z_OK) fail("zlib cannot be initialised");
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { inflateEnd(&stream); }
};

class Decompressor {
 public:
  Decompressor(std::string_view input, uint64_t limit_bytes)
      : input_(input), limit_bytes_(limit_bytes) {}

  // A gzip file may have several members; their contents follow each other.
  std::string run() {
    while (used_ < input_.size() || !at_member_end_) step();
    return std::move(output_);
  }

 private:
  void step() {
    constexpr size_t kInputBytes = size_t{1} << 20;
    const std::string_view in = input_.substr(used_, kInputBytes);
    z_stream& stream = inflater_.stream;
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = chunk_;
    stream.avail_out = sizeof chunk_;
    const int status = inflate(&stream, Z_NO_FLUSH);
    used_ += in.size() - stream.avail_in;
    take(sizeof chunk_ - stream.avail_out);
    after(status, stream.msg);
  }

  void take(size_t produced) {
    if (output_.size() + produced > limit_bytes_)
      fail(fmt::format("decompresses to more than {} bytes, the limit", limit_bytes_));
    output_.append(reinterpret_cast<const char*>(chunk_), produced);
  }

  void after(int status, const char* message) {
    at_member_end_ = status == Z_STREAM_END;
    if (at_member_end_) {
      inflateReset(&inflater_.stream);
    } else if (status == Z_BUF_ERROR || (status == Z_OK && used_ == input_.size() && idle())) {
      fail(fmt::format("gzip data end early, after {} bytes", input_.size()));
    } else if (status != Z_OK) {
      fail(
          fmt::format("gzip data at byte {}: {}", used_, message != nullptr ? message : "damaged"));
    }
  }

  // No input left and room in the output: nothing more can come.
  bool idle() const { return inflater_.stream.avail_out != 0; }

  std::string_view input_;
  uint64_t limit_bytes_;
  size_t used_ = 0;
  bool at_member_end_ = false;
  std::string output_;
  Inflater inflater_;
  Bytef chunk_[64 * 1024];
};

bool is_gzip(std::string_view bytes) { return bytes.starts_with("\x1f\x8b"); }

// ---- protobuf, first pass: rows as they stand in the file, texts as table indices

struct RawLabel {
  int64_t key = 0, str = 0, num = 0, unit = 0;
  bool has_num = false;
};
struct RawMapping {
  uint64_t id = 0;
  Mapping mapping;
  int64_t path = 0, build_id = 0;
};
struct RawFunction {
  uint64_t id = 0;
  int64_t name = 0, system_name = 0, file = 0, start_line = 0;
};

// Rows by their id. A sorted vector: ids may be sparse, so they cannot be an index, and are chosen
// by the writer, so a hash table could be made slow.
class IdIndex {
 public:
  void add(uint64_t id, const char* what) {
    if (id == 0) fail(fmt::format("a {} has the reserved id 0", what));
    rows_.emplace_back(id, static_cast<uint32_t>(rows_.size()));
  }
  void finish(const char* what) {
    std::sort(rows_.begin(), rows_.end());
    for (size_t i = 1; i < rows_.size(); ++i)
      if (rows_[i].first == rows_[i - 1].first)
        fail(fmt::format("two {}s have the id {}", what, rows_[i].first));
  }
  uint32_t find(uint64_t id, const char* what, const char* from) const {
    // Nearly all writers count from 1.
    if (id - 1 < rows_.size() && rows_[id - 1].first == id) return rows_[id - 1].second;
    const auto row = std::lower_bound(rows_.begin(), rows_.end(), std::pair{id, uint32_t{0}});
    if (row == rows_.end() || row->first != id)
      fail(fmt::format("a {} names {} {}, which does not exist", from, what, id));
    return row->second;
  }

 private:
  std::vector<std::pair<uint64_t, uint32_t>> rows_;
};

class Decoder {
 public:
  Decoder(std::string_view bytes, uint64_t limit_bytes)
      : bytes_(bytes), budget_bytes_(limit_bytes), limit_bytes_(limit_bytes) {}

  // Two passes over the bytes, because the string table and the rows that samples name usually
  // come after the samples, and keeping samples undecoded costs no memory.
  Profile run() {
    each_field(view(bytes_), "Profile", [this](Reader& r) { first_pass(r); });
    if (strings_.empty() || !strings_[0].empty())
      fail(strings_.empty() ? "it has no string table" : "string 0 of the table is not empty");
    mapping_ids_.finish("mapping");
    function_ids_.finish("function");
    resolve_header();
    for (const RawMapping& raw : mappings_) resolve(raw);
    for (const RawFunction& raw : functions_) resolve(raw);
    each_field(view(bytes_), "Profile", [this](Reader& r) {
      if (r.tag() == 4)
        location(message(r));
      else
        r.skip();
    });
    location_ids_.finish("location");
    each_field(view(bytes_), "Profile", [this](Reader& r) {
      if (r.tag() == 2)
        sample(message(r));
      else
        r.skip();
    });
    return std::move(profile_);
  }

 private:
  static protozero::data_view view(std::string_view bytes) { return {bytes.data(), bytes.size()}; }
  static std::string_view view(const protozero::data_view& bytes) {
    return {bytes.data(), bytes.size()};
  }

  size_t offset(const Reader& reader) const {
    return static_cast<size_t>(reader.data().data() - bytes_.data());
  }

  [[noreturn]] void fail_at(size_t at, const char* where, const std::string& what) const {
    fail(fmt::format("byte {}, in {}: {}", at, where, what));
  }

  // Calls `take` for each field of a message; it must consume the value. protozero reports damage
  // by exceptions without a place, so the place is added here.
  template <typename Take>
  void each_field(protozero::data_view bytes, const char* where, const Take& take) {
    const char* const outer = std::exchange(where_, where);
    Reader reader(bytes);
    size_t at = offset(reader);
    try {
      while (true) {
        at = offset(reader);
        if (!reader.next()) break;
        take(reader);
      }
    } catch (const protozero::exception& error) {
      fail_at(at, where, error.what());
    }
    where_ = outer;
  }

  void expect(const Reader& reader, Wire type) const {
    if (reader.wire_type() != type)
      fail_at(offset(reader), where_,
              fmt::format("field {} has wire type {} instead of {}", reader.tag(),
                          static_cast<uint32_t>(reader.wire_type()), static_cast<uint32_t>(type)));
  }
  uint64_t unsigned_number(Reader& reader) const {
    expect(reader, Wire::varint);
    return reader.get_uint64();
  }
  int64_t number(Reader& reader) const { return static_cast<int64_t>(unsigned_number(reader)); }
  bool flag(Reader& reader) const { return unsigned_number(reader) != 0; }
  protozero::data_view message(Reader& reader) const {
    expect(reader, Wire::length_delimited);
    return reader.get_view();
  }

  // One value, or a packed run of them.
  template <typename Number>
  void numbers(Reader& reader, std::vector<Number>& out) {
    if (reader.wire_type() == Wire::varint) {
      charge(sizeof(Number));
      out.push_back(static_cast<Number>(reader.get_uint64()));
      return;
    }
    const protozero::data_view packed = message(reader);
    const char* at = packed.data();
    const char* const end = at + packed.size();
    while (at != end) {
      charge(sizeof(Number));
      out.push_back(static_cast<Number>(protozero::decode_varint(&at, end)));
    }
  }

  void charge(uint64_t bytes) {
    if (bytes > budget_bytes_)
      fail(fmt::format("it needs more than {} bytes of memory, the limit", limit_bytes_));
    budget_bytes_ -= bytes;
  }

  // Allocation overhead of a row; generous, so that the limit errs to the safe side.
  template <typename Row>
  void charge_row() {
    charge(2 * sizeof(Row) + 32);
  }

  std::string text(int64_t index, const char* what) {
    if (index < 0 || static_cast<uint64_t>(index) >= strings_.size())
      fail(fmt::format("{} names string {} of {}", what, index, strings_.size()));
    const std::string_view text = strings_[static_cast<size_t>(index)];
    charge(text.size() + 1);
    return std::string(text);
  }

  void first_pass(Reader& r) {
    switch (r.tag()) {
      case 1: value_type(message(r), types_.emplace_back()); return charge_row<ValueType>();
      case 3: return raw_mapping(message(r));
      case 5: return raw_function(message(r));
      case 6:
        charge_row<std::string_view>();
        strings_.push_back(view(message(r)));
        return;
      case 7: drop_frames_ = number(r); return;
      case 8: keep_frames_ = number(r); return;
      case 9: return time(r);
      case 10: profile_.duration_nanos = number(r); return;
      case 11: return value_type(message(r), period_type_);
      case 12: profile_.period = number(r); return;
      case 13: return numbers(r, comments_);
      case 14: default_type_ = number(r); return;
      case 15: doc_url_ = number(r); return;
      default: r.skip();
    }
  }

  // Protobuf would merge two concatenated files silently into nonsense.
  void time(Reader& r) {
    if (profile_.time_nanos != 0) fail("two times: these are concatenated profiles");
    profile_.time_nanos = number(r);
  }

  using RawType = std::pair<int64_t, int64_t>;
  void value_type(protozero::data_view bytes, RawType& out) {
    each_field(bytes, "ValueType", [this, &out](Reader& r) {
      switch (r.tag()) {
        case 1: out.first = number(r); return;
        case 2: out.second = number(r); return;
        default: r.skip();
      }
    });
  }

  void raw_mapping(protozero::data_view bytes) {
    charge_row<RawMapping>();
    RawMapping& raw = mappings_.emplace_back();
    Mapping& m = raw.mapping;
    each_field(bytes, "Mapping", [&](Reader& r) {
      switch (r.tag()) {
        case 1: raw.id = unsigned_number(r); return;
        case 2: m.start = unsigned_number(r); return;
        case 3: m.limit = unsigned_number(r); return;
        case 4: m.file_offset = unsigned_number(r); return;
        case 5: raw.path = number(r); return;
        case 6: raw.build_id = number(r); return;
        case 7: m.has_functions = flag(r); return;
        case 8: m.has_filenames = flag(r); return;
        case 9: m.has_line_numbers = flag(r); return;
        case 10: m.has_inline_frames = flag(r); return;
        default: r.skip();
      }
    });
    mapping_ids_.add(raw.id, "mapping");
  }

  void raw_function(protozero::data_view bytes) {
    charge_row<RawFunction>();
    RawFunction& raw = functions_.emplace_back();
    each_field(bytes, "Function", [&](Reader& r) {
      switch (r.tag()) {
        case 1: raw.id = unsigned_number(r); return;
        case 2: raw.name = number(r); return;
        case 3: raw.system_name = number(r); return;
        case 4: raw.file = number(r); return;
        case 5: raw.start_line = number(r); return;
        default: r.skip();
      }
    });
    function_ids_.add(raw.id, "function");
  }

  // ---- second pass: checked values

  ValueType resolve(const RawType& raw, const char* what) {
    return {text(raw.first, what), text(raw.second, what)};
  }

  void resolve_header() {
    for (const RawType& raw : types_) profile_.types.push_back(resolve(raw, "a sample type"));
    profile_.period_type = resolve(period_type_, "the period type");
    profile_.drop_frames = text(drop_frames_, "drop_frames");
    profile_.keep_frames = text(keep_frames_, "keep_frames");
    profile_.doc_url = text(doc_url_, "doc_url");
    for (int64_t comment : comments_) {
      charge_row<std::string>();
      profile_.comments.push_back(text(comment, "a comment"));
    }
    resolve_default_type();
  }

  // A default that is not among the types is "no default" for pprof too.
  void resolve_default_type() {
    const std::string name = text(default_type_, "default_sample_type");
    if (name.empty()) return;
    const auto same = [&name](const ValueType& type) { return type.type == name; };
    const auto found = std::find_if(profile_.types.begin(), profile_.types.end(), same);
    if (found != profile_.types.end())
      profile_.default_type = static_cast<int>(found - profile_.types.begin());
  }

  void resolve(const RawMapping& raw) {
    charge_row<Mapping>();
    Mapping& mapping = profile_.mappings.emplace_back(raw.mapping);
    mapping.path = text(raw.path, "a mapping");
    mapping.build_id = text(raw.build_id, "a mapping");
  }

  void resolve(const RawFunction& raw) {
    charge_row<Function>();
    Function& function = profile_.functions.emplace_back();
    function.name = text(raw.name, "a function");
    function.system_name = text(raw.system_name, "a function");
    function.file = text(raw.file, "a function");
    function.start_line = raw.start_line;
  }

  void location(protozero::data_view bytes) {
    charge_row<Location>();
    Location& location = profile_.locations.emplace_back();
    uint64_t id = 0;
    uint64_t mapping = 0;
    each_field(bytes, "Location", [&](Reader& r) {
      switch (r.tag()) {
        case 1: id = unsigned_number(r); return;
        case 2: mapping = unsigned_number(r); return;
        case 3: location.address = unsigned_number(r); return;
        case 4: location.lines.push_back(line(message(r))); return;
        case 5: location.is_folded = flag(r); return;
        default: r.skip();
      }
    });
    location_ids_.add(id, "location");
    if (mapping != 0)
      location.mapping = static_cast<int32_t>(mapping_ids_.find(mapping, "mapping", "location"));
  }

  Line line(protozero::data_view bytes) {
    charge_row<Line>();
    Line line;
    uint64_t function = 0;
    each_field(bytes, "Line", [&](Reader& r) {
      switch (r.tag()) {
        case 1: function = unsigned_number(r); return;
        case 2: line.line = number(r); return;
        case 3: line.column = number(r); return;
        default: r.skip();
      }
    });
    line.function =
        function == 0 ? nameless_function() : function_ids_.find(function, "function", "line");
    return line;
  }

  // Of lines without one, which pprof accepts.
  uint32_t nameless_function() {
    if (!nameless_function_) {
      nameless_function_ = static_cast<uint32_t>(profile_.functions.size());
      profile_.functions.emplace_back();
    }
    return *nameless_function_;
  }

  void sample(protozero::data_view bytes) {
    charge_row<Sample>();
    Sample& sample = profile_.samples.emplace_back();
    ids_.clear();
    each_field(bytes, "Sample", [&](Reader& r) {
      switch (r.tag()) {
        case 1: return numbers(r, ids_);
        case 2: return numbers(r, sample.values);
        case 3: sample.labels.push_back(label(message(r))); return;
        default: r.skip();
      }
    });
    for (uint64_t id : ids_)
      sample.locations.push_back(location_ids_.find(id, "location", "sample"));
    if (sample.values.size() != profile_.types.size())
      fail(fmt::format("sample {} has {} values for {} types", profile_.samples.size() - 1,
                       sample.values.size(), profile_.types.size()));
  }

  Label label(protozero::data_view bytes) {
    charge_row<Label>();
    RawLabel raw;
    each_field(bytes, "Label", [&](Reader& r) {
      switch (r.tag()) {
        case 1: raw.key = number(r); return;
        case 2: raw.str = number(r); return;
        case 3:
          raw.num = number(r);
          raw.has_num = true;
          return;
        case 4: raw.unit = number(r); return;
        default: r.skip();
      }
    });
    // Writers that leave out zeros make the text "" and the number 0 look alike; only a number has
    // a unit.
    const bool is_number = raw.str == 0 && (raw.has_num || raw.unit != 0);
    return {text(raw.key, "a label"), text(raw.str, "a label"), raw.num, text(raw.unit, "a label"),
            is_number};
  }

  std::string_view bytes_;
  uint64_t budget_bytes_;
  uint64_t limit_bytes_;
  const char* where_ = "Profile";  // the message being read, for errors
  Profile profile_;

  std::vector<std::string_view> strings_;
  std::vector<RawType> types_;
  RawType period_type_;
  std::vector<RawMapping> mappings_;
  std::vector<RawFunction> functions_;
  std::vector<int64_t> comments_;
  int64_t drop_frames_ = 0, keep_frames_ = 0, doc_url_ = 0, default_type_ = 0;
  IdIndex mapping_ids_, function_ids_, location_ids_;
  std::optional<uint32_t> nameless_function_;
  std::vector<uint64_t> ids_;  // of the sample being read
};

uint64_t multiple_of(uint64_t bytes, uint64_t times, uint64_t most, const DecodeLimits& limits) {
  return std::min(most, limits.free_bytes + bytes * times);
}

Profile decode_plain(std::string_view bytes, const DecodeLimits& limits) {
  return Decoder(bytes,
                 multiple_of(bytes.size(), limits.most_memory_to_one, limits.profile_bytes, limits))
      .run();
}

}  // namespace

Profile decode_pprof(std::string_view bytes, const DecodeLimits& limits) {
  if (bytes.empty()) fail("the file is empty");
  if (!is_gzip(bytes)) {
    if (bytes.size() > limits.decompressed_bytes)
      fail(fmt::format("it has more than {} bytes, the limit", limits.decompressed_bytes));
    return decode_plain(bytes, limits);
  }
  const uint64_t most =
      multiple_of(bytes.size(), limits.most_unpacked_to_one, limits.decompressed_bytes, limits);
  const std::string plain = Decompressor(bytes, most).run();
  if (plain.empty()) fail("the file is empty inside its gzip wrapper");
  return decode_plain(plain, limits);
}

}  // namespace mprof::dumper

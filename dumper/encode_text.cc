// SPDX-License-Identifier: Apache-2.0
#include "dumper/encode_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <span>
#include <stdexcept>
#include <vector>

#include "dumper/terminal_text.h"

namespace mprof::dumper {
namespace {

// pprof reads lines with a 64 KiB buffer and rejects the whole file for a longer one.
constexpr size_t kMaxLineBytes = 60'000;

template <typename... Args>
void append(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

// Names come from anywhere; a line break or tab in one would start a new line or column.
std::string one_line(std::string_view text) {
  return printable(text.substr(0, kMaxLineBytes / 4), ' ');
}

// A name that pprof reads as one word, does not look up as a file (brackets), and shows whole.
std::string bracketed(std::string_view name) {
  if (name.starts_with('[') && name.ends_with(']')) name = name.substr(1, name.size() - 2);
  std::string result = printable(name.substr(0, 200), '_');
  for (char& c : result) {
    if (c == ' ') c = '_';
    if (c == '/') c = '|';
  }
  return "[" + result + "]";
}

struct MapLine {
  uint64_t start, limit, file_offset;
  std::string path;
};

// What the text form says about addresses. It names a frame by its address alone and pprof takes
// the first mapping that contains it, so each address must be in exactly one mapping:
//   - a mapping that overlaps an earlier one (a library that came where another was unloaded) moves
//     to a free range, with its locations; the offset in the file, all that symbolization needs,
//     stays the same;
//   - a synthetic frame gets a page of its own, "mapped" from a file with the frame's name;
//   - an address outside of all mappings gets a mapping "[unknown]", or pprof warns.
// The free range is where no Linux program has memory (not canonical on x86-64), but below 2^63:
// pprof takes higher addresses for the kernel's.
class TextAddresses {
 public:
  explicit TextAddresses(const Profile& profile) : profile_(profile) {
    for (const Mapping& mapping : profile.mappings) place(mapping);
    for (const Location& location : profile.locations) addresses_.push_back(place(location));
  }

  uint64_t of(uint32_t location) const { return addresses_[location]; }
  uint64_t synthetic(const std::string& name) {
    const auto [row, is_new] = synthetic_.try_emplace(bracketed(name), next_free_);
    if (is_new) add(MapLine{take_free(kPage), 0, 0, row->first}, kPage);
    return row->second;
  }
  const std::vector<MapLine>& map() const { return map_; }
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  static constexpr uint64_t kPage = 4096;
  static constexpr uint64_t kFree = uint64_t{1} << 62;

  void place(const Mapping& m) {
    moved_by_.push_back(0);
    if (m.start >= m.limit) return;
    const uint64_t size = m.limit - m.start;
    uint64_t start = m.start;
    if (overlaps(start, m.limit)) start = moved(m, size);
    moved_by_.back() = start - m.start;
    add(MapLine{start, 0, m.file_offset, m.path.empty() ? "[anon]" : one_line(m.path)}, size);
  }

  uint64_t moved(const Mapping& m, uint64_t size) {
    const uint64_t start = take_free(size);
    notes_.push_back(
        fmt::format("{} was loaded at {:#x}, where other code was at another time; shown at {:#x}",
                    one_line(m.path), m.start, start));
    return start;
  }

  // A page between any two, because pprof joins neighbours of the same file.
  uint64_t take_free(uint64_t size) {
    const uint64_t start = next_free_;
    next_free_ += (size + 2 * kPage - 1) / kPage * kPage;
    return start;
  }

  void add(MapLine line, uint64_t size) {
    line.limit = line.start + size;
    placed_[line.start] = line.limit;
    map_.push_back(std::move(line));
  }

  bool overlaps(uint64_t start, uint64_t limit) const {
    auto next = placed_.lower_bound(limit);
    return next != placed_.begin() && std::prev(next)->second > start;
  }

  uint64_t place(const Location& l) {
    if (l.address == 0) return synthetic(name(l));
    if (l.mapping >= 0) {
      const auto index = static_cast<size_t>(l.mapping);
      const Mapping& m = profile_.mappings[index];
      if (m.start <= l.address && l.address < m.limit) return l.address + moved_by_[index];
    }
    if (l.address + 1 != 0 && !overlaps(l.address, l.address + 1))
      add(MapLine{l.address, 0, 0, "[unknown]"}, 1);
    return l.address;
  }

  std::string name(const Location& l) const {
    return l.lines.empty() ? "unknown" : profile_.functions[l.lines.back().function].name;
  }

  const Profile& profile_;
  uint64_t next_free_ = kFree;
  std::map<uint64_t, uint64_t> placed_;  // start -> limit, without overlaps
  std::map<std::string, uint64_t> synthetic_;
  std::vector<uint64_t> moved_by_;   // of each mapping
  std::vector<uint64_t> addresses_;  // of each location
  std::vector<MapLine> map_;
  std::vector<std::string> notes_;
};

// Go's tabwriter with a tab width of 8: a cell that another one follows is padded with tabs to the
// widest of its column, in each run of lines that have the column.
using Cells = std::vector<std::string>;

size_t width_of(const std::string& cell) {
  return static_cast<size_t>(std::count_if(cell.begin(), cell.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;  // not a UTF-8 continuation byte
  }));
}

void pad_run(std::span<Cells> lines, size_t column) {
  size_t width = 0;
  for (const Cells& line : lines) width = std::max(width, width_of(line[column]));
  width = (width + 1 + 7) / 8 * 8;
  for (Cells& line : lines) line[column].append((width - width_of(line[column]) + 7) / 8, '\t');
}

void pad_column(std::span<Cells> lines, size_t column) {
  const auto has_column = [column](const Cells& line) { return line.size() > column + 1; };
  for (auto first = lines.begin(); first != lines.end();) {
    first = std::find_if(first, lines.end(), has_column);
    const auto last = std::find_if_not(first, lines.end(), has_column);
    pad_run({first, last}, column);
    first = last;
  }
}

std::string aligned(std::vector<Cells>& lines) {
  for (size_t column = 0; column < 3; ++column) pad_column(lines, column);
  std::string out;
  for (const Cells& line : lines) {
    for (const std::string& cell : line) out += cell;
    out += '\n';
  }
  return out;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : one_line(text)) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

struct Row {
  const Sample* sample;
  int64_t order;     // largest first
  std::string text;  // "1: 8 [1: 8] @ 0x1234 0x5678"
};

class TextEncoder {
 public:
  TextEncoder(const Profile& profile, TextKind kind, std::string_view name)
      : profile_(profile), kind_(kind), name_(name), addresses_(profile) {}

  std::string run() {
    switch (kind_) {
      case TextKind::kHeap: heap(); break;
      case TextKind::kContention: contention("--- contention:\ncycles/second=1000000000\n"); break;
      case TextKind::kMutex:
        contention("--- mutex:\ncycles/second=1000000000\nsampling period=1\n");
        break;
      case TextKind::kCount: count(); break;
    }
    write_rows();
    write_comments();
    write_map();
    return std::move(out_);
  }

 private:
  // Go writes what it sampled and the rate, and pprof scales each row by 1/(1-exp(-size/rate)) with
  // the row's mean size. Our values are sums of samples that were scaled one by one, which is exact
  // for rows of mixed sizes. "heap/2" is a rate of 1, at which pprof leaves the values alone.
  void heap() {
    const size_t alloc_objects = column("alloc_objects"), alloc_bytes = column("alloc_space");
    const size_t inuse_objects = column("inuse_objects"), inuse_bytes = column("inuse_space");
    for (const Sample& s : profile_.samples)
      add_row(s, s.values[inuse_bytes],
              heap_columns(objects(s, inuse_objects, inuse_bytes), s.values[inuse_bytes],
                           objects(s, alloc_objects, alloc_bytes), s.values[alloc_bytes]));
    out_ = "heap profile: " +
           heap_columns(total(inuse_objects), total(inuse_bytes), total(alloc_objects),
                        total(alloc_bytes)) +
           " @ heap/2\n";
  }

  static std::string heap_columns(int64_t inuse_objects, int64_t inuse_bytes, int64_t alloc_objects,
                                  int64_t alloc_bytes) {
    return fmt::format("{}: {} [{}: {}]", inuse_objects, inuse_bytes, alloc_objects, alloc_bytes);
  }

  // pprof rejects a file with "0 objects, some bytes", which rounding an estimate can give.
  int64_t objects(const Sample& s, size_t objects, size_t bytes) {
    if (s.values[objects] != 0 || s.values[bytes] == 0) return s.values[objects];
    ++rounded_up_;
    return 1;
  }

  // Our times are nanoseconds, so a "cycle" is one.
  void contention(std::string_view header) {
    const size_t contentions = column("contentions"), delay = column("delay");
    if (profile_.types[delay].unit != "nanoseconds")
      throw std::invalid_argument(fmt::format(
          "text form: delay is in \"{}\", it must be in nanoseconds", profile_.types[delay].unit));
    for (const Sample& s : profile_.samples)
      add_row(s, s.values[delay], fmt::format("{} {}", s.values[delay], s.values[contentions]));
    out_ = header;
  }

  void count() {
    const size_t value = value_index(profile_, {});
    std::string head = one_line(name_.empty() ? profile_.types[value].type : name_);
    std::replace(head.begin(), head.end(), ' ', '_');
    for (const Sample& s : profile_.samples)
      add_row(s, s.values[value], fmt::format("{}", s.values[value]));
    append(out_, "{} profile: total {}\n", head.empty() ? "unnamed" : head, total(value));
  }

  size_t column(std::string_view type) const { return value_index(profile_, type); }

  int64_t total(size_t value) const {
    int64_t sum = 0;
    for (const Sample& s : profile_.samples) sum = saturating_add(sum, s.values[value]);
    return sum;
  }

  void add_row(const Sample& sample, int64_t order, const std::string& front) {
    const auto& values = sample.values;
    if (std::any_of(values.begin(), values.end(), [](int64_t v) { return v < 0; }))
      throw std::invalid_argument("text form: it cannot hold negative values; use the pprof form");
    if (std::any_of(values.begin(), values.end(), [](int64_t v) { return v != 0; }))
      rows_.push_back({&sample, order, front + " @" + stack(sample)});
  }

  void write_rows() {
    std::stable_sort(rows_.begin(), rows_.end(), [](const Row& a, const Row& b) {
      return a.order != b.order ? a.order > b.order : a.text < b.text;
    });
    for (const Row& row : rows_) {
      out_ += row.text + "\n";
      write_labels(*row.sample);
      std::vector<Cells> lines;
      for (uint32_t location : row.sample->locations) frame_lines(location, lines);
      out_ += aligned(lines) + "\n";
    }
  }

  // Return addresses: pprof subtracts 1 from every one to get into the call again.
  std::string stack(const Sample& sample) {
    std::string text;
    for (uint32_t location : sample.locations) {
      if (text.size() + 20 > kMaxLineBytes) {
        ++cut_stacks_;
        break;
      }
      append(text, " {:#x}", addresses_.of(location) + 1);
    }
    // Count rows must have an address.
    if (text.empty() && kind_ == TextKind::kCount)
      append(text, " {:#x}", addresses_.synthetic("no stack") + 1);
    return text;
  }

  void write_labels(const Sample& sample) {
    std::string text;
    for (const Label& l : sample.labels) {
      text += text.empty() ? "" : ", ";
      text += quoted(l.key) + ":";
      text += quoted(l.is_number ? fmt::format("{}{}{}", l.num, l.unit.empty() ? "" : " ", l.unit)
                                 : l.str);
    }
    if (!text.empty()) append(out_, "# labels: {{{}}}\n", text.substr(0, kMaxLineBytes));
  }

  void frame_lines(uint32_t index, std::vector<Cells>& lines) const {
    const Location& l = profile_.locations[index];
    const std::string pc = fmt::format("{:#x}", addresses_.of(index));
    if (l.lines.empty()) lines.push_back({"#", pc});
    for (size_t i = 0; i < l.lines.size(); ++i) {
      const Function& f = profile_.functions[l.lines[i].function];
      std::string name = one_line(f.name);
      // The offset is from the start of the physical function, so inlined ones have none.
      if (l.function_start != 0 && l.function_start <= l.address && i + 1 == l.lines.size())
        append(name, "+{:#x}", l.address - l.function_start);
      Cells cells{"#", pc, std::move(name)};
      if (!f.file.empty()) cells.push_back(fmt::format("{}:{}", one_line(f.file), l.lines[i].line));
      lines.push_back(std::move(cells));
    }
  }

  void write_comments() {
    for (const std::string& comment : profile_.comments) append(out_, "# {}\n", one_line(comment));
    for (const std::string& note : addresses_.notes()) append(out_, "# {}\n", note);
    if (rounded_up_ != 0) append(out_, "# {} object counts rounded up from 0 to 1\n", rounded_up_);
    if (cut_stacks_ != 0)
      append(out_, "# {} stacks cut at the root side: too long for a line\n", cut_stacks_);
  }

  void write_map() {
    out_ += "\n--- Memory map: ---\n";
    for (const MapLine& m : addresses_.map())
      append(out_, "{:08x}-{:08x} r-xp {:08x} 00:00 0 {}\n", m.start, m.limit, m.file_offset,
             m.path);
  }

  const Profile& profile_;
  TextKind kind_;
  std::string_view name_;
  TextAddresses addresses_;
  std::vector<Row> rows_;
  std::string out_;
  uint64_t rounded_up_ = 0;
  uint64_t cut_stacks_ = 0;
};

}  // namespace

std::string encode_text(const Profile& profile, TextKind kind, std::string_view name) {
  check(profile);
  return TextEncoder(profile, kind, name).run();
}

}  // namespace mprof::dumper

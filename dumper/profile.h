// SPDX-License-Identifier: Apache-2.0
// The profile model: stacks with values, and what one can do with one. Knows nothing of files,
// dumps or symbols; the encoders and reports read it, the dump reader and the symbolizer fill it.
//
// Threads   thread-compatible: share a const Profile, never a changing one.
// Fails     std::invalid_argument with one line: what is wrong and where.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mprof::dumper {

struct ValueType {
  std::string type;
  std::string unit;
  bool operator==(const ValueType&) const = default;
};

// One load of one file. Two mappings may cover the same addresses: a library can be unloaded and
// another one mapped at the same place later. So an address alone names nothing; a Location always
// carries the mapping it belongs to.
struct Mapping {
  uint64_t start = 0;
  uint64_t limit = 0;
  uint64_t file_offset = 0;
  std::string path;
  std::string build_id;  // hex
  // What the symbolizer looked up, for every location of the mapping. Encoders check the claim
  // again, because pprof never symbolizes a mapping that carries one of these flags.
  bool has_functions = false;
  bool has_filenames = false;
  bool has_line_numbers = false;
  bool has_inline_frames = false;
  bool operator==(const Mapping&) const = default;
};

struct Function {
  std::string name;         // what a person reads (demangled)
  std::string system_name;  // what the symbol table says
  std::string file;
  int64_t start_line = 0;
  bool operator==(const Function&) const = default;
};

struct Line {
  uint32_t function = 0;  // index in Profile::functions
  int64_t line = 0;
  int64_t column = 0;
  bool operator==(const Line&) const = default;
};

struct Location {
  uint64_t address = 0;         // inside the call instruction: already pc - 1 for a return address
  int32_t mapping = -1;         // index in Profile::mappings, -1: none
  std::vector<Line> lines;      // innermost inlined function first, the physical function last
  uint64_t function_start = 0;  // first address of the physical function, 0: unknown
  bool is_folded = false;       // other functions have the same code, so the name is one of several
  bool operator==(const Location&) const = default;
};

struct Label {
  std::string key;
  std::string str;
  int64_t num = 0;
  std::string unit;  // of num
  bool is_number = false;
  bool operator==(const Label&) const = default;
};

struct Sample {
  std::vector<uint32_t> locations;  // leaf first; index in Profile::locations
  std::vector<int64_t> values;      // one per Profile::types
  std::vector<Label> labels;
  std::vector<double> variances;  // of each value's estimate; empty: the values are exact
  bool operator==(const Sample&) const = default;
};

struct Profile {
  std::vector<ValueType> types;
  int default_type = -1;  // index in types; -1: readers take the last one
  ValueType period_type;
  int64_t period = 0;
  int64_t time_nanos = 0;
  int64_t duration_nanos = 0;
  std::vector<Mapping> mappings;  // readers take the first one for the main program
  std::vector<Location> locations;
  std::vector<Function> functions;
  std::vector<Sample> samples;
  std::vector<std::string> comments;
  std::string drop_frames;  // regular expression; see apply_drop_frames()
  std::string keep_frames;
  std::string doc_url;
  bool operator==(const Profile&) const = default;
};

// Adds to a Profile without duplicates. Functions are one per (name, file), locations one per
// (mapping, address, lines), samples one per (stack, labels). Indexes what the profile holds
// already. The profile must outlive it and must not be changed by others meanwhile.
class ProfileBuilder {
 public:
  explicit ProfileBuilder(Profile& profile);

  int32_t mapping(const Mapping& mapping);
  uint32_t function(std::string_view name, std::string_view file, std::string_view system_name = {},
                    int64_t start_line = 0);
  uint32_t location(int32_t mapping, uint64_t address, std::vector<Line> lines = {});
  // A frame without code: "[truncated]", "[lost: ring full]", "[before mprof]".
  uint32_t synthetic_location(std::string_view name);
  // Adds the values to the sample of this stack and these labels (in any order), new or old.
  void sample(const Sample& sample);

 private:
  Profile& profile_;
  std::unordered_map<std::string, uint32_t> mappings_;
  std::unordered_map<std::string, uint32_t> functions_;
  std::unordered_map<std::string, uint32_t> locations_;
  std::unordered_map<std::string, uint32_t> samples_;
};

// Sums instead of wrapping around: a profile from a file may hold any 64-bit number.
[[nodiscard]] int64_t saturating_add(int64_t a, int64_t b);
[[nodiscard]] int64_t saturating_negate(int64_t value);

// Both have the same number of values; one without variances adds none.
void add_values(Sample& into, const Sample& from);
[[nodiscard]] bool is_zero(const Sample& sample);

// Throws unless every index is in range, every sample has a value per type (and no variance or
// one per type), and default_type names a type. Encoders and reports call it first.
void check(const Profile& profile);

// Joins samples with the same stack and labels; drops those whose values are all zero.
void aggregate(Profile& profile);

// Keeps the samples for which `keep` is true; rows that become unreferenced stay (merge() of one
// profile removes them).
void filter(Profile& profile, const std::function<bool(const Sample&)>& keep);

// For each location: does a function of it match the regular expression anywhere in its name?
// Unsymbolized locations match by the path of their mapping.
[[nodiscard]] std::vector<bool> matching_locations(const Profile& profile,
                                                   const std::string& expression);

// Removes frames that match drop_frames (and not keep_frames) and everything leafward of them,
// exactly as pprof does when it reads a profile. Returns why not, when an expression is not
// understood; the profile is then unchanged, which is also what pprof does.
std::optional<std::string> apply_drop_frames(Profile& profile);

// The index of a value type by name; "" is the default type. Throws with the list of names.
[[nodiscard]] size_t value_index(const Profile& profile, std::string_view type_name);

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
// What every fuzz target stands on. With libFuzzer (-Dfuzzers=true) it has the main(); else the one
// here runs the corpus of the target, and then mutations of it:
//   NAME_fuzz [rounds [seed [file or folder]...]]
// A round that fails can be repeated by its seed.
//
// A target calls understood() for bytes that got beyond the first checks. A corpus in which none
// does is one of another version: tests/fuzz/make_corpus.py makes it anew.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace mprof::fuzz {

using Bytes = std::vector<uint8_t>;

inline uint64_t understood_inputs = 0;
inline void understood() { ++understood_inputs; }

inline void require(bool holds) {
  if (!holds) abort();
}

// Takes an input apart; beyond its end there are zeros.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}

  template <class Number>
  Number number() {
    Number value{};
    const size_t count = std::min(sizeof value, left());
    if (count != 0) memcpy(&value, at_, count);
    at_ += count;
    return value;
  }
  [[nodiscard]] size_t left() const { return static_cast<size_t>(end_ - at_); }
  std::string_view bytes(size_t most) {
    const size_t count = std::min(most, left());
    const std::string_view taken(reinterpret_cast<const char*>(at_), count);
    at_ += count;
    return taken;
  }
  std::string_view rest() { return bytes(left()); }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

#ifndef MPROF_LIBFUZZER

using Random = std::mt19937_64;

// Numbers at which checks tend to be wrong.
inline uint64_t interesting(Random& random) {
  constexpr uint64_t kEdges[] = {0,          1,         7,          63,         64,
                                 4095,       8192,      0x7fffffff, 0xffffffff, 0x100000000,
                                 UINT64_MAX, INT64_MAX, 1ull << 40, 1ull << 36};
  const uint64_t edge = kEdges[random() % std::size(kEdges)];
  return random() % 4 == 0 ? random() : edge + random() % 3 - 1;
}

inline void put(Bytes& bytes, size_t at, uint64_t value, size_t width) {
  at -= at % width;
  if (at + width <= bytes.size()) memcpy(&bytes[at], &value, width);
}

inline void mutate_once(Bytes& bytes, const Bytes& other, Random& random) {
  if (bytes.empty()) bytes.push_back(0);
  // Half of the time near the begin, where one word decides over much.
  const size_t range = random() % 2 == 0 ? bytes.size() : std::min<size_t>(bytes.size(), 4096);
  const size_t at = random() % range;
  const size_t length = std::min<size_t>(bytes.size() - at, 1 + random() % 256);
  const auto place = bytes.begin() + static_cast<ptrdiff_t>(at);
  switch (random() % 9) {
    case 0: bytes[at] = static_cast<uint8_t>(interesting(random)); break;
    case 1: put(bytes, at, interesting(random), 8); break;
    case 2: put(bytes, at, interesting(random), 4); break;
    case 3: put(bytes, at, interesting(random), 2); break;
    case 4: bytes[at] ^= static_cast<uint8_t>(1u << random() % 8); break;
    case 5: bytes.resize(at); break;
    case 6: bytes.erase(place, place + static_cast<ptrdiff_t>(length)); break;
    case 7:
      if (other.empty()) break;
      bytes.insert(place, other.begin() + static_cast<ptrdiff_t>(random() % other.size()),
                   other.end());
      break;
    default:
      for (size_t i = 0; i < length; ++i) bytes[at + i] = static_cast<uint8_t>(random());
  }
}

inline void load(const std::filesystem::path& from, std::vector<Bytes>& corpus) {
  std::vector<std::filesystem::path> files = {from};
  if (std::filesystem::is_directory(from)) {
    files.assign(std::filesystem::directory_iterator(from), {});
    std::sort(files.begin(), files.end());
  }
  for (const auto& path : files) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
}

inline int run(int argc, char** argv) {
  const uint64_t rounds = argc > 1 ? strtoull(argv[1], nullptr, 10) : MPROF_FUZZ_ROUNDS;
  const uint64_t seed = argc > 2 ? strtoull(argv[2], nullptr, 10) : 1;
  std::vector<Bytes> corpus;
  if (argc <= 3) load(MPROF_FUZZ_CORPUS, corpus);
  for (int i = 3; i < argc; ++i) load(argv[i], corpus);
  for (const Bytes& bytes : corpus) LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  if (argc <= 3 && understood_inputs == 0) {
    fprintf(stderr, "nothing in %s is understood: tests/fuzz/make_corpus.py makes it anew\n",
            MPROF_FUZZ_CORPUS);
    return 1;
  }
  for (uint64_t round = 0; round < rounds; ++round) {
    Random random(seed + round);
    Bytes bytes = corpus[random() % corpus.size()];
    const Bytes& other = corpus[random() % corpus.size()];
    for (uint64_t i = 1 + random() % 8; i > 0; --i) mutate_once(bytes, other, random);
    bytes.resize(std::min<size_t>(bytes.size(), 1 << 20));
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  printf("%zu files and %llu mutations of them, seeds %llu and up; %llu were understood\n",
         corpus.size(), static_cast<unsigned long long>(rounds),
         static_cast<unsigned long long>(seed), static_cast<unsigned long long>(understood_inputs));
  return 0;
}
#endif

}  // namespace mprof::fuzz

#ifndef MPROF_LIBFUZZER
int main(int argc, char** argv) { return mprof::fuzz::run(argc, argv); }
#endif

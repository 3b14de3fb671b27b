// SPDX-License-Identifier: Apache-2.0
// For the tests of pprof files: sample profiles, golden files, and `go tool pprof` as the judge.
#pragma once

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "dumper/profile.h"

namespace mprof::test {

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// Profiles of Go's own writer. The path of this file is absolute, or relative to the build folder,
// where the tests run.
inline std::filesystem::path golden_folder() {
  return std::filesystem::path(__FILE__).parent_path().parent_path() / "golden" / "go";
}

inline std::string golden(const std::string& name) {
  return read_file(golden_folder() / (name + ".pb.gz"));
}

inline std::vector<std::string> golden_names() {
  return {"allocs", "block", "cpu", "custom", "goroutine", "heap", "mutex", "threadcreate"};
}

class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "mprof-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

struct ToolOutput {
  int exit_code = -1;
  std::string out;
  std::string err;
};

// Runs `go tool pprof OPTIONS`, where @0, @1, ... are files with these bytes. Needs Go; there is no
// other judge, so without it the tests fail.
inline ToolOutput pprof_of(std::string options, const std::vector<std::string>& files) {
  const ScratchFolder folder;
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string path = folder.file("profile" + std::to_string(i));
    std::ofstream(path, std::ios::binary) << files[i];
    const std::string word = "@" + std::to_string(i);
    if (const size_t at = options.find(word); at != std::string::npos)
      options.replace(at, word.size(), path);
  }
  // The tool keeps copies of profiles and wants a home; TZ for stable output.
  const std::string command = fmt::format(
      "HOME={0} PPROF_TMPDIR={0} GOCACHE={0} TZ=UTC LSAN_OPTIONS= go tool pprof {1} >{2} 2>{3}",
      folder.file("home"), options, folder.file("out"), folder.file("err"));
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(folder.file("out")),
          read_file(folder.file("err"))};
}

inline ToolOutput pprof(const std::string& options, const std::string& bytes) {
  return pprof_of(options + " @0", {bytes});
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::stringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline dumper::Profile empty_heap() {
  dumper::Profile profile;
  profile.types = {{"alloc_objects", "count"},
                   {"alloc_space", "bytes"},
                   {"inuse_objects", "count"},
                   {"inuse_space", "bytes"}};
  profile.period_type = {"space", "bytes"};
  profile.period = 524288;
  profile.time_nanos = 1'700'000'000'123'456'789;
  profile.duration_nanos = 2'500'000'000;
  return profile;
}

// A heap profile with everything a profile can have: two libraries at the same addresses, inlining,
// recursion, a synthetic frame, labels, drop_frames.
inline dumper::Profile example_heap() {
  dumper::Profile profile = empty_heap();
  profile.default_type = 1;
  profile.comments = {"command: ./app --fast", "lost: 3 events"};
  profile.drop_frames = "malloc|operator new.*";
  profile.doc_url = "https://example.org/heap";
  dumper::ProfileBuilder b(profile);
  const int32_t app =
      b.mapping({0x400000, 0x500000, 0, "/opt/example/app", "a1b2c3d4", true, true, true, true});
  const int32_t one =
      b.mapping({0x7f0000000000, 0x7f0000010000, 0x1000, "/opt/example/one.so", "", true});
  const int32_t two =
      b.mapping({0x7f0000000000, 0x7f0000020000, 0x2000, "/opt/example/two.so", "", true});
  const uint32_t main = b.function("main", "/src/app.cc", "main", 10);
  const uint32_t inlined = b.function("App::add(int)", "/src/app.h", "_ZN3App3addEi", 5);
  const uint32_t recursive = b.function("walk(Node*)", "/src/app.cc", "_Z4walkP4Node", 30);
  const uint32_t allocate = b.function("operator new(unsigned long)", "/src/new.cc", "_Znwm", 1);
  const uint32_t first = b.function("first_plugin", "/src/one.c", "first_plugin", 3);
  const uint32_t second = b.function("second_plugin", "/src/two.c", "second_plugin", 4);
  const uint32_t in_main = b.location(app, 0x401234, {{inlined, 7}, {main, 12}});
  const uint32_t in_walk = b.location(app, 0x402000, {{recursive, 33}});
  const uint32_t in_new = b.location(app, 0x403000, {{allocate, 2}});
  const uint32_t in_one = b.location(one, 0x7f0000000100, {{first, 3}});
  const uint32_t in_two = b.location(two, 0x7f0000000100, {{second, 4}});
  const uint32_t cut = b.synthetic_location("[truncated]");
  b.sample({{in_new, in_walk, in_walk, in_main}, {10, 1000, 4, 400}, {}, {}});
  b.sample({{in_one, in_main}, {2, 64, 2, 64}, {{"bytes", "", 32, "bytes", true}}, {}});
  b.sample({{in_two, in_main}, {3, 96, 0, 0}, {{"phase", "load", 0, "", false}}, {}});
  b.sample({{in_walk, cut}, {1, 4096, 1, 4096}, {}, {}});
  return profile;
}

// Two small libraries on disk, and a profile in which both were loaded at the same address, one
// after the other, with a sample in each.
class ScratchLibraries {
 public:
  ScratchLibraries() {
    build("first");
    build("second");
  }
  dumper::Profile profile() const {
    dumper::Profile profile = empty_heap();
    dumper::ProfileBuilder builder(profile);
    for (const char* name : {"first", "second"}) {
      const Code code = find(name);
      // Where the loader would map the segment that has the function.
      constexpr uint64_t kLoadAddress = 0x7f1200000000;
      const uint64_t start = kLoadAddress + code.segment_offset;
      const int32_t mapping =
          builder.mapping({start, start + 0x1000, code.segment_offset, path(name), ""});
      const uint64_t address = kLoadAddress + code.function_offset + 1;
      builder.sample({{builder.location(mapping, address)}, {2, 64, 1, 32}, {}, {}});
    }
    return profile;
  }
  std::string path(const std::string& name) const { return folder_.file(name + ".so"); }

 private:
  struct Code {
    uint64_t segment_offset = 0;
    uint64_t function_offset = 0;
  };

  void build(const std::string& name) const {
    const std::string source = folder_.file(name + ".c");
    std::ofstream(source) << "int " << name << "_function(int x) { return x * 3 + 1; }\n";
    const std::string command =
        fmt::format("cc -g -shared -fPIC -Wl,-z,separate-code -o {} {}", path(name), source);
    if (std::system(command.c_str()) != 0) throw std::runtime_error("cc failed: " + command);
  }

  // From nm and the page the function is in: with separate-code a small library has one page of
  // code, and its offset in the file equals its address.
  Code find(const std::string& name) const {
    const std::string out = folder_.file("nm");
    const std::string command = fmt::format("nm {} >{}", path(name), out);
    if (std::system(command.c_str()) != 0) throw std::runtime_error("nm failed: " + command);
    for (const std::string& line : lines_of(read_file(out)))
      if (line.ends_with(" T " + name + "_function")) {
        const uint64_t offset = std::stoull(line, nullptr, 16);
        return {offset & ~uint64_t{0xfff}, offset};
      }
    throw std::runtime_error("nm does not show the function of " + path(name));
  }

  ScratchFolder folder_;
};

}  // namespace mprof::test

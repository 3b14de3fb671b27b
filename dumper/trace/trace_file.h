// SPDX-License-Identifier: Apache-2.0
// The file that a form of a trace is written to: from begin to end, and then here and there.
//
// Whole     It has its name when commit() is called, and not before: nobody reads half a trace.
//           What is there under that name stays until then. A pipe or a device gets all of it then.
// Fails     std::system_error. Never over a dump.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mprof::dumper {

class TraceFile {
 public:
  // "-": standard output.
  explicit TraceFile(std::string path);
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;
  ~TraceFile();

  void append(std::string_view bytes);
  // Of what was appended.
  void patch(uint64_t offset, std::string_view bytes);
  [[nodiscard]] uint64_t size_bytes() const { return written_bytes_ + buffer_.size(); }
  void commit();

 private:
  [[noreturn]] void fail() const;
  void flush();
  void write_all(int fd, std::string_view bytes) const;
  void copy_to(int fd);

  std::string path_;
  std::string temporary_;  // empty: it has no name
  std::string buffer_;
  uint64_t written_bytes_ = 0;
  int fd_ = -1;
};

}  // namespace mprof::dumper

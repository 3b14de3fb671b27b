// SPDX-License-Identifier: Apache-2.0
// A shared mapping of a file that may shrink while it is read.
//
// Threads   The SIGBUS handler is process-wide and lock-free; each FileMapping has one owner.
// Fails     std::system_error.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mprof::dumper {

class FileMapping {
 public:
  FileMapping() = default;
  // Pages beyond the end of the file may be mapped; they become readable when the file grows.
  FileMapping(int fd, uint64_t offset, uint64_t bytes, bool writable);
  FileMapping(FileMapping&& other) noexcept;
  FileMapping& operator=(FileMapping&& other) noexcept;
  ~FileMapping();

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  // True once a page was read that the file no longer had; it reads as zeros since.
  [[nodiscard]] bool shrunk() const;

 private:
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
  int guard_ = -1;
};

}  // namespace mprof::dumper

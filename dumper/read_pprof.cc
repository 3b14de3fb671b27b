// SPDX-License-Identifier: Apache-2.0
#include "dumper/read_pprof.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "dumper/decode_pprof.h"

namespace mprof::dumper {
namespace {

[[noreturn]] void fail(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), path);
}

class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) fail(path);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { close(fd_); }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

// One byte more than the decoder takes is enough for it to refuse.
std::string read_all(const std::string& path, uint64_t limit_bytes) {
  const Descriptor file(path);
  std::string bytes;
  std::vector<char> chunk(size_t{1} << 20);
  while (bytes.size() <= limit_bytes) {
    const ssize_t got = read(file.fd(), chunk.data(), chunk.size());
    if (got < 0 && errno != EINTR) fail(path);
    if (got == 0) break;
    if (got > 0) bytes.append(chunk.data(), static_cast<size_t>(got));
  }
  return bytes;
}

}  // namespace

Profile read_pprof(const std::string& path) {
  const DecodeLimits limits;
  try {
    return decode_pprof(read_all(path, limits.decompressed_bytes), limits);
  } catch (const DecodeError& error) {
    throw DecodeError(fmt::format("{}: not a dump, and not a readable {}", path, error.what()));
  }
}

}  // namespace mprof::dumper

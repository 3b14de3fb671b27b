// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/trace_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "dumper/find_dump.h"

namespace mprof::dumper {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBufferBytes = size_t{1} << 20;

// What is no file of its own gets a copy.
bool is_special(const std::string& path) {
  std::error_code missing;
  const fs::file_status status = fs::status(path, missing);
  return path == "-" || (fs::exists(status) && !fs::is_regular_file(status));
}

std::string temporary_folder() {
  std::error_code none;
  const fs::path folder = fs::temp_directory_path(none);
  return none ? "/tmp" : folder.string();
}

}  // namespace

TraceFile::TraceFile(std::string path) : path_(std::move(path)) {
  if (fs::is_directory(path_)) throw std::system_error(EISDIR, std::generic_category(), path_);
  if (is_dump_file(path_))
    throw std::runtime_error(path_ + ": is a dump; a trace is not written over it");
  const bool is_copied = is_special(path_);
  // A link stays one.
  if (!is_copied && fs::is_symlink(path_)) path_ = fs::weakly_canonical(path_).string();
  temporary_ = (is_copied ? temporary_folder() + "/mprof-trace" : path_) + ".XXXXXX";
  fd_ = mkostemp(temporary_.data(), O_CLOEXEC);
  if (fd_ < 0) fail();
  if (is_copied) unlink(std::exchange(temporary_, {}).c_str());
}

TraceFile::~TraceFile() {
  if (fd_ < 0) return;
  close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void TraceFile::fail() const { throw std::system_error(errno, std::generic_category(), path_); }

void TraceFile::append(std::string_view bytes) {
  buffer_.append(bytes);
  if (buffer_.size() >= kBufferBytes) flush();
}

void TraceFile::patch(uint64_t offset, std::string_view bytes) {
  flush();
  if (pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset)) !=
      static_cast<ssize_t>(bytes.size()))
    fail();
}

void TraceFile::commit() {
  flush();
  if (temporary_.empty()) {
    const int out = path_ == "-" ? dup(STDOUT_FILENO) : open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (out < 0) fail();
    copy_to(out);
    if (close(out) != 0) fail();
  } else {
    const mode_t mask = umask(0);
    umask(mask);
    if (fchmod(fd_, 0666 & ~mask) != 0 || rename(temporary_.c_str(), path_.c_str()) != 0) fail();
    temporary_.clear();
  }
}

void TraceFile::flush() {
  write_all(fd_, buffer_);
  written_bytes_ += buffer_.size();
  buffer_.clear();
}

void TraceFile::write_all(int fd, std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t wrote = write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno != EINTR) fail();
    if (wrote > 0) bytes.remove_prefix(static_cast<size_t>(wrote));
  }
}

void TraceFile::copy_to(int fd) {
  std::string piece(kBufferBytes, '\0');
  for (off_t at = 0;;) {
    const ssize_t got = pread(fd_, piece.data(), piece.size(), at);
    if (got < 0) fail();
    if (got == 0) return;
    write_all(fd, {piece.data(), static_cast<size_t>(got)});
    at += got;
  }
}

}  // namespace mprof::dumper

// SPDX-License-Identifier: Apache-2.0
#include "dumper/start_drain.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "dumper/dump_reader.h"
#include "dumper/journal.h"

extern char** environ;

namespace mprof::dumper {
namespace {

bool is_drained(const std::string& dump_path) {
  const int fd = open(journal_path_of(dump_path).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return false;
  const bool is_locked = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(fd);
  return is_locked;
}

// `mprof serve` blocks signals by which a drainer is asked to end.
class SpawnAttributes {
 public:
  SpawnAttributes() {
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_init(&attributes_);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK);
  }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  ~SpawnAttributes() { posix_spawnattr_destroy(&attributes_); }
  [[nodiscard]] const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_{};
};

// Its standard error goes into a pipe, everything else that it prints nowhere.
class SpawnFiles {
 public:
  explicit SpawnFiles(int error_fd) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions_, STDIN_FILENO, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions_, error_fd, STDERR_FILENO);
  }
  SpawnFiles(const SpawnFiles&) = delete;
  SpawnFiles& operator=(const SpawnFiles&) = delete;
  ~SpawnFiles() { posix_spawn_file_actions_destroy(&actions_); }
  [[nodiscard]] const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

struct Ended {
  bool well = false;
  std::string said;
};

std::string read_to_end(int fd) {
  std::string text;
  char buffer[512];
  for (;;) {
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer, static_cast<size_t>(got));
  }
}

// Once it is at work it goes on in a process of its own, and what was started here ends.
Ended run_drain(const std::string& dump_path) {
  int pipes[2];
  if (pipe2(pipes, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  const char* arguments[] = {"mprof", "drain", "--detach", dump_path.c_str(), nullptr};
  pid_t child = -1;
  const int error =
      posix_spawn(&child, "/proc/self/exe", SpawnFiles(pipes[1]).get(), SpawnAttributes().get(),
                  const_cast<char* const*>(arguments), environ);
  close(pipes[1]);
  Ended ended;
  ended.said = error == 0 ? read_to_end(pipes[0]) : strerror(error);
  close(pipes[0]);
  int status = 0;
  while (error == 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  ended.well = error == 0 && status == 0;
  return ended;
}

}  // namespace

void ensure_drained(const std::string& dump_path) {
  const Ended ended = run_drain(dump_path);
  if (ended.well || is_drained(dump_path)) return;
  throw DumpError(fmt::format("{}: nothing drains it, so it can have no trace: {}", dump_path,
                              ended.said.substr(0, ended.said.find('\n'))));
}

}  // namespace mprof::dumper

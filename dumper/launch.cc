// SPDX-License-Identifier: Apache-2.0
#include "dumper/launch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <stdexcept>
#include <system_error>

#include "dumper/drain.h"
#include "dumper/dump_reader.h"
#include "dumper/find_dump.h"
#include "format/config.h"

extern char** environ;

namespace mprof::dumper {
namespace {

namespace fs = std::filesystem;

constexpr std::array kForwarded = {SIGINT,  SIGTERM,  SIGHUP,  SIGQUIT, SIGUSR1,
                                   SIGUSR2, SIGWINCH, SIGALRM, SIGURG};

sigset_t waited_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : kForwarded) sigaddset(&set, number);
  sigaddset(&set, SIGCHLD);
  return set;
}

// Blocks what launch() waits for; the program starts with the mask that mprof had. While SIGCHLD
// is ignored the kernel keeps no exit codes, so here it is not.
class SignalsBlocked {
 public:
  SignalsBlocked() : waited_(waited_signals()) {
    sigprocmask(SIG_BLOCK, &waited_, &before_);
    child_ended_ = signal(SIGCHLD, SIG_DFL);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { restore(); }
  void restore() const {
    signal(SIGCHLD, child_ended_);
    sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  [[nodiscard]] const sigset_t& waited() const { return waited_; }

 private:
  sigset_t waited_;
  sigset_t before_;
  sighandler_t child_ended_;
};

uint64_t realtime_now_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

std::string preload_value(const std::string& library) {
  const char* before = getenv("LD_PRELOAD");
  if (before == nullptr || *before == '\0') return library;
  return library + ":" + before;
}

std::string out_pattern(const LaunchOptions& options) {
  const auto given = options.environment.find("MPROF_OUT");
  const char* inherited = getenv("MPROF_OUT");
  std::string pattern = format::kDefaultOut;
  if (given != options.environment.end())
    pattern = given->second;
  else if (inherited != nullptr && format::is_out_pattern(inherited))
    pattern = inherited;
  if (pattern.front() == '/') return pattern;
  std::string directory;
  for (const char c : fs::canonical(options.directory).string()) {
    if (c == '%') directory += '%';
    directory += c;
  }
  return directory + "/" + pattern;
}

// "NAME=value" of each variable, the options' before those of the environment.
std::vector<std::string> program_environment(const LaunchOptions& options,
                                             const std::string& library) {
  std::map<std::string, std::string> set = options.environment;
  set["MPROF_OUT"] = out_pattern(options);
  set.insert_or_assign("MPROF_DRAIN",
                       std::string("0"));  // mprof run drains by itself, or was told not to
  set["LD_PRELOAD"] = preload_value(library);
  std::vector<std::string> result;
  for (const auto& [name, value] : set) result.push_back(name + "=" + value);
  for (char** variable = environ; *variable != nullptr; ++variable)
    if (!set.contains(std::string(*variable, strcspn(*variable, "="))))
      result.emplace_back(*variable);
  return result;
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

struct Started {
  pid_t pid = -1;
  int error = 0;  // of exec
};

Started start(const LaunchOptions& options, const std::string& library,
              const SignalsBlocked& signals) {
  const auto variables = program_environment(options, library);
  std::vector<char*> environment = pointers(variables);
  std::vector<char*> arguments = pointers(options.command);
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe");
  Started started;
  started.pid = fork();
  if (started.pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (started.pid == 0) {
    signals.restore();
    execvpe(arguments[0], arguments.data(), environment.data());
    const int error = errno;
    if (write(report[1], &error, sizeof error) < 0) _exit(126);
    _exit(error == ENOENT ? 127 : 126);
  }
  close(report[1]);
  if (read(report[0], &started.error, sizeof started.error) <= 0) started.error = 0;
  close(report[0]);
  return started;
}

// The wait status of the program; meanwhile signals go on to it.
int wait_for(pid_t pid, const sigset_t& waited) {
  for (;;) {
    int status = 0;
    const pid_t ended = waitpid(pid, &status, WNOHANG);
    if (ended == pid) return status;
    if (ended < 0 && errno != EINTR)
      throw std::system_error(errno, std::generic_category(), "waitpid");
    siginfo_t info{};
    const int number = sigwaitinfo(&waited, &info);
    // SI_KERNEL: from the terminal, which sent it to the program as well.
    if (number > 0 && number != SIGCHLD && info.si_code != SI_KERNEL) kill(pid, number);
  }
}

int exit_code_of(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// Where dumps appear, and how their names look (fnmatch).
struct DumpPlace {
  std::string directory;
  std::string name_pattern;
};

DumpPlace place_of_dumps(const std::string& pattern) {
  const size_t slash = pattern.rfind('/');
  DumpPlace place;
  for (size_t i = 0; i < pattern.size(); ++i) {
    std::string& part = i <= slash ? place.directory : place.name_pattern;
    if (pattern[i] != '%') {
      if (i > slash && strchr("*?[\\", pattern[i]) != nullptr) part += '\\';
      part += pattern[i];
    } else if (pattern[++i] == '%') {
      part += '%';
    } else if (i > slash) {
      part += '*';
    } else {
      throw std::runtime_error(fmt::format(
          "--out {}: %e and %p are accepted in the file's name only, not in its directory",
          pattern));
    }
  }
  place.name_pattern += '*';  // a second dump of one process gets a number
  return place;
}

std::set<std::string> files_in(const std::string& directory) {
  std::set<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error))
    names.insert(at->path().filename());
  return names;
}

uint32_t parent_of(uint32_t pid) {
  std::ifstream in(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(in, text);
  const size_t name_end = text.rfind(')');
  char state = 0;
  unsigned parent = 0;
  if (name_end == std::string::npos ||
      sscanf(text.c_str() + name_end + 1, " %c %u", &state, &parent) != 2)
    return 0;
  return parent;
}

bool descends_from(uint32_t pid, uint32_t ancestor) {
  for (int steps = 0; pid > 1 && steps < 1000; ++steps) {
    if (pid == ancestor) return true;
    pid = parent_of(pid);
  }
  return false;
}

struct Candidate {
  std::string path;
  uint32_t pid = 0;
  uint32_t parent = 0;
  uint64_t start_ns = 0;
};

std::optional<Candidate> candidate(const std::string& path) {
  try {
    const Dump dump = Dump::open(path, Access::kRead);
    const auto& header = dump.header();
    if (header.snapshot_epoch != 0) return std::nullopt;  // the program's own copy
    return Candidate{path, header.pid, header.parent_pid, header.realtime_start_ns};
  } catch (const DumpError&) {
    return std::nullopt;  // something else that lies in the directory
  }
}

// Another `mprof run` may write to the same directory. Ours are those whose parent is known to be
// ours or cannot be asked any more.
std::vector<std::string> dumps_of_tree(const DumpPlace& place, const std::set<std::string>& before,
                                       uint64_t since_ns, uint32_t root) {
  std::vector<Candidate> found;
  for (const std::string& name : files_in(place.directory))
    if (!before.contains(name))
      if (auto one = candidate(place.directory + name); one && one->start_ns >= since_ns)
        found.push_back(std::move(*one));
  std::sort(found.begin(), found.end(),
            [](const Candidate& a, const Candidate& b) { return a.start_ns < b.start_ns; });
  std::set<uint32_t> family = {root};
  std::vector<std::string> ours;
  const auto self = static_cast<uint32_t>(getpid());
  for (const Candidate& one : found) {
    const bool kin = family.contains(one.pid) || family.contains(one.parent) ||
                     (one.parent != self && !process_start_ticks(one.parent)) ||
                     descends_from(one.parent, self);
    if (!kin) continue;
    family.insert(one.pid);
    ours.push_back(one.path);
  }
  return ours;
}

}  // namespace

std::string find_library() {
  std::vector<fs::path> places;
  if (const char* given = getenv("MPROF_LIB"); given != nullptr && *given != '\0') {
    places.emplace_back(given);
  } else {
    std::error_code error;
    const fs::path here = fs::read_symlink("/proc/self/exe", error).parent_path();
    for (const char* relative : {"../lib", "../lib/x86_64-linux-gnu", "../lib64", "../preload"})
      places.push_back((here / relative / "libmprof.so").lexically_normal());
  }
  std::string looked;
  for (const fs::path& place : places) {
    looked += (looked.empty() ? "" : ", ") + place.string();
    if (access(place.c_str(), R_OK) != 0) continue;
    const std::string path = fs::canonical(place).string();
    if (path.find_first_of(": ") == std::string::npos) return path;
    throw std::runtime_error(path + ": LD_PRELOAD takes no path with a colon or a blank in it");
  }
  throw std::runtime_error("libmprof.so not found; looked at " + looked +
                           "; MPROF_LIB can name it");
}

LaunchResult launch(const LaunchOptions& options) {
  const std::string library = find_library();
  const DumpPlace place = place_of_dumps(out_pattern(options));
  const std::set<std::string> before = files_in(place.directory);
  const uint64_t since_ns = realtime_now_ns();
  const SignalsBlocked signals;
  LaunchResult result;
  const Started started = start(options, library, signals);
  Drainer drainer(place.directory, place.name_pattern, since_ns);
  if (options.drain && started.error == 0) drainer.start();
  const int status = wait_for(started.pid, signals.waited());
  drainer.stop();
  result.exit_code = exit_code_of(status);
  if (started.error != 0) {
    result.failure =
        fmt::format("{}: cannot be run: {}", options.command.front(), strerror(started.error));
    return result;
  }
  result.complaints = drainer.complaints();
  result.dumps = dumps_of_tree(place, before, since_ns, static_cast<uint32_t>(started.pid));
  return result;
}

}  // namespace mprof::dumper

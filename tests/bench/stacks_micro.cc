// SPDX-License-Identifier: Apache-2.0
// stacks_micro: what a question for all stacks (`mprof threads`) costs those who are asked, in
// nanoseconds of processor time for each thread and question.
//
// Threads compute and look at the clock. What lies between two looks is the loop's own, or, where
// it is longer than any turn of the loop, something else: the kernel, another thread, a handler.
// The processor time of a thread less its loop's own is what it spent on such things; less that of
// a run without the library, it is what the questions cost.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <ctime>
#include <string>

#include "tests/bench/workload.h"

namespace mprof::bench {
namespace {

constexpr uint64_t kLongestTurnNs = 1000;

std::atomic<unsigned> computing{0};
std::atomic<bool> is_over{false};
std::atomic<uint64_t> disturbed_ns{0};

uint64_t clock_ns(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

void compute() {
  const uint64_t begin_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  uint64_t own_ns = 0;
  uint64_t last_ns = clock_ns(CLOCK_MONOTONIC_RAW);
  computing.fetch_add(1);
  while (!is_over.load(std::memory_order_relaxed)) {
    const uint64_t now_ns = clock_ns(CLOCK_MONOTONIC_RAW);
    if (now_ns - last_ns < kLongestTurnNs) own_ns += now_ns - last_ns;
    last_ns = now_ns;
  }
  const uint64_t used_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin_ns;
  disturbed_ns.fetch_add(used_ns > own_ns ? used_ns - own_ns : 0);
}

// A stack to walk; what follows the call keeps it from becoming a jump.
[[gnu::noinline]] void compute_below(int depth) {
  if (depth == 0)
    compute();
  else
    compute_below(depth - 1);
  asm volatile("" ::: "memory");
}

// Only this program is to be profiled.
std::vector<char*> environment_without_library() {
  std::vector<char*> kept;
  for (char** variable = environ; *variable != nullptr; ++variable)
    if (strncmp(*variable, "LD_PRELOAD=", 11) != 0) kept.push_back(*variable);
  kept.push_back(nullptr);
  return kept;
}

void ask(const std::string& mprof, bool at_one_moment) {
  std::string pid = std::to_string(getpid());
  std::string words[] = {mprof, "threads", pid, "--rendezvous"};
  char* arguments[] = {words[0].data(), words[1].data(), words[2].data(),
                       at_one_moment ? words[3].data() : nullptr, nullptr};
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  int status = 0;
  if (posix_spawn(&child, arguments[0], &files, nullptr, arguments,
                  environment_without_library().data()) != 0)
    die("cannot run", mprof);
  waitpid(child, &status, 0);
  posix_spawn_file_actions_destroy(&files);
  // Without the library nobody can answer, and the question is asked for its noise.
  if (status != 0 && std::getenv("LD_PRELOAD") != nullptr) die("no answer to", mprof);
}

int run(const Options& options) {
  const auto threads = static_cast<unsigned>(options.number("--threads", 8));
  const uint64_t questions = options.number("--ops", 20);
  const std::string mprof(options.text("--mprof", ""));
  const bool at_one_moment = options.text("--stacks", "one-by-one") == "at-one-moment";
  const int depth = static_cast<int>(options.number("--depth", 30));
  std::vector<std::thread> running;
  for (unsigned i = 0; i < threads; ++i) running.emplace_back(compute_below, depth);
  while (computing.load() < threads) std::this_thread::yield();
  for (uint64_t i = 0; i < questions; ++i) ask(mprof, at_one_moment);
  is_over = true;
  for (std::thread& thread : running) thread.join();
  report(questions * threads, disturbed_ns);
  return 0;
}

}  // namespace
}  // namespace mprof::bench

int main(int argc, char** argv) {
  return mprof::bench::run({argc, argv, {"--threads", "--ops", "--mprof", "--stacks", "--depth"}});
}

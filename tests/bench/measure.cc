// SPDX-License-Identifier: Apache-2.0
// measure RESULT TIMEOUT_S [NAME=VALUE...] -- COMMAND [ARGUMENT...]
// Runs one command with the given environment on top and writes wall time, CPU time, peak memory
// and how it ended to RESULT, as JSON.
//
// A small program and not a few lines of the driver, because the kernel folds the peak memory of
// the image before exec into ru_maxrss: children of a Python process never show less than
// Python's own tens of megabytes.
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <initializer_list>

namespace {

volatile sig_atomic_t child_pid;
volatile sig_atomic_t timed_out;

double now_s() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

// The command leads a process group of its own: its helpers and children end with it.
void on_stop(int signal_number) {
  if (signal_number == SIGALRM) timed_out = 1;
  if (child_pid > 0) kill(-child_pid, SIGKILL);
}

[[noreturn]] void become(char** environment, char** command) {
  setpgid(0, 0);
  for (; environment != command - 1; environment++) putenv(*environment);
  execvp(command[0], command);
  std::fprintf(stderr, "cannot run %s: %s\n", command[0], std::strerror(errno));
  _exit(127);
}

bool write_result(const char* path, double wall_s, int status, const rusage& usage) {
  FILE* file = std::fopen(path, "w");
  if (file == nullptr) return false;
  std::fprintf(file,
               "{\"wall_s\": %.6f, \"cpu_s\": %.6f, \"peak_kib\": %ld, \"exit_code\": %d, "
               "\"signal\": %d, \"timed_out\": %s}\n",
               wall_s, seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_maxrss,
               WIFEXITED(status) ? WEXITSTATUS(status) : -1,
               WIFSIGNALED(status) ? WTERMSIG(status) : 0, timed_out ? "true" : "false");
  return std::fclose(file) == 0;
}

void watch_signals() {
  struct sigaction action = {};
  action.sa_handler = on_stop;
  for (const int number : {SIGALRM, SIGTERM, SIGINT}) sigaction(number, &action, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  int dashes = 3;
  while (dashes < argc && std::strcmp(argv[dashes], "--") != 0) dashes++;
  if (dashes + 1 >= argc) {
    std::fprintf(stderr, "usage: measure RESULT TIMEOUT_S [NAME=VALUE...] -- COMMAND...\n");
    return 2;
  }
  watch_signals();
  const double start_s = now_s();
  const pid_t pid = fork();
  if (pid == 0) become(argv + 3, argv + dashes + 1);
  if (pid < 0) {
    std::perror("fork");
    return 2;
  }
  child_pid = pid;
  setpgid(pid, pid);  // also here: whoever comes first
  alarm(static_cast<unsigned>(std::atoi(argv[2])));
  int status = 0;
  rusage usage = {};
  while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR) {
  }
  const double wall_s = now_s() - start_s;
  kill(-pid, SIGKILL);  // a helper that outlived the command
  return write_result(argv[1], wall_s, status, usage) ? 0 : 2;
}

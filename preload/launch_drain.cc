// SPDX-License-Identifier: Apache-2.0
#include "preload/launch_drain.h"

#include <dlfcn.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/low.h"
#include "preload/sys.h"
#include "preload/thread_state.h"

namespace mprof::preload {
namespace {

constexpr int kMaxEnvironment = 4096;

// Where the mprof program lies, seen from this library: installed or in the build tree.
bool find_program(Line* out) {
  Dl_info own;
  if (dladdr(reinterpret_cast<void*>(&launch_drain), &own) == 0) return false;
  const char* slash = strrchr(own.dli_fname, '/');
  char directory[1024] = ".";
  const size_t length = slash == nullptr ? 0 : static_cast<size_t>(slash - own.dli_fname);
  if (length >= sizeof directory) return false;
  if (slash != nullptr) memcpy(directory, own.dli_fname, length), directory[length] = '\0';
  constexpr const char* kPlaces[] = {"/../bin/mprof", "/../../bin/mprof", "/../dumper/mprof"};
  for (const char* place : kPlaces) {
    Line candidate;
    candidate << directory << place;
    if (access(candidate.text(), X_OK) == 0) return *out = candidate, true;
  }
  return false;
}

// fork() without an exit signal and without the program's atfork handlers. A debugger would take it
// for a thread of the program, and its exec for the program's.
long clone_quietly() {
  return syscall(SYS_clone, CLONE_UNTRACED, nullptr, nullptr, nullptr, nullptr);
}

// The environment of the start without this library.
char* drainers_environment[kMaxEnvironment];
bool drain_is_said;

// Whether orphans become children of this process: the drainer would be one that it waits for.
bool adopts_orphans() {
  int is_subreaper = 0;
  sys::prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper);
  return is_subreaper != 0 || sys::getpid() == 1;
}

// A child without an exit signal is one that wait() does not see, until it calls exec: in a process
// that adopts orphans it stays, as the drainer's parent.
void become_drainer(const char* program, const char* dump_path, bool stays) {
  setsid();
  if (stays) syscall(SYS_close_range, 0u, ~0u, 0u);
  if (const long drainer = clone_quietly(); drainer != 0) {
    if (stays && drainer > 0) sys::wait_for(static_cast<int>(drainer));
    _exit(0);
  }
  sigset_t none;
  sigemptyset(&none);
  sys::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = sys::open("/dev/null", O_RDWR);
  for (int fd = 0; null >= 0 && fd <= 2; ++fd) dup2(null, fd);
  syscall(SYS_close_range, 3u, ~0u, 0u);
  const char* arguments[] = {program, "drain", dump_path, nullptr};
  execve(program, const_cast<char* const*>(arguments), drainers_environment);
  _exit(127);
}

}  // namespace

void note_environment() {
  int count = 0;
  for (char** entry = environ; *entry != nullptr && count < kMaxEnvironment - 1; ++entry)
    if (strncmp(*entry, "LD_PRELOAD=", 11) != 0) drainers_environment[count++] = *entry;
  drain_is_said = environment("MPROF_DRAIN") != nullptr;
}

bool says_who_drains() { return drain_is_said; }

void launch_drain(const char* dump_path, const char* reason) {
  const ErrnoGuard keep_errno;
  const Guard guard(Guard::kOwnCalls);
  Line program;
  if (!find_program(&program)) {
    Line line;
    line << reason << ": the program mprof was not found beside the library; not draining";
    return line.say();
  }
  const bool stays = adopts_orphans();
  const long child = clone_quietly();
  if (child == 0) become_drainer(program.text(), dump_path, stays);
  if (child > 0 && !stays) sys::wait_for(static_cast<int>(child));
}

}  // namespace mprof::preload

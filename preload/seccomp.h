// SPDX-License-Identifier: Apache-2.0
// The seccomp filters that the program has set up: they are asked before each system call of
// mprof's, for a call that a filter does not let through may kill the program.
//
// What is seen
//   prctl(PR_SET_SECCOMP) and syscall(SYS_seccomp) of the program, in all threads, and what a
//   forked child inherits. Each filter's program is copied before the kernel gets it, and run here
//   with the very arguments of a call; the call is made if every filter lets it through. In a
//   thread in strict mode none is. A filter of one thread is taken for one of all threads.
// What is not seen
//   Filters from before exec, which cannot be read without privileges; and those that are set up
//   by a system call that does not go through libc.
//
// Threads: any. Signals: safe. Allocates: from the kernel, once for each filter. Blocks: no.
#pragma once

namespace mprof::preload {

// What the program asks prctl(PR_SET_SECCOMP) or seccomp() for. Noted before the kernel is asked;
// refused() if the kernel says no.
class SeccompRequest {
 public:
  enum Mode { kNone, kStrict, kFilter };
  SeccompRequest(Mode mode, const void* filter);
  void refused() const;

 private:
  Mode mode_;
  const void* code_ = nullptr;  // of the copied filter
};

}  // namespace mprof::preload

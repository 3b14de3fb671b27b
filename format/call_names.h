// SPDX-License-Identifier: Apache-2.0
// The system calls of a trace: libc functions that may block, by the name that a viewer shows.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mprof::format {

// X(enumerator, name, is_network): a network call waits for a peer, as poll() does.
#define MPROF_CALLS(X)                        \
  X(kRead, "read", false)                     \
  X(kWrite, "write", false)                   \
  X(kPread, "pread", false)                   \
  X(kPwrite, "pwrite", false)                 \
  X(kReadv, "readv", false)                   \
  X(kWritev, "writev", false)                 \
  X(kPreadv, "preadv", false)                 \
  X(kPwritev, "pwritev", false)               \
  X(kOpen, "open", false)                     \
  X(kClose, "close", false)                   \
  X(kFsync, "fsync", false)                   \
  X(kFdatasync, "fdatasync", false)           \
  X(kMsync, "msync", false)                   \
  X(kFtruncate, "ftruncate", false)           \
  X(kFallocate, "fallocate", false)           \
  X(kSendfile, "sendfile", false)             \
  X(kSplice, "splice", false)                 \
  X(kCopyFileRange, "copy_file_range", false) \
  X(kFlock, "flock", false)                   \
  X(kLockf, "lockf", false)                   \
  X(kFcntlLock, "fcntl lock", false)          \
  X(kIoctl, "ioctl", false)                   \
  X(kUnlink, "unlink", false)                 \
  X(kRename, "rename", false)                 \
  X(kStat, "stat", false)                     \
  X(kWait, "wait", false)                     \
  X(kAccept, "accept", true)                  \
  X(kConnect, "connect", true)                \
  X(kRecv, "recv", true)                      \
  X(kRecvfrom, "recvfrom", true)              \
  X(kRecvmsg, "recvmsg", true)                \
  X(kRecvmmsg, "recvmmsg", true)              \
  X(kSend, "send", true)                      \
  X(kSendto, "sendto", true)                  \
  X(kSendmsg, "sendmsg", true)                \
  X(kSendmmsg, "sendmmsg", true)              \
  X(kGetaddrinfo, "getaddrinfo", true)

enum class CallName : uint32_t {
#define MPROF_CALL(enumerator, name, is_network) enumerator,
  MPROF_CALLS(MPROF_CALL)
#undef MPROF_CALL
      kCount,
};

struct CallInfo {
  const char* name;
  bool is_network;
};
inline constexpr CallInfo kCallInfos[] = {
#define MPROF_CALL(enumerator, name, is_network) {name, is_network},
    MPROF_CALLS(MPROF_CALL)
#undef MPROF_CALL
};
static_assert(sizeof kCallInfos / sizeof *kCallInfos == static_cast<size_t>(CallName::kCount));

}  // namespace mprof::format

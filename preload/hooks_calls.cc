// SPDX-License-Identifier: Apache-2.0
// Functions of libc's that may block in the kernel, for the trace: when a thread enters one, from
// where, and when it has left it.
//
// While no trace is on, each hook looks at one word and jumps on, with its arguments where they
// are. Otherwise it jumps to its slow half, whose frame then stands where the hook's would: its
// caller is the program. The real function alone acts: its answer, errno, being interrupted or
// restarted are as they were. Most are cancellation points: a thread that is cancelled in one, or
// jumps out of a handler, leaves a call in the trace that has no end.
//
// Not seen: these calls by libc itself (stdio, getaddrinfo, system, posix_spawn), by syscall() and
// by mprof; libc's own names for them (__read, __open64, ...). Seen as its parent's: what the child
// of a vfork calls.
// Threads: any. Signals: safe, as far as the call itself is. errno: as the real call leaves it.
#include "preload/low.h"
#include "preload/real_calls.h"
#include "preload/trace.h"

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace
using mprof::format::CallName;
using mprof::format::TraceKind;

namespace {

// Not part of each slow half: there are many.
[[gnu::noinline]] void begin_call(CallSite site, CallName name) {
  trace_event_at(site, TraceKind::kCall, static_cast<uint64_t>(name));
}
[[gnu::noinline]] void end_call() { trace_event(TraceKind::kCallEnd); }

template <CallName name, auto function, class... Arguments>
[[gnu::noinline]] auto record_call(Arguments... arguments) {
  begin_call(MPROF_CALL_SITE(), name);
  const auto result = (real_calls.*function)(arguments...);
  end_call();
  return result;
}

// `function`: which of the real ones.
template <CallName name, auto function, class... Arguments>
[[gnu::always_inline]] inline auto call(Arguments... arguments) {
  if (tracing()) [[unlikely]]
    return record_call<name, function>(arguments...);
  return (real_calls.*function)(arguments...);
}

bool waits_for_lock(int command) { return command == F_SETLKW || command == F_OFD_SETLKW; }

}  // namespace

// Functions that libc declares with "..." have a name of their own here, since declarations may not
// differ.
extern "C" {

MPROF_EXPORT ssize_t read(int fd, void* out, size_t bytes) {
  return call<CallName::kRead, &RealCalls::read>(fd, out, bytes);
}

MPROF_EXPORT ssize_t __read_chk(int fd, void* out, size_t bytes, size_t room) {
  return call<CallName::kRead, &RealCalls::__read_chk>(fd, out, bytes, room);
}

MPROF_EXPORT ssize_t write(int fd, const void* data, size_t bytes) {
  return call<CallName::kWrite, &RealCalls::write>(fd, data, bytes);
}

MPROF_EXPORT ssize_t pread(int fd, void* out, size_t bytes, off_t at) {
  return call<CallName::kPread, &RealCalls::pread>(fd, out, bytes, at);
}

MPROF_EXPORT ssize_t pread64(int fd, void* out, size_t bytes, off64_t at) {
  return call<CallName::kPread, &RealCalls::pread64>(fd, out, bytes, at);
}

MPROF_EXPORT ssize_t __pread_chk(int fd, void* out, size_t bytes, off_t at, size_t room) {
  return call<CallName::kPread, &RealCalls::__pread_chk>(fd, out, bytes, at, room);
}

MPROF_EXPORT ssize_t __pread64_chk(int fd, void* out, size_t bytes, off64_t at, size_t room) {
  return call<CallName::kPread, &RealCalls::__pread64_chk>(fd, out, bytes, at, room);
}

MPROF_EXPORT ssize_t pwrite(int fd, const void* data, size_t bytes, off_t at) {
  return call<CallName::kPwrite, &RealCalls::pwrite>(fd, data, bytes, at);
}

MPROF_EXPORT ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t at) {
  return call<CallName::kPwrite, &RealCalls::pwrite64>(fd, data, bytes, at);
}

MPROF_EXPORT ssize_t readv(int fd, const iovec* parts, int count) {
  return call<CallName::kReadv, &RealCalls::readv>(fd, parts, count);
}

MPROF_EXPORT ssize_t writev(int fd, const iovec* parts, int count) {
  return call<CallName::kWritev, &RealCalls::writev>(fd, parts, count);
}

MPROF_EXPORT ssize_t preadv(int fd, const iovec* parts, int count, off_t at) {
  return call<CallName::kPreadv, &RealCalls::preadv>(fd, parts, count, at);
}

MPROF_EXPORT ssize_t preadv64(int fd, const iovec* parts, int count, off64_t at) {
  return call<CallName::kPreadv, &RealCalls::preadv64>(fd, parts, count, at);
}

MPROF_EXPORT ssize_t preadv2(int fd, const iovec* parts, int count, off_t at, int flags) {
  return call<CallName::kPreadv, &RealCalls::preadv2>(fd, parts, count, at, flags);
}

MPROF_EXPORT ssize_t preadv64v2(int fd, const iovec* parts, int count, off64_t at, int flags) {
  return call<CallName::kPreadv, &RealCalls::preadv64v2>(fd, parts, count, at, flags);
}

MPROF_EXPORT ssize_t pwritev(int fd, const iovec* parts, int count, off_t at) {
  return call<CallName::kPwritev, &RealCalls::pwritev>(fd, parts, count, at);
}

MPROF_EXPORT ssize_t pwritev64(int fd, const iovec* parts, int count, off64_t at) {
  return call<CallName::kPwritev, &RealCalls::pwritev64>(fd, parts, count, at);
}

MPROF_EXPORT ssize_t pwritev2(int fd, const iovec* parts, int count, off_t at, int flags) {
  return call<CallName::kPwritev, &RealCalls::pwritev2>(fd, parts, count, at, flags);
}

MPROF_EXPORT ssize_t pwritev64v2(int fd, const iovec* parts, int count, off64_t at, int flags) {
  return call<CallName::kPwritev, &RealCalls::pwritev64v2>(fd, parts, count, at, flags);
}

MPROF_EXPORT int open_hook(const char* path, int flags, mode_t mode) __asm__("open");
int open_hook(const char* path, int flags, mode_t mode) {
  return call<CallName::kOpen, &RealCalls::open>(path, flags, mode);
}

MPROF_EXPORT int open64_hook(const char* path, int flags, mode_t mode) __asm__("open64");
int open64_hook(const char* path, int flags, mode_t mode) {
  return call<CallName::kOpen, &RealCalls::open64>(path, flags, mode);
}

MPROF_EXPORT int openat_hook(int folder, const char* path, int flags,
                             mode_t mode) __asm__("openat");
int openat_hook(int folder, const char* path, int flags, mode_t mode) {
  return call<CallName::kOpen, &RealCalls::openat>(folder, path, flags, mode);
}

MPROF_EXPORT int openat64_hook(int folder, const char* path, int flags,
                               mode_t mode) __asm__("openat64");
int openat64_hook(int folder, const char* path, int flags, mode_t mode) {
  return call<CallName::kOpen, &RealCalls::openat64>(folder, path, flags, mode);
}

MPROF_EXPORT int __open_2(const char* path, int flags) {
  return call<CallName::kOpen, &RealCalls::__open_2>(path, flags);
}

MPROF_EXPORT int __open64_2(const char* path, int flags) {
  return call<CallName::kOpen, &RealCalls::__open64_2>(path, flags);
}

MPROF_EXPORT int __openat_2(int folder, const char* path, int flags) {
  return call<CallName::kOpen, &RealCalls::__openat_2>(folder, path, flags);
}

MPROF_EXPORT int __openat64_2(int folder, const char* path, int flags) {
  return call<CallName::kOpen, &RealCalls::__openat64_2>(folder, path, flags);
}

MPROF_EXPORT int creat(const char* path, mode_t mode) {
  return call<CallName::kOpen, &RealCalls::creat>(path, mode);
}

MPROF_EXPORT int creat64(const char* path, mode_t mode) {
  return call<CallName::kOpen, &RealCalls::creat64>(path, mode);
}

MPROF_EXPORT int close(int fd) { return call<CallName::kClose, &RealCalls::close>(fd); }

MPROF_EXPORT int fsync(int fd) { return call<CallName::kFsync, &RealCalls::fsync>(fd); }

MPROF_EXPORT int fdatasync(int fd) { return call<CallName::kFdatasync, &RealCalls::fdatasync>(fd); }

MPROF_EXPORT int msync(void* memory, size_t bytes, int flags) {
  return call<CallName::kMsync, &RealCalls::msync>(memory, bytes, flags);
}

MPROF_EXPORT int ftruncate(int fd, off_t bytes) noexcept {
  return call<CallName::kFtruncate, &RealCalls::ftruncate>(fd, bytes);
}

MPROF_EXPORT int ftruncate64(int fd, off64_t bytes) noexcept {
  return call<CallName::kFtruncate, &RealCalls::ftruncate64>(fd, bytes);
}

MPROF_EXPORT int fallocate(int fd, int mode, off_t at, off_t bytes) {
  return call<CallName::kFallocate, &RealCalls::fallocate>(fd, mode, at, bytes);
}

MPROF_EXPORT int fallocate64(int fd, int mode, off64_t at, off64_t bytes) {
  return call<CallName::kFallocate, &RealCalls::fallocate64>(fd, mode, at, bytes);
}

MPROF_EXPORT int posix_fallocate(int fd, off_t at, off_t bytes) {
  return call<CallName::kFallocate, &RealCalls::posix_fallocate>(fd, at, bytes);
}

MPROF_EXPORT int posix_fallocate64(int fd, off64_t at, off64_t bytes) {
  return call<CallName::kFallocate, &RealCalls::posix_fallocate64>(fd, at, bytes);
}

MPROF_EXPORT ssize_t sendfile(int to, int from, off_t* at, size_t bytes) noexcept {
  return call<CallName::kSendfile, &RealCalls::sendfile>(to, from, at, bytes);
}

MPROF_EXPORT ssize_t sendfile64(int to, int from, off64_t* at, size_t bytes) noexcept {
  return call<CallName::kSendfile, &RealCalls::sendfile64>(to, from, at, bytes);
}

MPROF_EXPORT ssize_t splice(int from, off64_t* from_at, int to, off64_t* to_at, size_t bytes,
                            unsigned flags) {
  return call<CallName::kSplice, &RealCalls::splice>(from, from_at, to, to_at, bytes, flags);
}

MPROF_EXPORT ssize_t copy_file_range(int from, off64_t* from_at, int to, off64_t* to_at,
                                     size_t bytes, unsigned flags) {
  return call<CallName::kCopyFileRange, &RealCalls::copy_file_range>(from, from_at, to, to_at,
                                                                     bytes, flags);
}

MPROF_EXPORT int flock(int fd, int operation) noexcept {
  return call<CallName::kFlock, &RealCalls::flock>(fd, operation);
}

MPROF_EXPORT int lockf(int fd, int command, off_t bytes) {
  return call<CallName::kLockf, &RealCalls::lockf>(fd, command, bytes);
}

MPROF_EXPORT int lockf64(int fd, int command, off64_t bytes) {
  return call<CallName::kLockf, &RealCalls::lockf64>(fd, command, bytes);
}

MPROF_EXPORT int fcntl_hook(int fd, int command, long argument) __asm__("fcntl");
int fcntl_hook(int fd, int command, long argument) {
  if (tracing() && waits_for_lock(command)) [[unlikely]]
    return record_call<CallName::kFcntlLock, &RealCalls::fcntl>(fd, command, argument);
  return real_calls.fcntl(fd, command, argument);
}

MPROF_EXPORT int fcntl64_hook(int fd, int command, long argument) __asm__("fcntl64");
int fcntl64_hook(int fd, int command, long argument) {
  if (tracing() && waits_for_lock(command)) [[unlikely]]
    return record_call<CallName::kFcntlLock, &RealCalls::fcntl64>(fd, command, argument);
  return real_calls.fcntl64(fd, command, argument);
}

MPROF_EXPORT int ioctl_hook(int fd, unsigned long request, long argument) noexcept __asm__("ioctl");
int ioctl_hook(int fd, unsigned long request, long argument) noexcept {
  return call<CallName::kIoctl, &RealCalls::ioctl>(fd, request, argument);
}

MPROF_EXPORT int unlink(const char* path) noexcept {
  return call<CallName::kUnlink, &RealCalls::unlink>(path);
}

MPROF_EXPORT int unlinkat(int folder, const char* path, int flags) noexcept {
  return call<CallName::kUnlink, &RealCalls::unlinkat>(folder, path, flags);
}

MPROF_EXPORT int rename(const char* from, const char* to) noexcept {
  return call<CallName::kRename, &RealCalls::rename>(from, to);
}

MPROF_EXPORT int renameat(int from_folder, const char* from, int to_folder,
                          const char* to) noexcept {
  return call<CallName::kRename, &RealCalls::renameat>(from_folder, from, to_folder, to);
}

MPROF_EXPORT int renameat2(int from_folder, const char* from, int to_folder, const char* to,
                           unsigned flags) noexcept {
  return call<CallName::kRename, &RealCalls::renameat2>(from_folder, from, to_folder, to, flags);
}

MPROF_EXPORT int stat(const char* path, struct stat* out) noexcept {
  return call<CallName::kStat, &RealCalls::stat>(path, out);
}

MPROF_EXPORT int stat64(const char* path, struct stat64* out) noexcept {
  return call<CallName::kStat, &RealCalls::stat64>(path, out);
}

MPROF_EXPORT int lstat(const char* path, struct stat* out) noexcept {
  return call<CallName::kStat, &RealCalls::lstat>(path, out);
}

MPROF_EXPORT int lstat64(const char* path, struct stat64* out) noexcept {
  return call<CallName::kStat, &RealCalls::lstat64>(path, out);
}

MPROF_EXPORT int fstatat(int folder, const char* path, struct stat* out, int flags) noexcept {
  return call<CallName::kStat, &RealCalls::fstatat>(folder, path, out, flags);
}

MPROF_EXPORT int fstatat64(int folder, const char* path, struct stat64* out, int flags) noexcept {
  return call<CallName::kStat, &RealCalls::fstatat64>(folder, path, out, flags);
}

MPROF_EXPORT int statx(int folder, const char* path, int flags, unsigned mask,
                       struct statx* out) noexcept {
  return call<CallName::kStat, &RealCalls::statx>(folder, path, flags, mask, out);
}

MPROF_EXPORT pid_t wait(int* status) { return call<CallName::kWait, &RealCalls::wait>(status); }

MPROF_EXPORT pid_t waitpid(pid_t child, int* status, int options) {
  return call<CallName::kWait, &RealCalls::waitpid>(child, status, options);
}

MPROF_EXPORT pid_t wait3(int* status, int options, rusage* used) noexcept {
  return call<CallName::kWait, &RealCalls::wait3>(status, options, used);
}

MPROF_EXPORT pid_t wait4(pid_t child, int* status, int options, rusage* used) noexcept {
  return call<CallName::kWait, &RealCalls::wait4>(child, status, options, used);
}

MPROF_EXPORT int waitid(idtype_t type, id_t id, siginfo_t* info, int options) {
  return call<CallName::kWait, &RealCalls::waitid>(type, id, info, options);
}

MPROF_EXPORT int accept(int fd, sockaddr* peer, socklen_t* bytes) {
  return call<CallName::kAccept, &RealCalls::accept>(fd, peer, bytes);
}

MPROF_EXPORT int accept4(int fd, sockaddr* peer, socklen_t* bytes, int flags) {
  return call<CallName::kAccept, &RealCalls::accept4>(fd, peer, bytes, flags);
}

MPROF_EXPORT int connect(int fd, const sockaddr* peer, socklen_t bytes) {
  return call<CallName::kConnect, &RealCalls::connect>(fd, peer, bytes);
}

MPROF_EXPORT ssize_t recv(int fd, void* out, size_t bytes, int flags) {
  return call<CallName::kRecv, &RealCalls::recv>(fd, out, bytes, flags);
}

MPROF_EXPORT ssize_t __recv_chk(int fd, void* out, size_t bytes, size_t room, int flags) {
  return call<CallName::kRecv, &RealCalls::__recv_chk>(fd, out, bytes, room, flags);
}

MPROF_EXPORT ssize_t recvfrom(int fd, void* out, size_t bytes, int flags, sockaddr* from,
                              socklen_t* from_bytes) {
  return call<CallName::kRecvfrom, &RealCalls::recvfrom>(fd, out, bytes, flags, from, from_bytes);
}

MPROF_EXPORT ssize_t __recvfrom_chk(int fd, void* out, size_t bytes, size_t room, int flags,
                                    sockaddr* from, socklen_t* from_bytes) {
  return call<CallName::kRecvfrom, &RealCalls::__recvfrom_chk>(fd, out, bytes, room, flags, from,
                                                               from_bytes);
}

MPROF_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  return call<CallName::kRecvmsg, &RealCalls::recvmsg>(fd, message, flags);
}

MPROF_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* time) {
  return call<CallName::kRecvmmsg, &RealCalls::recvmmsg>(fd, messages, count, flags, time);
}

MPROF_EXPORT ssize_t send(int fd, const void* data, size_t bytes, int flags) {
  return call<CallName::kSend, &RealCalls::send>(fd, data, bytes, flags);
}

MPROF_EXPORT ssize_t sendto(int fd, const void* data, size_t bytes, int flags, const sockaddr* to,
                            socklen_t to_bytes) {
  return call<CallName::kSendto, &RealCalls::sendto>(fd, data, bytes, flags, to, to_bytes);
}

MPROF_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  return call<CallName::kSendmsg, &RealCalls::sendmsg>(fd, message, flags);
}

MPROF_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  return call<CallName::kSendmmsg, &RealCalls::sendmmsg>(fd, messages, count, flags);
}

MPROF_EXPORT int getaddrinfo(const char* host, const char* service, const addrinfo* hints,
                             addrinfo** out) {
  return call<CallName::kGetaddrinfo, &RealCalls::getaddrinfo>(host, service, hints, out);
}

}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
// Files: opening, reading, writing, sizes, copies, names.
#include <sys/mman.h>
#include <sys/sendfile.h>

#include "tests/targets/call_results.h"

static const char kFile[] = "call_results_file";
static const char kOther[] = "call_results_other";
static const char kFolder[] = "call_results_folder";
static const char kLink[] = "call_results_link";

static void show_mode(const char* what, int fd) {
  struct stat status = {0};
  fstat(fd, &status);
  printf("%s: %s: mode %o\n", section, what, status.st_mode);
}
// The mode of a new file is the third argument, or the fourth.
#define TRY_NEW(call)      \
  do {                     \
    unlink(kFile);         \
    const int fd = (call); \
    show_mode(#call, fd);  \
    TRY(close(fd));        \
  } while (0)
#define TRY_OPEN(call)                         \
  do {                                         \
    errno = kErrnoBefore;                      \
    const int opened_fd = (call);              \
    show(#call, opened_fd, errno);             \
    if (opened_fd >= 0) TRY(close(opened_fd)); \
  } while (0)

static void try_new_files(void) {
  TRY_NEW(open(kFile, O_CREAT | O_RDWR, 0640));
  TRY_NEW(open64(kFile, O_CREAT | O_RDWR, 0604));
  TRY_NEW(openat(AT_FDCWD, kFile, O_CREAT | O_RDWR, 0751));
  TRY_NEW(openat64(AT_FDCWD, kFile, O_CREAT | O_RDWR, 0444));
  TRY_NEW(creat(kFile, 0222));
  TRY_NEW(creat64(kFile, 0200));
  TRY_NEW(open(".", O_TMPFILE | O_RDWR, 0614));
  TRY_NEW(open(kFile, O_CREAT | O_RDWR, 0600));
}

void try_opening(void) {
  section = "opening";
  char long_name[5000];
  memset(long_name, 'a', sizeof long_name - 1);
  long_name[sizeof long_name - 1] = '\0';
  try_new_files();
  const int read_only = (int)some(O_RDONLY);  // not for the compiler to see
  TRY_OPEN(open(kFile, O_RDONLY));
  TRY_OPEN(open(kFile, read_only));
  TRY_OPEN(open64(kFile, read_only));
  TRY_OPEN(openat(AT_FDCWD, kFile, read_only));
  TRY_OPEN(openat64(AT_FDCWD, kFile, read_only));
  TRY_OPEN(open("none", O_RDONLY));
  TRY_OPEN(open64("none", read_only));
  TRY_OPEN(openat(-1, kFile, O_RDONLY));
  TRY_OPEN(openat64(-1, kFile, read_only));
  TRY_OPEN(open(kFile, O_CREAT | O_EXCL, 0600));
  TRY_OPEN(open("call_results_file/x", O_RDONLY));
  TRY_OPEN(open(".", O_WRONLY));
  TRY_OPEN(open(long_name, O_RDONLY));
  TRY_OPEN(open(nowhere(), O_RDONLY));
  TRY_OPEN(creat(".", 0600));
  TRY_OPEN(creat64("none/x", 0600));
  const int here = open(".", O_RDONLY | O_DIRECTORY);
  TRY_OPEN(openat(here, kFile, O_RDWR | O_CLOEXEC));
  TRY_OPEN(openat64(here, "none", O_RDWR));
  TRY(close(here));
  TRY(close(here));
  TRY(close(-1));
  TRY(unlink(kFile));
}

static const char kText[] = "0123456789";

static int file_with_text(void) {
  const int fd = open(kFile, O_CREAT | O_TRUNC | O_RDWR, 0600);
  if (pwrite(fd, kText, 10, 0) != 10) exit(3);
  return fd;
}

#define TRY_READ(call)                                  \
  do {                                                  \
    memset(out, 0, sizeof out);                         \
    errno = kErrnoBefore;                               \
    const long got = (call);                            \
    show(#call, got, errno);                            \
    show_text("  has read", out, got > 16 ? 16 : got);  \
    show_number("  and is at", lseek(fd, 0, SEEK_CUR)); \
  } while (0)

static void try_reads(int fd) {
  char out[16];
  struct iovec parts[2] = {{out, 3}, {out + 3, 2}};
  TRY_READ(read(fd, out, some(4)));
  TRY_READ(read(fd, out, 4));
  TRY_READ(read(fd, out, some(16)));
  TRY_READ(read(fd, out, some(16)));
  TRY_READ(read(fd, out, 0));
  TRY_READ(read(fd, nowhere(), 4));
  TRY_READ(read(-1, out, some(4)));
  TRY_READ(pread(fd, out, some(3), 2));
  TRY_READ(pread64(fd, out, some(3), 9));
  TRY_READ(pread(fd, out, 3, -1));
  TRY_READ(pread64(-1, out, some(3), 0));
  lseek(fd, 1, SEEK_SET);
  TRY_READ(readv(fd, parts, 2));
  TRY_READ(readv(fd, parts, (int)some(5000)));
  TRY_READ(readv(-1, parts, 1));
  TRY_READ(preadv(fd, parts, 2, 4));
  TRY_READ(preadv64(fd, parts, 2, 8));
  TRY_READ(preadv2(fd, parts, 2, 1, 0));
  TRY_READ(preadv64v2(fd, parts, 1, 2, 0));
  TRY_READ(preadv64v2(fd, parts, 1, -1, 0));
  TRY_READ(preadv2(fd, parts, 2, 1, 1 << 30));
  TRY_READ(preadv(fd, parts, (int)some(5000), 1));
}

static void try_writes(int fd) {
  char out[16];
  const struct iovec parts[2] = {{(void*)"ab", 2}, {(void*)"cd", 2}};
  TRY(write(fd, "xyz", 3));
  TRY(write(fd, "xyz", 0));
  TRY(write(fd, nowhere(), 3));
  TRY(write(-1, "xyz", 3));
  TRY(pwrite(fd, "P", 1, 1));
  TRY(pwrite64(fd, "Q", 1, 2));
  TRY(pwrite(fd, "P", 1, -1));
  TRY(writev(fd, parts, 2));
  TRY(writev(-1, parts, 2));
  TRY(writev(fd, parts, (int)some(5000)));
  TRY(pwritev(fd, parts, 2, 20));
  TRY(pwritev64(fd, parts, 1, 24));
  TRY(pwritev2(fd, parts, 1, 26, 0));
  TRY(pwritev64v2(fd, parts, 1, 28, 0));
  TRY(pwritev64v2(fd, parts, 1, 28, 1 << 30));
  TRY_READ(pread(fd, out, 16, 0));
  TRY_READ(pread(fd, out, 16, 16));
}

static void try_pipe(void) {
  const struct Pipe ends = make_pipe();
  const int fd = ends.out;
  char out[16];
  TRY(write(ends.in, kText, 10));
  TRY_READ(read(fd, out, some(4)));
  TRY_READ(read(fd, out, some(16)));
  TRY_READ(pread(fd, out, some(4), 0));
  TRY_READ(read(ends.in, out, some(4)));
  TRY(write(ends.out, kText, 1));
  fcntl(fd, F_SETFL, O_NONBLOCK);
  TRY_READ(read(fd, out, some(4)));
  fcntl(ends.in, F_SETFL, O_NONBLOCK);
  fill(ends.in);
  TRY(write(ends.in, kText, 10));
  TRY(close(ends.out));
  TRY(write(ends.in, kText, 10));
  TRY(close(ends.in));
}

void try_reading_and_writing(void) {
  section = "reading and writing";
  const int fd = file_with_text();
  try_reads(fd);
  try_writes(fd);
  TRY(close(fd));
  const int folder = open(".", O_RDONLY);
  char out[16];
  TRY(read(folder, out, some(16)));
  TRY(close(folder));
  try_pipe();
  TRY(unlink(kFile));
}

static void show_size(int fd) {
  struct stat status = {0};
  fstat(fd, &status);
  show_number("  has bytes", status.st_size);
}

void try_sizes(void) {
  section = "sizes";
  const int fd = file_with_text();
  const int read_only = open(kFile, O_RDONLY);
  const struct Pipe ends = make_pipe();
  TRY(ftruncate(fd, 5000));
  TRY(ftruncate64(fd, 7));
  show_size(fd);
  TRY(ftruncate(fd, -1));
  TRY(ftruncate(read_only, 3));
  TRY(ftruncate64(-1, 3));
  TRY(fallocate(fd, 0, 0, 100));
  TRY(fallocate64(fd, FALLOC_FL_KEEP_SIZE, 0, 200));
  show_size(fd);
  TRY(fallocate(fd, 0, -1, 10));
  TRY(fallocate64(-1, 0, 0, 10));
  TRY(fallocate(fd, 1 << 20, 0, 10));
  TRY(posix_fallocate(fd, 0, 300));
  TRY(posix_fallocate64(fd, 0, 400));
  show_size(fd);
  TRY(posix_fallocate(fd, -1, 10));
  TRY(posix_fallocate64(-1, 0, 10));
  TRY(posix_fallocate(ends.in, 0, 10));
  TRY(fsync(fd));
  TRY(fsync(-1));
  TRY(fsync(ends.in));
  TRY(fdatasync(fd));
  TRY(fdatasync(-1));
  TRY(fdatasync(ends.in));
  char* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  TRY(msync(page, 4096, MS_SYNC));
  TRY(msync(page + 1, 4096, MS_SYNC));
  TRY(msync(page, 4096, MS_SYNC | MS_ASYNC));
  munmap(page, 4096);
  TRY(msync(page, 4096, MS_ASYNC));
  close_both(ends);
  TRY(close(read_only));
  TRY(close(fd));
  TRY(unlink(kFile));
}

void try_copying(void) {
  section = "copying";
  const int fd = file_with_text();
  const int other = open(kOther, O_CREAT | O_RDWR, 0600);
  const struct Pipe ends = make_pipe();
  off_t at = 2;
  off64_t at64 = 4, to64 = 1;
  char out[16];
  TRY(sendfile(ends.in, fd, &at, 3));
  show_number("  is at", at);
  TRY(sendfile64(ends.in, fd, &at64, 100));
  show_number("  is at", at64);
  TRY_READ(read(ends.out, out, some(16)));
  TRY(sendfile(ends.in, -1, &at, 3));
  TRY(sendfile64(-1, fd, NULL, 3));
  at64 = 1;
  TRY(splice(fd, &at64, ends.in, NULL, 4, 0));
  show_number("  is at", at64);
  TRY(splice(ends.out, NULL, other, &to64, 3, SPLICE_F_MOVE));
  show_number("  is at", to64);
  TRY_READ(read(ends.out, out, some(16)));
  TRY(splice(ends.out, NULL, other, NULL, 10, SPLICE_F_NONBLOCK));
  TRY(splice(fd, NULL, other, NULL, 10, 0));
  TRY(splice(-1, NULL, ends.in, NULL, 10, 0));
  at64 = 0, to64 = 6;
  TRY(copy_file_range(fd, &at64, other, &to64, 5, 0));
  show_number("  is at", at64);
  show_number("  and", to64);
  TRY(copy_file_range(fd, NULL, other, NULL, 5, 1));
  TRY(copy_file_range(-1, NULL, other, NULL, 5, 0));
  TRY(copy_file_range(ends.out, NULL, other, NULL, 5, 0));
  TRY_READ(pread(other, out, 16, 0));
  close_both(ends);
  close(other);
  close(fd);
  TRY(unlink(kOther));
  TRY(unlink(kFile));
}

#define TRY_STAT(call)                                                                   \
  do {                                                                                   \
    memset(&status, 0, sizeof status);                                                   \
    TRY(call);                                                                           \
    printf("%s:   mode %o, bytes %ld\n", section, status.st_mode, (long)status.st_size); \
  } while (0)

static void try_stat(void) {
  struct stat status;
  TRY_STAT(stat(kFile, &status));
  TRY_STAT(stat(kLink, &status));
  TRY_STAT(lstat(kLink, &status));
  TRY_STAT(fstatat(AT_FDCWD, kLink, &status, AT_SYMLINK_NOFOLLOW));
  TRY_STAT(fstatat(AT_FDCWD, kLink, &status, 0));
  TRY_STAT(fstatat(-1, kLink, &status, 0));
  TRY_STAT(stat("none", &status));
  TRY_STAT(lstat("", &status));
  TRY_STAT(fstatat(AT_FDCWD, kFile, &status, 1 << 30));
  TRY(stat(kFile, nowhere()));
}
static void try_stat64(void) {
  struct stat64 status;
  TRY_STAT(stat64(kLink, &status));
  TRY_STAT(lstat64(kLink, &status));
  TRY_STAT(fstatat64(AT_FDCWD, kLink, &status, AT_SYMLINK_NOFOLLOW));
  TRY_STAT(stat64(nowhere(), &status));
  TRY_STAT(lstat64("call_results_file/x", &status));
  TRY_STAT(fstatat64(-1, kLink, &status, 0));
}
static void try_statx(void) {
  struct statx status = {0};
  TRY(statx(AT_FDCWD, kFile, 0, STATX_SIZE, &status));
  show_number("  has bytes", (long)status.stx_size);
  TRY(statx(AT_FDCWD, "none", 0, STATX_SIZE, &status));
  TRY(statx(-1, kFile, 0, STATX_SIZE, &status));
  TRY(statx(AT_FDCWD, kFile, 1 << 30, STATX_SIZE, &status));
}

void try_names(void) {
  section = "names";
  close(file_with_text());
  mkdir(kFolder, 0700);
  if (symlink(kFile, kLink) != 0) exit(3);
  const int folder = open(kFolder, O_RDONLY);
  try_stat();
  try_stat64();
  try_statx();
  TRY(rename(kFile, kOther));
  TRY(rename(kFile, kOther));
  TRY(rename(kOther, kFolder));
  TRY(renameat(AT_FDCWD, kOther, folder, kFile));
  TRY(renameat(folder, kFile, AT_FDCWD, kFile));
  TRY(renameat(-1, kFile, AT_FDCWD, kFile));
  TRY(renameat2(AT_FDCWD, kFile, AT_FDCWD, kLink, 1));  // RENAME_NOREPLACE
  TRY(renameat2(AT_FDCWD, kFile, AT_FDCWD, kOther, 0));
  TRY(renameat2(AT_FDCWD, kOther, AT_FDCWD, kFile, 1 << 20));
  TRY(unlink(kFolder));
  TRY(unlink("none"));
  TRY(unlink(nowhere()));
  TRY(unlinkat(AT_FDCWD, kLink, 0));
  TRY(unlinkat(AT_FDCWD, kFolder, 0));
  TRY(unlinkat(AT_FDCWD, kFolder, AT_REMOVEDIR));
  TRY(unlinkat(-1, kOther, 0));
  TRY(unlinkat(AT_FDCWD, kOther, 1 << 20));
  TRY(unlink(kOther));
  TRY(close(folder));
}

// SPDX-License-Identifier: Apache-2.0
#include "preload/low.h"

#include <string.h>
#include <unistd.h>

#include <atomic>

#include "preload/sys.h"

namespace mprof::preload {

Line& Line::operator<<(const char* text) {
  while (*text != '\0' && size_ < kMax) text_[size_++] = *text++;
  text_[size_] = '\0';
  return *this;
}

Line& Line::operator<<(uint64_t number) {
  char digits[21];
  char* end = digits + sizeof digits - 1;
  *end = '\0';
  do *--end = static_cast<char>('0' + number % 10);
  while ((number /= 10) != 0);
  return *this << end;
}

namespace {

// Shared with all children.
struct Family {
  int first_pid;
  dev_t stderr_device;
  ino_t stderr_inode;
  std::atomic<bool> has_said;
};
Family* family;

// A forked child may have put any file in the place of stderr, and be one of thousands.
bool may_say(Line::Speaker speaker) {
  if (family == nullptr || sys::getpid() == family->first_pid) return true;
  struct stat now = {};
  sys::fstat(2, &now);
  if (now.st_dev != family->stderr_device || now.st_ino != family->stderr_inode) return false;
  return speaker == Line::kEach || !family->has_said.exchange(true, std::memory_order_relaxed);
}

}  // namespace

void begin_family() {
  if (family != nullptr) return;
  auto* made = static_cast<Family*>(sys::mmap(sizeof(Family), MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (made == nullptr) return;
  struct stat now = {};
  sys::fstat(2, &now);
  made->first_pid = sys::getpid();
  made->stderr_device = now.st_dev;
  made->stderr_inode = now.st_ino;
  family = made;
}

void Line::say(Speaker speaker) const {
  if (!may_say(speaker)) return;
  Line whole;
  whole << "mprof: " << text_;
  if (whole.size_ == kMax) --whole.size_;
  whole.text_[whole.size_++] = '\n';
  // A failed or short write to the program's stderr is nobody's concern.
  sys::write(2, whole.text_, whole.size_);
}

const char* environment(const char* name) {
  if (environ == nullptr) return nullptr;
  const size_t length = strlen(name);
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=') return *entry + length + 1;
  return nullptr;
}

void* map_anonymous(size_t bytes) {
  return sys::mmap(bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

long read_small_file(const char* path, char* out, size_t size) {
  const int fd = sys::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  const long got = sys::read(fd, out, size - 1);
  sys::close(fd);
  out[got < 0 ? 0 : got] = '\0';
  return got;
}

uint64_t leading_number(const char* text) {
  uint64_t value = 0;
  for (; *text >= '0' && *text <= '9'; ++text)
    value = value * 10 + static_cast<uint64_t>(*text - '0');
  return value;
}

uint64_t own_stat_field(int number) {
  char text[1024];
  if (read_small_file("/proc/self/stat", text, sizeof text) <= 0) return 0;
  const char* field = strrchr(text, ')');  // the name may hold spaces and parentheses
  for (int at = 2; field != nullptr && at < number; ++at) field = strchr(field + 1, ' ');
  return field == nullptr ? 0 : leading_number(field + 1);
}

}  // namespace mprof::preload

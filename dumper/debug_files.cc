// SPDX-License-Identifier: Apache-2.0
#include "dumper/debug_files.h"

#include <dlfcn.h>
#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <optional>
#include <utility>

namespace mprof::dumper {
namespace {

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string("./") : path.substr(0, slash + 1);
}

std::optional<uint32_t> crc_of_file(int fd) {
  std::vector<unsigned char> block(size_t{1} << 20);
  uLong crc = crc32(0, nullptr, 0);
  off_t offset = 0;
  for (;;) {
    const ssize_t got = pread(fd, block.data(), block.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) return static_cast<uint32_t>(crc);
    crc = crc32(crc, block.data(), static_cast<uInt>(got));
    offset += got;
  }
}

bool is_same_file(int fd, int other_fd) {
  struct stat a, b;
  return fstat(fd, &a) == 0 && fstat(other_fd, &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

bool has_crc(const std::string& path, uint32_t crc) {
  FileProblem problem;
  const UniqueFd fd = open_regular_file(path, problem);
  return fd.valid() && crc_of_file(fd.get()) == crc;
}

bool belongs(const ElfFile& module, const ElfFile& candidate, uint32_t crc) {
  if (is_same_file(module.fd(), candidate.fd())) return false;
  // Equal build ids say more than a CRC, and stay equal when dwz rewrote the debug file.
  if (!module.build_id_hex().empty() && !candidate.build_id_hex().empty())
    return module.build_id_hex() == candidate.build_id_hex();
  return has_crc(candidate.path(), crc);
}

std::unique_ptr<ElfFile> open_with_build_id(const std::string& path, const std::string& hex) {
  FileProblem problem;
  std::unique_ptr<ElfFile> file = ElfFile::open(path, problem);
  return file != nullptr && file->build_id_hex() == hex ? std::move(file) : nullptr;
}

}  // namespace

// libdebuginfod through dlopen, so that it is not needed where nobody asks for it.
class DebugFiles::Client {
 public:
  static std::unique_ptr<Client> connect() {
    const char* urls = getenv("DEBUGINFOD_URLS");
    if (urls == nullptr || *urls == '\0') return nullptr;
    std::unique_ptr<Client> client(new Client);
    return client->load() ? std::move(client) : nullptr;
  }

  ~Client() {
    // The library stays loaded: curl below it does not unload cleanly.
    if (handle_ != nullptr) end_(handle_);
  }

  // A descriptor, or a negative errno.
  int find_debuginfo(const std::string& build_id_hex) {
    // Length 0 means: the id is hex text.
    return find_(handle_, reinterpret_cast<const unsigned char*>(build_id_hex.c_str()), 0, nullptr);
  }

 private:
  bool load() {
    void* library = dlopen("libdebuginfod.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return false;
    begin_ = reinterpret_cast<decltype(begin_)>(dlsym(library, "debuginfod_begin"));
    find_ = reinterpret_cast<decltype(find_)>(dlsym(library, "debuginfod_find_debuginfo"));
    end_ = reinterpret_cast<decltype(end_)>(dlsym(library, "debuginfod_end"));
    if (begin_ == nullptr || find_ == nullptr || end_ == nullptr) return false;
    handle_ = begin_();
    return handle_ != nullptr;
  }

  void* (*begin_)() = nullptr;
  int (*find_)(void*, const unsigned char*, int, char**) = nullptr;
  void (*end_)(void*) = nullptr;
  void* handle_ = nullptr;
};

DebugFiles::DebugFiles(const SymbolOptions& options) {
  for (const std::string& dir : options.debug_dirs) {
    if (!options.sysroot.empty()) dirs_.push_back(options.sysroot + dir);
    dirs_.push_back(dir);
  }
  if (options.use_debuginfod) client_ = Client::connect();
}

DebugFiles::~DebugFiles() = default;

std::unique_ptr<ElfFile> DebugFiles::by_build_id(const std::string& build_id_hex) {
  const std::string hex = normal_build_id(build_id_hex);
  if (hex.empty()) return nullptr;
  std::unique_ptr<ElfFile> file = in_folders(hex);
  return file != nullptr ? std::move(file) : from_servers(hex);
}

std::unique_ptr<ElfFile> DebugFiles::in_folders(const std::string& hex) const {
  for (const std::string& dir : dirs_) {
    const std::string stem = dir + "/.build-id/" + hex.substr(0, 2) + "/" + hex.substr(2);
    // Without the ending it is a link to the program itself, which is better than nothing.
    for (const char* ending : {".debug", ""})
      if (auto file = open_with_build_id(stem + ending, hex)) return file;
  }
  return nullptr;
}

std::unique_ptr<ElfFile> DebugFiles::from_servers(const std::string& hex) {
  if (client_ == nullptr) return nullptr;
  const int fd = client_->find_debuginfo(hex);
  if (fd < 0) {
    // "No such file" is an answer. Anything else would cost its timeout again for each module.
    if (fd != -ENOENT) client_.reset();
    return nullptr;
  }
  FileProblem problem;
  auto file = ElfFile::from_fd(UniqueFd(fd), "debuginfod:" + hex, problem);
  return file != nullptr && file->build_id_hex() == hex ? std::move(file) : nullptr;
}

std::unique_ptr<ElfFile> DebugFiles::debug_half(const ElfFile& module) {
  const std::string& hex = module.build_id_hex();
  if (auto file = hex.size() < 4 ? nullptr : in_folders(hex)) return file;
  if (auto file = by_debuglink(module)) return file;
  return hex.size() < 4 ? nullptr : from_servers(hex);
}

std::unique_ptr<ElfFile> DebugFiles::by_debuglink(const ElfFile& module) const {
  GElf_Word crc = 0;
  const char* name = dwelf_elf_gnu_debuglink(module.elf(), &crc);
  if (name == nullptr || *name == '\0' || std::string_view(name).find('/') != std::string::npos)
    return nullptr;
  for (const std::string& path : link_candidates(module.path(), name)) {
    FileProblem problem;
    auto file = ElfFile::open(path, problem);
    if (file != nullptr && belongs(module, *file, crc)) return file;
  }
  return nullptr;
}

std::vector<std::string> DebugFiles::link_candidates(const std::string& module_path,
                                                     const std::string& name) const {
  std::vector<std::string> folders = {folder_of(module_path)};
  // /lib is a link to /usr/lib nowadays; packages use the real name.
  const std::string real = real_folder(module_path);
  if (!real.empty() && real != folders.front()) folders.push_back(real);
  std::vector<std::string> candidates;
  for (const std::string& folder : folders) {
    candidates.push_back(folder + name);
    candidates.push_back(folder + ".debug/" + name);
    for (const std::string& dir : dirs_) candidates.push_back(dir + "/" + folder + name);
  }
  return candidates;
}

DebugFiles::Supplement DebugFiles::supplement(const ElfFile& debug_file, Dwarf* dwarf) {
  const char* name = nullptr;
  const void* id = nullptr;
  const ssize_t id_bytes = dwelf_dwarf_gnu_debugaltlink(dwarf, &name, &id);
  if (id_bytes < 2) return {};
  const std::string hex = to_hex(id, static_cast<size_t>(id_bytes));
  if (auto file = in_folders(hex)) return {std::move(file), true};
  const std::string path = *name == '/' ? name : real_folder(debug_file.path()) + name;
  if (auto file = open_with_build_id(path, hex)) return {std::move(file), true};
  // libdw would now open the same path itself, whatever is there.
  return {nullptr, access(path.c_str(), F_OK) != 0};
}

std::string real_folder(const std::string& path) {
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) == nullptr) return {};
  return folder_of(resolved);
}

}  // namespace mprof::dumper

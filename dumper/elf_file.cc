// SPDX-License-Identifier: Apache-2.0
#include "dumper/elf_file.h"

#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <gelf.h>
#include <linux/magic.h>
#include <lzma.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace mprof::dumper {
namespace {

// Above this a file is not a program; a sparse file could claim any size for free.
constexpr off_t kMaxFileBytes = off_t{32} << 30;
constexpr size_t kMaxUnpackedBytes = size_t{512} << 20;
// More than any table of symbols shrinks.
constexpr size_t kMaxUnpackRatio = 64;
constexpr uint64_t kMaxSymbolTableBytes = uint64_t{1} << 30;
constexpr uint64_t kMaxUnpackMemoryBytes = uint64_t{256} << 20;
// Programs of a thousand libraries exist, and so does a soft limit of 1024 descriptors: from
// here on a file is read whole and closed.
constexpr int kManyFds = 512;
constexpr size_t kMaxBuildIdBytes = 64;
constexpr uint64_t kPltEntryBytes = 16;

FileProblem problem_of_open(int error) {
  return error == EACCES || error == EPERM || error == EMFILE || error == ENFILE
             ? FileProblem::kRefused
             : FileProblem::kMissing;
}

bool is_ours(Elf* elf) {
  GElf_Ehdr header;
  return elf_kind(elf) == ELF_K_ELF && gelf_getehdr(elf, &header) != nullptr &&
         header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_machine == EM_X86_64 &&
         (header.e_type == ET_EXEC || header.e_type == ET_DYN || header.e_type == ET_REL);
}

// A function of another module whose address a program takes that is linked to a fixed address:
// the entry in its own PLT then stands for the function.
bool is_plt_address(const GElf_Sym& symbol) {
  return symbol.st_shndx == SHN_UNDEF && symbol.st_value != 0 &&
         GELF_ST_TYPE(symbol.st_info) == STT_FUNC;
}

bool is_in_a_section(const GElf_Sym& symbol) {
  return symbol.st_shndx != SHN_UNDEF && symbol.st_shndx != SHN_ABS &&
         symbol.st_shndx != SHN_COMMON;
}

bool is_code_symbol(const GElf_Sym& symbol) {
  const int type = GELF_ST_TYPE(symbol.st_info);
  const bool is_code = type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE;
  return (is_code && is_in_a_section(symbol)) || is_plt_address(symbol);
}

bool is_data_symbol(const GElf_Sym& symbol) {
  return GELF_ST_TYPE(symbol.st_info) == STT_OBJECT && is_in_a_section(symbol);
}

std::vector<char> unpack_xz(const void* packed, size_t packed_bytes) {
  const size_t most_bytes = std::min(kMaxUnpackedBytes, packed_bytes * kMaxUnpackRatio);
  std::vector<char> out(std::min(most_bytes, std::max<size_t>(packed_bytes * 8, 4096)));
  lzma_stream stream = LZMA_STREAM_INIT;
  if (lzma_stream_decoder(&stream, kMaxUnpackMemoryBytes, 0) != LZMA_OK) return {};
  stream.next_in = static_cast<const uint8_t*>(packed);
  stream.avail_in = packed_bytes;
  lzma_ret result = LZMA_OK;
  while (result == LZMA_OK && stream.total_out < most_bytes) {
    if (stream.total_out == out.size()) out.resize(std::min(most_bytes, out.size() * 2));
    stream.next_out = reinterpret_cast<uint8_t*>(out.data()) + stream.total_out;
    stream.avail_out = out.size() - stream.total_out;
    result = lzma_code(&stream, LZMA_FINISH);
  }
  out.resize(result == LZMA_STREAM_END ? stream.total_out : 0);
  lzma_end(&stream);
  return out;
}

// What the kernel makes up when it is read, or opened: some of it acts, some never ends.
bool is_made_up(const std::string& path) {
  struct statfs info;
  if (statfs(path.c_str(), &info) != 0) return false;
  switch (static_cast<uint32_t>(info.f_type)) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case DEBUGFS_MAGIC:
    case TRACEFS_MAGIC:
    case SECURITYFS_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
    case BPF_FS_MAGIC:
    case EFIVARFS_MAGIC:
    case BINFMTFS_MAGIC: return true;
    default: return false;
  }
}

size_t image_size(const Elf64_Ehdr& header, const char* base) {
  uint64_t end = header.e_shoff + uint64_t{header.e_shnum} * header.e_shentsize;
  const auto* segments = reinterpret_cast<const Elf64_Phdr*>(base + header.e_phoff);
  for (size_t i = 0; i < header.e_phnum; ++i)
    end = std::max(end, segments[i].p_offset + segments[i].p_filesz);
  return end;
}

}  // namespace

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

int UniqueFd::release() { return std::exchange(fd_, -1); }

void UniqueFd::reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

bool may_be_opened(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) != 0 || (S_ISREG(info.st_mode) && !is_made_up(path));
}

UniqueFd open_regular_file(const std::string& path, FileProblem& problem) {
  struct stat info;
  problem = FileProblem::kNone;
  // Looked at before opening, because opening some devices does something; and again after,
  // because the path may have changed hands. O_NONBLOCK keeps even a lost race from waiting.
  if (stat(path.c_str(), &info) != 0) {
    problem = problem_of_open(errno);
    return {};
  }
  if (!S_ISREG(info.st_mode) || is_made_up(path)) {
    problem = FileProblem::kRefused;
    return {};
  }
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) {
    problem = problem_of_open(errno);
    return {};
  }
  if (fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > kMaxFileBytes) {
    problem = FileProblem::kRefused;
    return {};
  }
  if (info.st_size < static_cast<off_t>(sizeof(Elf64_Ehdr))) {
    problem = FileProblem::kNotElf;
    return {};
  }
  return fd;
}

std::unique_ptr<ElfFile> ElfFile::open(const std::string& path, FileProblem& problem) {
  UniqueFd fd = open_regular_file(path, problem);
  if (!fd.valid()) return nullptr;
  return from_fd(std::move(fd), path, problem);
}

std::unique_ptr<ElfFile> ElfFile::from_fd(UniqueFd fd, const std::string& path,
                                          FileProblem& problem) {
  elf_version(EV_CURRENT);
  std::unique_ptr<ElfFile> file(new ElfFile);
  file->path_ = path;
  file->fd_ = std::move(fd);
  struct stat info;
  if (fstat(file->fd_.get(), &info) == 0) file->file_bytes_ = static_cast<uint64_t>(info.st_size);
  Elf* elf = elf_begin(file->fd_.get(), ELF_C_READ, nullptr);
  if (elf != nullptr && file->fd_.get() >= kManyFds && elf_cntl(elf, ELF_C_FDREAD) == 0)
    file->fd_.reset();
  problem = file->adopt(elf) ? FileProblem::kNone : FileProblem::kNotElf;
  return problem == FileProblem::kNone ? std::move(file) : nullptr;
}

std::unique_ptr<ElfFile> ElfFile::from_image(std::vector<char> image, const std::string& path) {
  elf_version(EV_CURRENT);
  if (image.size() < sizeof(Elf64_Ehdr)) return nullptr;
  std::unique_ptr<ElfFile> file(new ElfFile);
  file->path_ = path;
  file->image_ = std::move(image);
  file->file_bytes_ = file->image_.size();
  Elf* elf = elf_memory(file->image_.data(), file->image_.size());
  return file->adopt(elf) ? std::move(file) : nullptr;
}

std::unique_ptr<ElfFile> ElfFile::own_vdso() {
  const auto* base = reinterpret_cast<const char*>(getauxval(AT_SYSINFO_EHDR));
  if (base == nullptr) return nullptr;
  Elf64_Ehdr header;
  std::memcpy(&header, base, sizeof header);
  return from_image(std::vector<char>(base, base + image_size(header, base)), "[vdso]");
}

ElfFile::~ElfFile() {
  if (elf_ != nullptr) elf_end(elf_);
}

bool ElfFile::adopt(Elf* elf) {
  elf_ = elf;
  if (elf_ == nullptr || !is_ours(elf_)) return false;
  const void* id = nullptr;
  const ssize_t id_bytes = dwelf_elf_gnu_build_id(elf_, &id);
  if (id_bytes > 0) build_id_hex_ = to_hex(id, std::min<size_t>(id_bytes, kMaxBuildIdBytes));
  return true;
}

bool ElfFile::is_loadable() const {
  GElf_Ehdr header;
  return gelf_getehdr(elf_, &header) != nullptr && header.e_type != ET_REL;
}

Elf_Scn* ElfFile::find_section(std::string_view name) const {
  size_t names = 0;
  if (elf_getshdrstrndx(elf_, &names) != 0) return nullptr;
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf_, section)) != nullptr;) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == nullptr || header.sh_type == SHT_NOBITS) continue;
    const char* found = elf_strptr(elf_, names, header.sh_name);
    if (found != nullptr && name == found) return section;
  }
  return nullptr;
}

bool ElfFile::has_section(std::string_view name) const { return find_section(name) != nullptr; }

bool ElfFile::has_ended_texts(std::string_view section) const {
  Elf_Scn* found = find_section(section);
  if (found == nullptr) return true;
  const Elf_Data* data = elf_rawdata(found, nullptr);
  return data == nullptr || data->d_buf == nullptr || data->d_size == 0 ||
         static_cast<const char*>(data->d_buf)[data->d_size - 1] == '\0';
}

bool ElfFile::has_dwarf() const {
  return has_section(".debug_info") || has_section(".zdebug_info");
}

bool ElfFile::has_symtab() const { return has_section(".symtab"); }

std::vector<AddressMap::Range> ElfFile::code_ranges() const { return ranges(true); }

std::vector<AddressMap::Range> ElfFile::data_ranges() const { return ranges(false); }

std::vector<AddressMap::Range> ElfFile::ranges(bool is_code) const {
  std::vector<AddressMap::Range> ranges;
  constexpr uint64_t kWhat = SHF_ALLOC | SHF_EXECINSTR | SHF_TLS;
  const uint64_t wanted = is_code ? SHF_ALLOC | SHF_EXECINSTR : SHF_ALLOC;
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf_, section)) != nullptr;) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == nullptr || (header.sh_flags & kWhat) != wanted) continue;
    ranges.push_back(
        {header.sh_addr, header.sh_addr + header.sh_size, 0, static_cast<uint32_t>(ranges.size())});
  }
  return ranges.empty() ? segments(is_code) : ranges;
}

std::vector<AddressMap::Range> ElfFile::segments(bool is_code) const {
  std::vector<AddressMap::Range> ranges;
  size_t count = 0;
  if (elf_getphdrnum(elf_, &count) != 0) return ranges;
  for (size_t i = 0; i < count; ++i) {
    GElf_Phdr segment;
    if (gelf_getphdr(elf_, static_cast<int>(i), &segment) == nullptr) break;
    if (segment.p_type != PT_LOAD || ((segment.p_flags & PF_X) != 0) != is_code) continue;
    ranges.push_back({segment.p_vaddr, segment.p_vaddr + segment.p_memsz, 0,
                      static_cast<uint32_t>(ranges.size())});
  }
  return ranges;
}

std::vector<ElfSymbol> ElfFile::code_symbols(uint32_t section_type) const {
  return symbols(section_type, is_code_symbol);
}

std::vector<ElfSymbol> ElfFile::data_symbols(uint32_t section_type) const {
  return symbols(section_type, is_data_symbol);
}

template <class Wanted>
std::vector<ElfSymbol> ElfFile::symbols(uint32_t section_type, Wanted&& wanted) const {
  std::vector<ElfSymbol> symbols;
  // Only the first table of a kind: a file may claim thousands over the same bytes.
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf_, section)) != nullptr;) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == nullptr || header.sh_type != section_type) continue;
    if (header.sh_size > kMaxSymbolTableBytes) return symbols;
    Elf_Data* data = elf_getdata(section, nullptr);
    if (data == nullptr || data->d_type != ELF_T_SYM) return symbols;
    const size_t count = data->d_size / sizeof(Elf64_Sym);
    for (size_t i = 0; i < count; ++i) {
      GElf_Sym symbol;
      if (gelf_getsym(data, static_cast<int>(i), &symbol) == nullptr) break;
      if (!wanted(symbol)) continue;
      const char* name = elf_strptr(elf_, header.sh_link, symbol.st_name);
      if (name == nullptr || *name == '\0') continue;
      const uint64_t size_bytes = is_plt_address(symbol) ? kPltEntryBytes : symbol.st_size;
      symbols.push_back({symbol.st_value, size_bytes, name,
                         static_cast<uint8_t>(GELF_ST_TYPE(symbol.st_info)),
                         static_cast<uint8_t>(GELF_ST_BIND(symbol.st_info))});
    }
    return symbols;
  }
  return symbols;
}

// What the file has from `address` to the end of its section.
std::string_view ElfFile::contents_from(uint64_t address) const {
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf_, section)) != nullptr;) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == nullptr || (header.sh_flags & SHF_ALLOC) == 0 ||
        header.sh_type == SHT_NOBITS || address < header.sh_addr ||
        address - header.sh_addr >= header.sh_size)
      continue;
    const Elf_Data* data = elf_rawdata(section, nullptr);
    const uint64_t offset = address - header.sh_addr;
    if (data == nullptr || data->d_buf == nullptr || offset >= data->d_size) return {};
    return {static_cast<const char*>(data->d_buf) + offset, data->d_size - offset};
  }
  return {};
}

std::optional<uint64_t> ElfFile::relocated(const GElf_Rela& relocation,
                                           size_t symbols_section) const {
  const auto addend = static_cast<uint64_t>(relocation.r_addend);
  if (GELF_R_TYPE(relocation.r_info) == R_X86_64_RELATIVE) return addend;
  if (GELF_R_TYPE(relocation.r_info) != R_X86_64_64) return {};
  GElf_Sym symbol;
  Elf_Scn* section = elf_getscn(elf_, symbols_section);
  Elf_Data* symbols = section == nullptr ? nullptr : elf_getdata(section, nullptr);
  if (symbols == nullptr ||
      gelf_getsym(symbols, static_cast<int>(GELF_R_SYM(relocation.r_info)), &symbol) == nullptr ||
      !is_in_a_section(symbol))
    return {};
  return symbol.st_value + addend;
}

std::optional<uint64_t> ElfFile::pointer_at(uint64_t address) const {
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf_, section)) != nullptr;) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == nullptr || header.sh_type != SHT_RELA ||
        (header.sh_flags & SHF_ALLOC) == 0)
      continue;
    Elf_Data* data = elf_getdata(section, nullptr);
    GElf_Rela relocation;
    for (int i = 0; data != nullptr && gelf_getrela(data, i, &relocation) != nullptr; ++i)
      if (relocation.r_offset == address) return relocated(relocation, header.sh_link);
  }
  uint64_t word = 0;
  const std::string_view bytes = contents_from(address);
  if (bytes.size() < sizeof word) return {};
  std::memcpy(&word, bytes.data(), sizeof word);
  return word;
}

std::string ElfFile::text_at(uint64_t address) const {
  const std::string_view bytes = contents_from(address);
  const size_t end = bytes.find('\0');
  return std::string(bytes.substr(0, end == std::string_view::npos ? 0 : end));
}

std::unique_ptr<ElfFile> ElfFile::packed_symbols() const {
  Elf_Scn* section = find_section(".gnu_debugdata");
  Elf_Data* data = section == nullptr ? nullptr : elf_rawdata(section, nullptr);
  if (data == nullptr || data->d_buf == nullptr) return nullptr;
  return from_image(unpack_xz(data->d_buf, data->d_size), path_);
}

std::string to_hex(const void* bytes, size_t size_bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (size_t i = 0; i < size_bytes; ++i) {
    const uint8_t byte = static_cast<const uint8_t*>(bytes)[i];
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::string normal_build_id(std::string_view hex) {
  std::string normal;
  if (hex.size() < 4 || hex.size() % 2 != 0 || hex.size() > 2 * kMaxBuildIdBytes) return normal;
  for (char digit : hex) {
    if (!std::isxdigit(static_cast<unsigned char>(digit))) return {};
    normal += static_cast<char>(std::tolower(static_cast<unsigned char>(digit)));
  }
  return normal;
}

}  // namespace mprof::dumper

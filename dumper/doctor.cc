// SPDX-License-Identifier: Apache-2.0
#include "dumper/doctor.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gelf.h>
#include <libelf.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <sstream>

#include "dumper/count_profile.h"
#include "dumper/cpu_times.h"
#include "dumper/dump_reader.h"
#include "dumper/elf_file.h"
#include "dumper/heap_profile.h"
#include "dumper/launch.h"
#include "dumper/profile_comments.h"
#include "dumper/terminal_text.h"
#include "format/config.h"

namespace mprof::dumper {
namespace {

namespace fs = std::filesystem;

struct OpenFile {
  int fd;
  explicit OpenFile(const std::string& path)
      : fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (fd >= 0) close(fd);
  }
};

using Findings = std::vector<Finding>;
void problem(Findings& out, std::string text) { out.push_back({true, std::move(text)}); }
void note(Findings& out, std::string text) { out.push_back({false, std::move(text)}); }

// What an ELF file says about itself.
struct ElfFacts {
  bool is_elf = false;
  bool is_64_bit = false;
  unsigned machine = 0;
  std::string interpreter;
  bool has_unwind_tables = false;
  bool exports_malloc = false;  // others find it, and so does it itself
  bool contains_malloc = false;
  std::vector<std::string> needed;
};

void read_segments(Elf* elf, ElfFacts& facts) {
  size_t count = 0;
  elf_getphdrnum(elf, &count);
  size_t file_bytes = 0;
  const char* file = elf_rawfile(elf, &file_bytes);
  for (size_t i = 0; i < count; ++i) {
    GElf_Phdr segment;
    if (gelf_getphdr(elf, static_cast<int>(i), &segment) == nullptr) return;
    if (segment.p_type == PT_GNU_EH_FRAME) facts.has_unwind_tables = true;
    if (segment.p_type != PT_INTERP || file == nullptr || segment.p_offset >= file_bytes) continue;
    const size_t room = std::min<size_t>(segment.p_filesz, file_bytes - segment.p_offset);
    facts.interpreter.assign(file + segment.p_offset, strnlen(file + segment.p_offset, room));
  }
}

void read_symbols(Elf* elf, Elf_Scn* section, const GElf_Shdr& header, ElfFacts& facts) {
  Elf_Data* data = elf_getdata(section, nullptr);
  if (data == nullptr || header.sh_entsize == 0) return;
  for (size_t i = 0; i < data->d_size / header.sh_entsize; ++i) {
    GElf_Sym symbol;
    if (gelf_getsym(data, static_cast<int>(i), &symbol) == nullptr) return;
    if (symbol.st_shndx == SHN_UNDEF || GELF_ST_TYPE(symbol.st_info) != STT_FUNC) continue;
    const char* name = elf_strptr(elf, header.sh_link, symbol.st_name);
    if (name == nullptr || strcmp(name, "malloc") != 0) continue;
    (header.sh_type == SHT_DYNSYM ? facts.exports_malloc : facts.contains_malloc) = true;
  }
}

void read_needed(Elf* elf, Elf_Scn* section, const GElf_Shdr& header, ElfFacts& facts) {
  Elf_Data* data = elf_getdata(section, nullptr);
  if (data == nullptr || header.sh_entsize == 0) return;
  for (size_t i = 0; i < data->d_size / header.sh_entsize; ++i) {
    GElf_Dyn entry;
    if (gelf_getdyn(data, static_cast<int>(i), &entry) == nullptr) return;
    if (entry.d_tag != DT_NEEDED) continue;
    if (const char* name = elf_strptr(elf, header.sh_link, entry.d_un.d_val))
      facts.needed.emplace_back(name);
  }
}

ElfFacts read_elf(int fd) {
  elf_version(EV_CURRENT);
  ElfFacts facts;
  const std::unique_ptr<Elf, int (*)(Elf*)> elf(elf_begin(fd, ELF_C_READ, nullptr), elf_end);
  GElf_Ehdr header;
  if (elf == nullptr || elf_kind(elf.get()) != ELF_K_ELF ||
      gelf_getehdr(elf.get(), &header) == nullptr)
    return facts;
  facts.is_elf = true;
  facts.is_64_bit = header.e_ident[EI_CLASS] == ELFCLASS64;
  facts.machine = header.e_machine;
  read_segments(elf.get(), facts);
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf.get(), section)) != nullptr;) {
    GElf_Shdr shape;
    if (gelf_getshdr(section, &shape) == nullptr) break;
    if (shape.sh_type == SHT_DYNSYM || shape.sh_type == SHT_SYMTAB)
      read_symbols(elf.get(), section, shape, facts);
    if (shape.sh_type == SHT_DYNAMIC) read_needed(elf.get(), section, shape, facts);
  }
  return facts;
}

void judge_elf(const std::string& path, const ElfFacts& facts, Findings& out) {
  if (!facts.is_elf) return problem(out, path + ": neither an ELF program nor a script");
  if (!facts.is_64_bit)
    problem(out, path + ": 32-bit program; libmprof.so is 64-bit, so the loader leaves it out");
  else if (facts.machine != EM_X86_64)
    problem(out,
            fmt::format("{}: made for another processor (ELF machine {})", path, facts.machine));
  if (facts.interpreter.empty())
    problem(out, path + ": static program; LD_PRELOAD has no effect on it. Link it dynamically");
  if (facts.interpreter.find("ld-musl") != std::string::npos)
    problem(out, path + ": linked against musl; libmprof.so needs glibc");
  if (facts.interpreter.empty()) return;
  if (facts.exports_malloc || facts.contains_malloc)
    problem(out, path +
                     ": has an allocator of its own linked in (it defines malloc); its calls "
                     "do not reach libmprof.so. Link that allocator as a shared library");
  if (!facts.has_unwind_tables)
    problem(out, path +
                     ": no unwind tables (.eh_frame_hdr); stacks end at its first frame unless "
                     "it has frame pointers (MPROF_UNWIND=fp)");
  for (const std::string& library : facts.needed)
    for (const char* allocator : {"libjemalloc", "libtcmalloc", "libmimalloc"})
      if (library.starts_with(allocator))
        note(out, fmt::format("{}: allocates through {}, which mprof passes calls on to", path,
                              library));
}

void judge_rights(const std::string& path, const struct stat& status, Findings& out) {
  char capabilities[64];
  const bool special =
      ((status.st_mode & S_ISUID) != 0 && status.st_uid != geteuid()) ||
      ((status.st_mode & S_ISGID) != 0 && status.st_gid != getegid()) ||
      getxattr(path.c_str(), "security.capability", capabilities, sizeof capabilities) > 0;
  if (special)
    problem(out, path +
                     ": setuid, setgid or with file capabilities; the loader ignores "
                     "LD_PRELOAD for it. Run it as the user it becomes, or a copy without them");
}

std::string interpreter_of_script(int fd) {
  char line[256] = {};
  if (pread(fd, line, sizeof line - 1, 0) < 3 || line[0] != '#' || line[1] != '!') return {};
  std::istringstream words(std::string(line + 2, strcspn(line + 2, "\n")));
  std::string interpreter;
  std::string argument;
  words >> interpreter >> argument;
  // "#!/usr/bin/env name" runs another program; "-S" comes before it.
  if (fs::path(interpreter).filename() == "env") {
    if (argument == "-S") words >> argument;
    if (const std::string found = find_in_path(argument); !found.empty()) return found;
  }
  return interpreter;
}

void examine(const std::string& path, int depth, Findings& out) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0)
    return problem(out, fmt::format("{}: {}", path, strerror(errno)));
  if (!S_ISREG(status.st_mode)) return problem(out, path + ": not a regular file");
  const OpenFile file(path);
  if (file.fd < 0) return problem(out, fmt::format("{}: {}", path, strerror(errno)));
  judge_rights(path, status, out);
  const std::string interpreter = interpreter_of_script(file.fd);
  if (interpreter.empty()) return judge_elf(path, read_elf(file.fd), out);
  note(out, fmt::format("{}: a script; what is profiled is its interpreter {}, and every program "
                        "that it starts",
                        path, interpreter));
  if (depth < 4) examine(interpreter, depth + 1, out);
}

// Is `name` in a list separated by commas?
bool in_list(const std::string& name, const char* list) {
  std::istringstream words(list);
  for (std::string word; std::getline(words, word, ',');)
    if (word == name) return true;
  return false;
}

void report(const Finding& finding) {
  fmt::print("{} {}\n", finding.is_problem ? "problem:" : "note:   ", printable(finding.text));
}

// A directory that is gone at the end, with what was written to it.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string pattern = (fs::temp_directory_path() / "mprof-doctor-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
      throw std::system_error(errno, std::generic_category(), pattern);
    path_ = pattern;
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string cpu_note(const Dump& dump, const CountReading& counts, const std::string& who) {
  const CpuTimes times = cpu_times(dump, counts);
  return fmt::format("{}: {} CPU samples; {}", who, times.samples, cpu_lines(times).front());
}

Findings judge_dump(const std::string& path) {
  Findings out;
  Dump dump = Dump::open(path, Access::kWrite);
  const HeapReading reading = read_heap(dump);
  const HeapSums sums = sum(reading);
  const StackCounts stacks = stack_counts(dump);
  const std::string who = fmt::format("process {} ({})", dump.header().pid, dump.executable());
  const CountReading counts = read_counts(dump);
  const uint64_t waits = sum(dump, counts, format::CountKind::kBlock).samples;
  if (waits != 0) note(out, fmt::format("{}: {} waits recorded", who, waits));
  if (is_recorded(dump, format::CountKind::kCpu)) note(out, cpu_note(dump, counts, who));
  if (sums.alloc_samples == 0 && waits == 0)
    problem(out, fmt::format("{}: a dump but no samples at a rate of {} bytes", who,
                             dump.header().heap_rate_bytes));
  else if (sums.alloc_samples != 0)
    note(out, fmt::format("{}: {} samples, allocated {}", who, sums.alloc_samples,
                          estimate_text(sums.alloc_bytes, "bytes")));
  if (stacks.incomplete * 10 > stacks.samples)
    problem(out, fmt::format("{}: {} of {} stacks are incomplete: code without unwind tables; "
                             "try MPROF_UNWIND=fp if it has frame pointers",
                             who, stacks.incomplete, stacks.samples));
  for (const std::string& line : loss_lines(dump)) problem(out, who + ": " + line);
  for (const std::string& line : dump.damage()) problem(out, who + ": damage: " + line);
  return out;
}

Findings judge_run(const std::vector<std::string>& command) {
  const ScratchDirectory scratch;
  LaunchOptions options;
  options.command = command;
  options.directory = scratch.path();
  options.drain = false;
  const LaunchResult result = launch(options);
  Findings out;
  if (!result.failure.empty()) {
    problem(out, result.failure);
    return out;
  }
  if (result.dumps.empty())
    problem(out,
            "no process made a dump: libmprof.so was not loaded, was turned off, or could "
            "not write (it says so on stderr)");
  for (const std::string& dump : result.dumps)
    for (Finding& finding : judge_dump(dump)) out.push_back(std::move(finding));
  note(out, fmt::format("the program ended with exit code {}", result.exit_code));
  return out;
}

}  // namespace

std::vector<Finding> examine_program(const std::string& path) {
  Findings out;
  examine(path, 0, out);
  return out;
}

std::vector<Finding> examine_executable(const std::string& path) {
  Findings out;
  FileProblem why;
  const UniqueFd file = open_regular_file(path, why);
  if (file.valid()) judge_elf(path, read_elf(file.get()), out);
  return out;
}

std::vector<Finding> examine_settings(const std::string& path) {
  Findings out;
  const std::string name = fs::path(path).filename();
  const char* only = getenv("MPROF_ONLY");
  const char* skip = getenv("MPROF_SKIP");
  const char* rate = getenv("MPROF_HEAP_RATE");
  if (only != nullptr && *only != '\0' && !in_list(name, only))
    problem(out, fmt::format("MPROF_ONLY={} leaves {} out", only, name));
  if (skip != nullptr && in_list(name, skip))
    problem(out, fmt::format("MPROF_SKIP={} leaves {} out", skip, name));
  if (rate != nullptr && strcmp(rate, "0") == 0)
    problem(out, "MPROF_HEAP_RATE=0 turns heap sampling off");
  for (const format::SettingInfo& setting : format::kSettings) {
    const char* value = getenv(setting.variable);
    format::Settings scratch;
    if (value != nullptr && !format::apply_setting(scratch, setting.variable, value))
      problem(out, fmt::format("{}={} is not accepted ({}); the default {} is used",
                               setting.variable, value, setting.accepted, setting.default_text));
  }
  return out;
}

std::string find_in_path(const std::string& command) {
  if (command.find('/') != std::string::npos) return command;
  const char* path = getenv("PATH");
  std::istringstream directories(path == nullptr ? "/bin:/usr/bin" : path);
  for (std::string directory; std::getline(directories, directory, ':');) {
    const fs::path candidate = fs::path(directory.empty() ? "." : directory) / command;
    std::error_code ignored;
    if (access(candidate.c_str(), X_OK) == 0 && fs::is_regular_file(candidate, ignored))
      return candidate;
  }
  return {};
}

int run_doctor(const std::vector<std::string>& command, bool run_it) {
  const std::string path = find_in_path(command.front());
  Findings findings;
  if (path.empty()) problem(findings, command.front() + ": not found in PATH");
  if (!path.empty()) {
    findings = examine_program(path);
    for (Finding& finding : examine_settings(path)) findings.push_back(std::move(finding));
    if (run_it)
      for (Finding& finding : judge_run(command)) findings.push_back(std::move(finding));
  }
  for (const Finding& finding : findings) report(finding);
  const bool sound = std::none_of(findings.begin(), findings.end(),
                                  [](const Finding& finding) { return finding.is_problem; });
  if (sound) fmt::print("nothing found that would leave its profile empty or partial\n");
  return sound ? 0 : 1;
}

}  // namespace mprof::dumper

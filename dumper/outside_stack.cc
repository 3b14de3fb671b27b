// SPDX-License-Identifier: Apache-2.0
#include "dumper/outside_stack.h"

#include <elfutils/libdwfl.h>
#include <fmt/format.h>

#include <cstring>

#include "dumper/proc_threads.h"

namespace mprof::dumper {
namespace {

// As much of a stack as is copied in one go; what lies above is read word by word.
constexpr size_t kWindowBytes = 128 << 10;
// The numbers that DWARF gives registers of x86-64.
constexpr int kRbp = 6, kRsp = 7, kReturnAddress = 16;

// .eh_frame is in the file itself: nobody is to look for others.
int no_debug_file(Dwfl_Module*, void**, const char*, Dwarf_Addr, const char*, const char*,
                  GElf_Word, char**) {
  return -1;
}

constexpr Dwfl_Callbacks kFiles = {
    .find_elf = dwfl_linux_proc_find_elf,
    .find_debuginfo = no_debug_file,
    .section_address = nullptr,
    .debuginfo_path = nullptr,
};

std::string hex(const unsigned char* bytes, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

}  // namespace

class OutsideStacks::Impl {
 public:
  explicit Impl(uint32_t pid) : pid_(pid), dwfl_(dwfl_begin(&kFiles), dwfl_end) {
    window_.resize(kWindowBytes);
    if (dwfl_ == nullptr || dwfl_linux_proc_report(dwfl_.get(), static_cast<pid_t>(pid)) != 0 ||
        dwfl_report_end(dwfl_.get(), nullptr, nullptr) != 0 ||
        !dwfl_attach_state(dwfl_.get(), nullptr, static_cast<pid_t>(pid), &kState, this))
      fail("its mappings cannot be used");
    else
      attached_ = true;
  }

  std::optional<OutsideWalk> walk(uint32_t tid, const StandingRegisters& start, size_t most_frames,
                                  const std::function<bool()>& stands_still) {
    if (!attached_) return std::nullopt;
    tid_ = tid;
    start_ = start;
    most_frames_ = most_frames;
    walk_ = {};
    window_bytes_ = read_memory(pid_, start.sp, window_.data(), window_.size());
    if (window_bytes_ == 0) {
      problem_ = "its memory cannot be read by this user";
      return std::nullopt;
    }
    if (!stands_still()) {
      problem_ = "it did not stand still";
      return std::nullopt;
    }
    walk_.complete =
        dwfl_getthread_frames(dwfl_.get(), static_cast<pid_t>(tid), on_frame, this) == 0;
    return std::move(walk_);
  }

  [[nodiscard]] const std::string& problem() const { return problem_; }

  [[nodiscard]] std::optional<ModuleCopy> module_at(uint64_t address) const {
    Dwfl_Module* module = attached_ ? dwfl_addrmodule(dwfl_.get(), address) : nullptr;
    if (module == nullptr) return std::nullopt;
    ModuleCopy copy;
    GElf_Addr bias = 0;
    const char* file = nullptr;
    if (dwfl_module_getelf(module, &bias) == nullptr) return std::nullopt;
    const char* name =
        dwfl_module_info(module, nullptr, &copy.start, &copy.end, nullptr, nullptr, &file, nullptr);
    copy.load_bias = bias;
    copy.path = file != nullptr ? file : name;
    const unsigned char* id = nullptr;
    GElf_Addr place = 0;
    if (const int bytes = dwfl_module_build_id(module, &id, &place); bytes > 0)
      copy.build_id_hex = hex(id, bytes);
    return copy;
  }

 private:
  static Impl& of(void* argument) { return *static_cast<Impl*>(argument); }

  // There is one thread at a time: the one that is being walked.
  static pid_t next_thread(Dwfl*, void* argument, void** thread_argument) {
    if (*thread_argument != nullptr) return 0;
    *thread_argument = argument;
    return static_cast<pid_t>(of(argument).tid_);
  }
  static bool get_thread(Dwfl*, pid_t, void* argument, void** thread_argument) {
    *thread_argument = argument;
    return true;
  }
  static bool memory_read(Dwfl*, Dwarf_Addr address, Dwarf_Word* result, void* argument) {
    return of(argument).read_word(address, result);
  }
  // The pc of a frame that was interrupted is looked up as it is, that of a call just before it.
  static bool set_registers(Dwfl_Thread* thread, void* argument) {
    const StandingRegisters& start = of(argument).start_;
    const Dwarf_Word pc = start.pc - 1;
    return dwfl_thread_state_registers(thread, kRbp, 1, &start.fp) &&
           dwfl_thread_state_registers(thread, kRsp, 1, &start.sp) &&
           dwfl_thread_state_registers(thread, kReturnAddress, 1, &pc);
  }
  static int on_frame(Dwfl_Frame* frame, void* argument) {
    Impl& self = of(argument);
    Dwarf_Addr pc = 0;
    bool is_activation = false;
    if (!dwfl_frame_pc(frame, &pc, &is_activation)) return DWARF_CB_ABORT;
    if (self.walk_.pcs.size() == self.most_frames_) {
      self.walk_.truncated = true;
      return DWARF_CB_ABORT;
    }
    self.walk_.pcs.push_back(pc + (is_activation ? 1 : 0));
    return DWARF_CB_OK;
  }

  bool read_word(uint64_t address, Dwarf_Word* result) {
    if (address >= start_.sp && address - start_.sp + sizeof *result <= window_bytes_) {
      memcpy(result, window_.data() + (address - start_.sp), sizeof *result);
      return true;
    }
    return read_memory(pid_, address, result, sizeof *result) == sizeof *result;
  }

  void fail(const char* what) { problem_ = fmt::format("{}: {}", what, dwfl_errmsg(-1)); }

  static constexpr Dwfl_Thread_Callbacks kState = {
      .next_thread = next_thread,
      .get_thread = get_thread,
      .memory_read = memory_read,
      .set_initial_registers = set_registers,
      .detach = nullptr,
      .thread_detach = nullptr,
  };

  uint32_t pid_;
  std::unique_ptr<Dwfl, void (*)(Dwfl*)> dwfl_;
  bool attached_ = false;
  std::string problem_;
  // Of the walk that is under way.
  uint32_t tid_ = 0;
  StandingRegisters start_;
  size_t most_frames_ = 0;
  std::vector<char> window_;
  size_t window_bytes_ = 0;
  OutsideWalk walk_;
};

OutsideStacks::OutsideStacks(uint32_t pid) : impl_(std::make_unique<Impl>(pid)) {}
OutsideStacks::~OutsideStacks() = default;

std::optional<OutsideWalk> OutsideStacks::walk(uint32_t tid, const StandingRegisters& start,
                                               size_t most_frames,
                                               const std::function<bool()>& stands_still) {
  return impl_->walk(tid, start, most_frames, stands_still);
}

const std::string& OutsideStacks::problem() const { return impl_->problem(); }

std::optional<ModuleCopy> OutsideStacks::module_at(uint64_t address) const {
  return impl_->module_at(address);
}

}  // namespace mprof::dumper

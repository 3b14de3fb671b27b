// SPDX-License-Identifier: Apache-2.0
#include "preload/handler_returns.h"

#include <errno.h>

#include "preload/signals.h"
#include "preload/sys.h"

extern "C" {
constinit thread_local uint32_t mprof_handler_returned = 0;
// The name is libc's: debuggers and stacks show it as they did.
__attribute__((visibility("hidden"))) void mprof_return_from_handler() asm("__restore_rt");
}

// The stack pointer is at the ucontext; each register lies there at 40 bytes and more. The nop: an
// unwinder looks up the address before.
#define MPROF_SAVED_AT(dwarf_register, low, high) \
  ".cfi_escape 0x10, " #dwarf_register ", 3, 0x77, " #low ", " #high "\n"
#define MPROF_SAVED_NEAR(dwarf_register, offset) \
  ".cfi_escape 0x10, " #dwarf_register ", 2, 0x77, " #offset "\n"
asm(".pushsection .text\n"
    ".cfi_startproc simple\n"
    ".cfi_signal_frame\n"
    ".cfi_escape 0x0f, 4, 0x77, 0xa0, 0x01, 0x06\n"  // the CFA is the saved stack pointer
    MPROF_SAVED_NEAR(8, 40) MPROF_SAVED_NEAR(9, 48) MPROF_SAVED_NEAR(10, 56)
        MPROF_SAVED_AT(11, 0xc0, 0) MPROF_SAVED_AT(12, 0xc8, 0) MPROF_SAVED_AT(13, 0xd0, 0)
            MPROF_SAVED_AT(14, 0xd8, 0) MPROF_SAVED_AT(15, 0xe0, 0)
                MPROF_SAVED_AT(5, 0xe8, 0)  // rdi
    MPROF_SAVED_AT(4, 0xf0, 0)              // rsi
    MPROF_SAVED_AT(6, 0xf8, 0)              // rbp
    MPROF_SAVED_AT(3, 0x80, 1)              // rbx
    MPROF_SAVED_AT(1, 0x88, 1)              // rdx
    MPROF_SAVED_AT(0, 0x90, 1)              // rax
    MPROF_SAVED_AT(2, 0x98, 1)              // rcx
    MPROF_SAVED_AT(7, 0xa0, 1)              // rsp
    MPROF_SAVED_AT(16, 0xa8, 1)             // rip
    "nop\n"
    ".p2align 4\n"
    ".hidden __restore_rt\n"
    ".globl __restore_rt\n"
    ".type __restore_rt, @function\n"
    "__restore_rt:\n"
    "movq mprof_handler_returned@gottpoff(%rip), %rax\n"
    "movl $1, %fs:(%rax)\n"
    "movq $15, %rax\n"  // SYS_rt_sigreturn, which restores all registers
    "syscall\n"
    ".size __restore_rt, .-__restore_rt\n"
    ".cfi_endproc\n"
    ".popsection\n");

namespace mprof::preload {
namespace {

constexpr int kLastSignal = 64;
constexpr int kRestorerFlag = 0x04000000;
constexpr long kKernelSetBytes = 8;

// What the kernel takes.
struct KernelAction {
  sighandler_t handler;
  long flags;
  void (*restorer)();
  uint64_t mask;
};

long call_sigaction(int number, const KernelAction* action, KernelAction* before) {
  return sys::call<SYS_rt_sigaction>(number, sys::address(action), sys::address(before),
                                     kKernelSetBytes);
}

}  // namespace

int set_marked(int number, const struct sigaction& action, struct sigaction* before) {
  const KernelAction wanted = {action.sa_handler, action.sa_flags | kRestorerFlag,
                               mprof_return_from_handler, action.sa_mask.__val[0]};
  KernelAction old;
  if (const long result = call_sigaction(number, &wanted, &old); result != 0) {
    errno = static_cast<int>(-result);
    return -1;
  }
  if (before == nullptr) return 0;
  before->sa_handler = old.handler;
  before->sa_mask.__val[0] = old.mask;
  before->sa_flags = static_cast<int>(old.flags);
  before->sa_restorer = old.restorer;
  return 0;
}

bool is_function(sighandler_t handler) {
  return handler != SIG_DFL && handler != SIG_IGN && handler != SIG_ERR && handler != SIG_HOLD;
}

bool is_usual(int number) {
  return number > 0 && number <= kLastSignal && number != 32 && number != 33;
}

bool has_unmarked_handler() {
  for (int number = 1; number <= kLastSignal; ++number) {
    KernelAction action;
    if (!is_usual(number) || number == own_signal()) continue;
    if (call_sigaction(number, nullptr, &action) != 0) continue;
    if (is_function(action.handler) && action.restorer != mprof_return_from_handler) return true;
  }
  return false;
}

}  // namespace mprof::preload

// SPDX-License-Identifier: Apache-2.0
// How a pointer to a function of libc's is there from the first instruction on: it starts at a
// stand-in, which fills the table that the pointer is in, and jumps on to the real function with
// all arguments where they are. resolve() fills the tables before that, in the first malloc of all:
// then what dlsym() itself gives back or asks for is the arena's, and an allocator that calls one
// of these functions is not entered anew.
//
// Called by preload/real_locks.cc, real_calls.cc. Threads: any; those that fill the same table find
// the same functions. Signals: safe once looked up. Allocates: no, if the functions are there.
// errno: kept.
#pragma once

#include <cstddef>

namespace mprof::preload {

// Fills a table of pointers with the functions of the next library. `names`: for each slot its name
// and its version, "" for the default one, each terminated; a name without letters ends it.
void fill_table(void* table, const char* names);

// The stand-ins of a table, in assembly, for asm(): each says which slot it is in. %rax and %r11
// are free at the beginning of a function; no real function takes its arguments in vector
// registers.
#define MPROF_STAND_INS_BEGIN(fill, table)                                                         \
  ".pushsection .text.unlikely, \"ax\", @progbits\n"                                               \
  ".type " fill "_and_go, @function\n" fill                                                        \
  "_and_go:\n"                                                                                     \
  ".cfi_startproc\n" MPROF_PUSH("%rax") MPROF_PUSH("%rdi") MPROF_PUSH("%rsi") MPROF_PUSH("%rdx")   \
      MPROF_PUSH("%rcx") MPROF_PUSH("%r8") MPROF_PUSH("%r9") "call " fill "\n" MPROF_POP("%r9")    \
          MPROF_POP("%r8") MPROF_POP("%rcx") MPROF_POP("%rdx") MPROF_POP("%rsi") MPROF_POP("%rdi") \
              MPROF_POP("%rax") "lea " table                                                       \
                                "(%rip), %r11\n"                                                   \
                                "jmp *(%r11, %rax, 8)\n"                                           \
                                ".set mprof_slot, 0\n"
#define MPROF_PUSH(name) "push " name "\n.cfi_adjust_cfa_offset 8\n"
#define MPROF_POP(name) "pop " name "\n.cfi_adjust_cfa_offset -8\n"
#define MPROF_STAND_IN(fill, name) \
  ".type mprof_stand_in_" name     \
  ", @function\n"                  \
  "mprof_stand_in_" name           \
  ":\n"                            \
  "mov $mprof_slot, %eax\n"        \
  "jmp " fill                      \
  "_and_go\n"                      \
  ".set mprof_slot, mprof_slot + 1\n"
#define MPROF_STAND_INS_END ".cfi_endproc\n.popsection\n"

}  // namespace mprof::preload

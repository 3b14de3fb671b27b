/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mprof.h: what a program can ask libmprof.so about itself. C99 and C++.
 *
 * Nothing is linked: the functions find the library through weak symbols. A program compiled with
 * this header runs unchanged without the library, and then each function gives the answer that it
 * documents for "no library".
 *
 *     #include <mprof.h>
 *
 *     if (mprof_active())
 *       fprintf(stderr, "heap profile: %s\n", mprof_dump_path());
 *
 * Threads: any. Signals: safe. errno: kept. Cost: some nanoseconds.
 */
#ifndef MPROF_H
#define MPROF_H

/* Grows by one when functions are added here; those that exist keep their meaning. */
#define MPROF_API_VERSION 1

#if !defined(__x86_64__) || !defined(__GNUC__)
#error "mprof.h: x86-64 Linux with gcc or clang only, like libmprof.so itself"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The address of a weak function, or null. A plain test of a weak symbol is always false in a
 * program that is linked without -pie: the linker settles it. The global offset table is filled
 * when the program starts.
 */
#define MPROF_WEAK_FUNCTION(type, pointer, symbol) \
  type (*pointer)(void);                           \
  __asm__(".weak " #symbol "\n\tmovq " #symbol "@GOTPCREL(%%rip), %0" : "=r"(pointer))

/*
 * 1: the library is loaded and records this process. 0: no library, or it does not record: the
 * program was excluded (MPROF_ONLY, MPROF_SKIP), the dump could not be written, the system is not
 * supported. In the child of a fork this makes the child's own dump, if it has none yet.
 */
static inline int mprof_active(void) {
  MPROF_WEAK_FUNCTION(int, active, mprof_library_active);
  return active != 0 ? active() : 0;
}

/*
 * The absolute path of this process's dump, or NULL when mprof_active() is 0. It belongs to the
 * library and stays valid until the process ends; in the child of a fork it changes to the child's
 * own, so ask again there.
 */
static inline const char* mprof_dump_path(void) {
  MPROF_WEAK_FUNCTION(const char*, path, mprof_library_dump_path);
  return path != 0 ? path() : 0;
}

#undef MPROF_WEAK_FUNCTION

#ifdef __cplusplus
}
#endif

#endif /* MPROF_H */

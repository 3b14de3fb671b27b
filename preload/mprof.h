/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mprof.h: what a program can tell libmprof.so, and ask it about itself. C99 and C++11.
 *
 * Nothing is linked: the functions find the library through weak symbols. A program compiled with
 * this header runs unchanged without the library, and then each function gives the answer that it
 * documents for "no library". The same holds when the library does not record this process.
 *
 *     #include <mprof.h>
 *
 *     if (mprof_active())
 *       fprintf(stderr, "heap profile: %s\n", mprof_dump_path());
 *
 * Threads: any. Signals: safe; in a handler that interrupted mprof itself nothing changes, and the
 * answer is as without the library. errno: kept. Cost: docs/api.md, with more examples.
 */
#ifndef MPROF_H
#define MPROF_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/* Grows by one when functions are added here; those that exist keep their meaning. */
#define MPROF_API_VERSION 3

#if !defined(__x86_64__) || !defined(__GNUC__)
#error "mprof.h: x86-64 Linux with gcc or clang only, like libmprof.so itself"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The address of a weak function, or null; what follows the symbol is its parameters. A plain test
 * of a weak symbol is always false in a program that is linked without -pie: the linker settles it.
 * The global offset table is filled when the program starts.
 */
#define MPROF_WEAK_FUNCTION(type, pointer, symbol, ...) \
  type (*pointer)(__VA_ARGS__);                         \
  __asm__(".weak " #symbol "\n\tmovq " #symbol "@GOTPCREL(%%rip), %0" : "=r"(pointer))

/* A stack that is taken in the library begins at the caller: no frame stands between. */
#define MPROF_INLINE static inline __attribute__((always_inline, unused))

/* ---- This process ---------------------------------------------------------------------------- */

/*
 * 1: the library is loaded and records this process. 0: no library, or it does not record: the
 * program was excluded (MPROF_ONLY, MPROF_SKIP), the dump could not be written, the system is not
 * supported. In the child of a fork this makes the child's own dump, if it has none yet.
 */
MPROF_INLINE int mprof_active(void) {
  MPROF_WEAK_FUNCTION(int, active, mprof_library_active, void);
  return active != 0 ? active() : 0;
}

/*
 * The absolute path of this process's dump, or NULL when mprof_active() is 0. It belongs to the
 * library and stays valid until the process ends; in the child of a fork it changes to the child's
 * own, so ask again there.
 */
MPROF_INLINE const char* mprof_dump_path(void) {
  MPROF_WEAK_FUNCTION(const char*, path, mprof_library_dump_path, void);
  return path != 0 ? path() : 0;
}

/* ---- Labels ---------------------------------------------------------------------------------- */

/*
 * What a thread is doing: up to 16 keys with a value each. What is sampled meanwhile carries them:
 * allocations, waits, releases of locks, CPU time. A thread begins with the labels of the one that
 * creates it; a forked child begins with none.
 *
 * Keys are cut to 64 bytes, values to 256; a text that was cut ends in "...". mprof's own labels
 * are "wait", "lock", "lock_site", "victim", "start" and "kind": use other keys.
 */

/*
 * Sets a label of the calling thread. 1: it is in force. 0: no library; `key` is NULL or empty; the
 * thread has 16 others; or there is no room. `value` NULL or empty: as mprof_label_clear(key).
 *
 * After 65536 different sets the value of a new one is "[other]".
 */
MPROF_INLINE int mprof_label_set(const char* key, const char* value) {
  MPROF_WEAK_FUNCTION(int, set, mprof_library_label_set, const char*, const char*);
  return set != 0 ? set(key, value) : 0;
}

/* Takes a label off the calling thread. 1: it has none of this key now. 0: no library. */
MPROF_INLINE int mprof_label_clear(const char* key) {
  MPROF_WEAK_FUNCTION(int, clear, mprof_library_label_clear, const char*);
  return clear != 0 ? clear(key) : 0;
}

/* The labels of a thread at one moment, for as long as the process lives. {0}: none. */
typedef struct {
  uint64_t id;
} mprof_label_set_t;

/* Those of the calling thread; {0} without the library. */
MPROF_INLINE mprof_label_set_t mprof_labels(void) {
  MPROF_WEAK_FUNCTION(uint64_t, labels, mprof_library_labels, void);
  mprof_label_set_t set = {0};
  if (labels != 0) set.id = labels();
  return set;
}

/*
 * Gives the calling thread these labels and no others, at once whatever their number: to restore
 * what was, or to hand a request to another thread. A set of before a fork is none in the child.
 * Without the library: nothing.
 */
MPROF_INLINE void mprof_set_labels(mprof_label_set_t labels) {
  MPROF_WEAK_FUNCTION(void, set, mprof_library_set_labels, uint64_t);
  if (set != 0) set(labels.id);
}

/* Takes all labels off the calling thread. Without the library: nothing. */
MPROF_INLINE void mprof_labels_clear(void) {
  mprof_label_set_t none = {0};
  mprof_set_labels(none);
}

/* ---- Profiles of your own -------------------------------------------------------------------- */

/*
 * What is there now, by where it was added: open files, sessions, anything that has an address.
 * `mprof pprof -p NAME` writes it. Values are never looked into.
 */
typedef const struct mprof_profile* mprof_profile_t;

/*
 * The profile of this name, made if there is none. NULL: no library; `name` is NULL, empty, longer
 * than 64 bytes or that of a profile which mprof makes itself (heap, block, ...); or there are 512.
 * A child of a fork has the same profiles, empty.
 */
MPROF_INLINE mprof_profile_t mprof_profile_new(const char* name) {
  MPROF_WEAK_FUNCTION(const void*, make, mprof_library_profile_new, const char*);
  return (mprof_profile_t)(make != 0 ? make(name) : 0);
}

/* The profile of this name; NULL if none was made, and without the library. */
MPROF_INLINE mprof_profile_t mprof_profile_lookup(const char* name) {
  MPROF_WEAK_FUNCTION(const void*, lookup, mprof_library_profile_lookup, const char*);
  return (mprof_profile_t)(lookup != 0 ? lookup(name) : 0);
}

/*
 * Adds a value, at the caller's stack. 1: it is in there. 0: no library, `profile` is NULL, the
 * value is in there already (it stays where it was added first), or there are a million values in
 * all profiles together. A value that is declined is counted: `mprof info` shows how many.
 */
MPROF_INLINE int mprof_profile_add(mprof_profile_t profile, const void* value) {
  MPROF_WEAK_FUNCTION(int, add, mprof_library_profile_add, const void*, const void*);
  return add != 0 ? add(profile, value) : 0;
}

/* Takes a value out. 1: it was in there. 0: it was not; no library; `profile` is NULL. */
MPROF_INLINE int mprof_profile_remove(mprof_profile_t profile, const void* value) {
  MPROF_WEAK_FUNCTION(int, remove_value, mprof_library_profile_remove, const void*, const void*);
  return remove_value != 0 ? remove_value(profile, value) : 0;
}

/* How many values are in there; 0 without the library. */
MPROF_INLINE uint64_t mprof_profile_count(mprof_profile_t profile) {
  MPROF_WEAK_FUNCTION(uint64_t, count, mprof_library_profile_count, const void*);
  return count != 0 ? count(profile) : 0;
}

/*
 * Writes the profile to a descriptor, as text that `go tool pprof` reads: how many values are there
 * by stack, and the memory map. A space in the name becomes '_'. 0, or an error number: that of
 * write(); EINVAL: `profile` is NULL; ENOSYS: no library, or this process is not recorded.
 */
MPROF_INLINE int mprof_profile_write(mprof_profile_t profile, int fd) {
  MPROF_WEAK_FUNCTION(int, write_it, mprof_library_profile_write, const void*, int);
  return write_it != 0 ? write_it(profile, fd) : ENOSYS;
}

/* ---- Allocators of your own ------------------------------------------------------------------ */

/*
 * Reports a block that an allocator of the program's gave out, to be sampled like one of malloc, at
 * the caller's stack; before the block is handed on. The memory behind it would be counted again
 * where the allocator gets it: wrap that in mprof_pause() and mprof_resume().
 * NULL: nothing. Without the library: nothing.
 */
MPROF_INLINE void mprof_alloc(const void* block, size_t bytes) {
  MPROF_WEAK_FUNCTION(void, alloc, mprof_library_alloc, const void*, size_t);
  if (alloc != 0) alloc(block, bytes);
}

/*
 * Reports the end of such a block, before its memory can be given out again; for an arena that is
 * reset, of each of its blocks. NULL, or a block that was not reported: nothing. Without the
 * library: nothing.
 */
MPROF_INLINE void mprof_free(const void* block) {
  MPROF_WEAK_FUNCTION(void, release, mprof_library_free, const void*);
  if (release != 0) release(block);
}

/*
 * Between these two, what the calling thread allocates or maps is not sampled; frees are noted all
 * the same. They nest. A mprof_resume() without its mprof_pause() does nothing. Without the
 * library: nothing.
 */
MPROF_INLINE void mprof_pause(void) {
  MPROF_WEAK_FUNCTION(void, pause_here, mprof_library_pause, void);
  if (pause_here != 0) pause_here();
}
MPROF_INLINE void mprof_resume(void) {
  MPROF_WEAK_FUNCTION(void, resume, mprof_library_resume, void);
  if (resume != 0) resume();
}

/* ---- Rates, the CPU profile, snapshots ------------------------------------------------------- */

/*
 * These give 0, or an error number: ENOSYS without the library. `mprof ctl` does the same from
 * outside; the latest word counts. A child of a fork begins with the settings of the environment.
 */

/*
 * Mean bytes between heap samples; 0: none. What is recorded already keeps its weight, so sums stay
 * unbiased. EINVAL: not 0 and not 4096 to 2^40; finer rates, and exact ones, only from the start
 * (MPROF_HEAP_RATE).
 */
MPROF_INLINE int mprof_set_heap_rate(uint64_t bytes) {
  MPROF_WEAK_FUNCTION(int, set, mprof_library_set_heap_rate, uint64_t);
  return set != 0 ? set(bytes) : ENOSYS;
}

/* As MPROF_BLOCK_RATE: waits of so many nanoseconds or more are recorded, 1 = every wait. EINVAL:
   over an hour. */
MPROF_INLINE int mprof_set_block_rate(uint64_t ns) {
  MPROF_WEAK_FUNCTION(int, set, mprof_library_set_block_rate, uint64_t);
  return set != 0 ? set(ns) : ENOSYS;
}

/* As MPROF_MUTEX_FRACTION. EINVAL: over 1048576. */
MPROF_INLINE int mprof_set_mutex_fraction(unsigned fraction) {
  MPROF_WEAK_FUNCTION(int, set, mprof_library_set_mutex_fraction, unsigned);
  return set != 0 ? set(fraction) : ENOSYS;
}

/*
 * Takes CPU samples, `hz` in a second of each thread's processor time; 100 is usual. EBUSY: they
 * are taken already. EINVAL: not 1 to 10000. ENOTSUP: the program uses every signal that mprof
 * could.
 */
MPROF_INLINE int mprof_cpu_start(unsigned hz) {
  MPROF_WEAK_FUNCTION(int, start, mprof_library_cpu_start, unsigned);
  return start != 0 ? start(hz) : ENOSYS;
}

/* No CPU samples any more, if there were any. Those that were taken stay. */
MPROF_INLINE int mprof_cpu_stop(void) {
  MPROF_WEAK_FUNCTION(int, stop, mprof_library_cpu_stop, void);
  return stop != 0 ? stop() : ENOSYS;
}

/*
 * Keeps the dump as it is now in a file beside it, DUMP.NAME.mprof, for `mprof pprof`, `top` and
 * the others. The other threads go on meanwhile. EINVAL: `name` is not 1 to 64 letters, digits,
 * '-', '_' and '.', begins with '.', or is "baseline", which `mprof ctl --reset` makes. EEXIST:
 * there is one of this name; nothing is overwritten. EBUSY: another thread is making one. Or
 * whatever the file system says.
 */
MPROF_INLINE int mprof_snapshot(const char* name) {
  MPROF_WEAK_FUNCTION(int, snapshot, mprof_library_snapshot, const char*);
  return snapshot != 0 ? snapshot(name) : ENOSYS;
}

/* ---- The execution trace --------------------------------------------------------------------- */

/*
 * Begins to record what each thread does at each moment; `mprof trace` shows it. 0, or an error
 * number: EBUSY: it is on already. ENOSYS: no library, or this process is not recorded.
 */
MPROF_INLINE int mprof_trace_start(void) {
  MPROF_WEAK_FUNCTION(int, start, mprof_library_trace_start, void);
  return start != 0 ? start() : ENOSYS;
}

/* Ends it, if it was on. What was recorded stays. */
MPROF_INLINE int mprof_trace_stop(void) {
  MPROF_WEAK_FUNCTION(int, stop, mprof_library_trace_stop, void);
  return stop != 0 ? stop() : ENOSYS;
}

/* 1: a trace is on, whoever started it. 0: none, or no library. */
MPROF_INLINE int mprof_trace_is_on(void) {
  MPROF_WEAK_FUNCTION(int, is_on, mprof_library_trace_is_on, void);
  return is_on != 0 ? is_on() : 0;
}

/*
 * While no trace is on, what follows costs next to nothing and leaves nothing behind, but for the
 * ids of tasks: a task keeps its own when a trace begins. Names are cut to 256 bytes; NULL and ""
 * become "[unnamed]", and each new name after 8192 different ones "[other]".
 */

/*
 * A task: a piece of work, across whatever threads it goes: a request, a job. `parent`: the task
 * that it is a part of, or 0. Its id, which is no other's in this process and never 0; 0 without
 * the library, or when this process is not recorded.
 */
MPROF_INLINE uint64_t mprof_task_begin(const char* name, uint64_t parent) {
  MPROF_WEAK_FUNCTION(uint64_t, begin, mprof_library_task_begin, const char*, uint64_t);
  return begin != 0 ? begin(name, parent) : 0;
}

/* In any thread. 0: nothing. */
MPROF_INLINE void mprof_task_end(uint64_t task) {
  MPROF_WEAK_FUNCTION(void, end, mprof_library_task_end, uint64_t);
  if (end != 0) end(task);
}

/* What mprof_region_end() is to be given: it tells the library again what ends. */
typedef struct {
  uint64_t task;
  const char* name;
} mprof_region_t;

/*
 * A region: a stretch of time in the life of the calling thread, as part of a task, or of none (0).
 * Regions of a thread nest; the same thread ends it. `name` is not copied: it is there until the
 * end, as a literal is.
 */
MPROF_INLINE mprof_region_t mprof_region_begin(uint64_t task, const char* name) {
  MPROF_WEAK_FUNCTION(void, begin, mprof_library_region_begin, uint64_t, const char*);
  mprof_region_t region;
  region.task = task;
  region.name = name;
  if (begin != 0) begin(task, name);
  return region;
}

MPROF_INLINE void mprof_region_end(mprof_region_t region) {
  MPROF_WEAK_FUNCTION(void, end, mprof_library_region_end, uint64_t, const char*);
  if (end != 0) end(region.task, region.name);
}

/*
 * A line of text at this moment, as part of a task, or of none (0). `category` is a name like those
 * of tasks, few in number; NULL and "" are none. `message` is cut to 1024 bytes; NULL: nothing.
 */
MPROF_INLINE void mprof_log(uint64_t task, const char* category, const char* message) {
  MPROF_WEAK_FUNCTION(void, log_it, mprof_library_log, uint64_t, const char*, const char*);
  if (log_it != 0) log_it(task, category, message);
}

#undef MPROF_INLINE
#undef MPROF_WEAK_FUNCTION

#ifdef __cplusplus
}

/* ---- Scopes, in C++ -------------------------------------------------------------------------- */

#include <initializer_list>

namespace mprof {

/* A key and its value: a text, or whatever has c_str(). Only for the time of one expression. */
class Label {
 public:
  Label(const char* key, const char* value) : key_(key), value_(value) {}
  template <class Text>
  Label(const char* key, const Text& value) : key_(key), value_(value.c_str()) {}
  const char* key() const { return key_; }
  const char* value() const { return value_; }

 private:
  const char* key_;
  const char* value_;
};

/* Labels until the end of the scope, where the thread gets back those that it had. */
class ScopedLabels {
 public:
  ScopedLabels(std::initializer_list<Label> labels) : before_(mprof_labels()) {
    for (const Label& label : labels) mprof_label_set(label.key(), label.value());
  }
  ~ScopedLabels() { mprof_set_labels(before_); }
  ScopedLabels(const ScopedLabels&) = delete;
  ScopedLabels& operator=(const ScopedLabels&) = delete;

 private:
  mprof_label_set_t before_;
};

/* mprof_pause() until the end of the scope. */
class ScopedPause {
 public:
  ScopedPause() { mprof_pause(); }
  ~ScopedPause() { mprof_resume(); }
  ScopedPause(const ScopedPause&) = delete;
  ScopedPause& operator=(const ScopedPause&) = delete;
};

/* A task that ends with the scope, whatever threads worked on it. */
class Task {
 public:
  explicit Task(const char* name, uint64_t parent = 0) : id_(mprof_task_begin(name, parent)) {}
  ~Task() { mprof_task_end(id_); }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  uint64_t id() const { return id_; }

 private:
  uint64_t id_;
};

/* A region of the calling thread, until the end of the scope; the name is there until then. */
class Region {
 public:
  explicit Region(const char* name) : region_(mprof_region_begin(0, name)) {}
  Region(uint64_t task, const char* name) : region_(mprof_region_begin(task, name)) {}
  ~Region() { mprof_region_end(region_); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

 private:
  mprof_region_t region_;
};

}  // namespace mprof
#endif

#endif /* MPROF_H */

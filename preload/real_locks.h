// SPDX-License-Identifier: Apache-2.0
// libc's functions for locks, conditions, waits, sleeps and signals' actions, and syscall(): what
// the hooks of these forward to.
//
// Every pointer is valid from the first instruction on; see look_up.h. pthread_cond_* have two
// versions on x86-64, of which dlsym may give the one with the layout of 2002; so these are asked
// for by version.
//
// Threads: any. Signals: safe once looked up. Allocates: no.
#pragma once

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/types.h>
#include <threads.h>
#include <time.h>

struct sembuf;  // of <sys/sem.h>

namespace mprof::preload {

// X(result, name, version, parameters...); version: "" for the default one.
#define MPROF_LOCK_FUNCTIONS(X)                                                         \
  X(int, pthread_mutex_lock, "", pthread_mutex_t*)                                      \
  X(int, pthread_mutex_trylock, "", pthread_mutex_t*)                                   \
  X(int, pthread_mutex_timedlock, "", pthread_mutex_t*, const timespec*)                \
  X(int, pthread_mutex_clocklock, "", pthread_mutex_t*, clockid_t, const timespec*)     \
  X(int, pthread_mutex_unlock, "", pthread_mutex_t*)                                    \
  X(int, pthread_rwlock_rdlock, "", pthread_rwlock_t*)                                  \
  X(int, pthread_rwlock_wrlock, "", pthread_rwlock_t*)                                  \
  X(int, pthread_rwlock_tryrdlock, "", pthread_rwlock_t*)                               \
  X(int, pthread_rwlock_trywrlock, "", pthread_rwlock_t*)                               \
  X(int, pthread_rwlock_timedrdlock, "", pthread_rwlock_t*, const timespec*)            \
  X(int, pthread_rwlock_timedwrlock, "", pthread_rwlock_t*, const timespec*)            \
  X(int, pthread_rwlock_clockrdlock, "", pthread_rwlock_t*, clockid_t, const timespec*) \
  X(int, pthread_rwlock_clockwrlock, "", pthread_rwlock_t*, clockid_t, const timespec*) \
  X(int, pthread_rwlock_unlock, "", pthread_rwlock_t*)                                  \
  X(int, pthread_spin_lock, "", pthread_spinlock_t*)                                    \
  X(int, pthread_spin_trylock, "", pthread_spinlock_t*)                                 \
  X(int, pthread_spin_unlock, "", pthread_spinlock_t*)                                  \
  X(int, pthread_cond_wait, "GLIBC_2.3.2", pthread_cond_t*, pthread_mutex_t*)           \
  X(int, pthread_cond_timedwait, "GLIBC_2.3.2", pthread_cond_t*, pthread_mutex_t*,      \
    const timespec*)                                                                    \
  X(int, pthread_cond_clockwait, "", pthread_cond_t*, pthread_mutex_t*, clockid_t,      \
    const timespec*)                                                                    \
  X(int, pthread_cond_signal, "GLIBC_2.3.2", pthread_cond_t*)                           \
  X(int, pthread_cond_broadcast, "GLIBC_2.3.2", pthread_cond_t*)                        \
  X(int, pthread_barrier_wait, "", pthread_barrier_t*)                                  \
  X(int, pthread_join, "", pthread_t, void**)                                           \
  X(int, pthread_tryjoin_np, "", pthread_t, void**)                                     \
  X(int, pthread_timedjoin_np, "", pthread_t, void**, const timespec*)                  \
  X(int, pthread_clockjoin_np, "", pthread_t, void**, clockid_t, const timespec*)       \
  X(void, pthread_testcancel, "")                                                       \
  X(int, pthread_setname_np, "", pthread_t, const char*)                                \
  X(int, sched_yield, "")                                                               \
  X(int, sem_wait, "", sem_t*)                                                          \
  X(int, sem_trywait, "", sem_t*)                                                       \
  X(int, sem_timedwait, "", sem_t*, const timespec*)                                    \
  X(int, sem_clockwait, "", sem_t*, clockid_t, const timespec*)                         \
  X(int, sem_post, "", sem_t*)                                                          \
  X(int, mtx_lock, "", mtx_t*)                                                          \
  X(int, mtx_trylock, "", mtx_t*)                                                       \
  X(int, mtx_timedlock, "", mtx_t*, const timespec*)                                    \
  X(int, mtx_unlock, "", mtx_t*)                                                        \
  X(int, cnd_wait, "", cnd_t*, mtx_t*)                                                  \
  X(int, cnd_timedwait, "", cnd_t*, mtx_t*, const timespec*)                            \
  X(int, cnd_signal, "", cnd_t*)                                                        \
  X(int, cnd_broadcast, "", cnd_t*)                                                     \
  X(int, thrd_create, "", thrd_t*, thrd_start_t, void*)                                 \
  X(int, thrd_join, "", thrd_t, int*)                                                   \
  X(int, sigaction, "", int, const struct sigaction*, struct sigaction*)                \
  X(sighandler_t, signal, "", int, sighandler_t)                                        \
  X(sighandler_t, sysv_signal, "", int, sighandler_t)                                   \
  X(sighandler_t, sigset, "", int, sighandler_t)                                        \
  X(int, sigignore, "", int)                                                            \
  X(int, siginterrupt, "", int, int)                                                    \
  X(int, sigaltstack, "", const stack_t*, stack_t*)                                     \
  X(int, signalfd, "", int, const sigset_t*, int)                                       \
  X(int, sigprocmask, "", int, const sigset_t*, sigset_t*)                              \
  X(int, pthread_sigmask, "", int, const sigset_t*, sigset_t*)                          \
  X(int, poll, "", pollfd*, nfds_t, int)                                                \
  X(int, __poll_chk, "", pollfd*, nfds_t, int, size_t)                                  \
  X(int, ppoll, "", pollfd*, nfds_t, const timespec*, const sigset_t*)                  \
  X(int, __ppoll_chk, "", pollfd*, nfds_t, const timespec*, const sigset_t*, size_t)    \
  X(int, select, "", int, fd_set*, fd_set*, fd_set*, timeval*)                          \
  X(int, pselect, "", int, fd_set*, fd_set*, fd_set*, const timespec*, const sigset_t*) \
  X(int, epoll_wait, "", int, epoll_event*, int, int)                                   \
  X(int, epoll_pwait, "", int, epoll_event*, int, int, const sigset_t*)                 \
  X(int, epoll_pwait2, "", int, epoll_event*, int, const timespec*, const sigset_t*)    \
  X(int, nanosleep, "", const timespec*, timespec*)                                     \
  X(int, clock_nanosleep, "", clockid_t, int, const timespec*, timespec*)               \
  X(int, thrd_sleep, "", const timespec*, timespec*)                                    \
  X(int, pause, "")                                                                     \
  X(int, sigsuspend, "", const sigset_t*)                                               \
  X(int, sigtimedwait, "", const sigset_t*, siginfo_t*, const timespec*)                \
  X(ssize_t, msgrcv, "", int, void*, size_t, long, int)                                 \
  X(int, msgsnd, "", int, const void*, size_t, int)                                     \
  X(int, semop, "", int, sembuf*, size_t)                                               \
  X(int, semtimedop, "", int, sembuf*, size_t, const timespec*)                         \
  X(long, syscall, "", long, long, long, long, long, long, long)                        \
  X(int, prctl, "", int, long, long, long, long)

struct RealLocks {
#define MPROF_POINTER(result, name, version, ...) result (*name)(__VA_ARGS__);
  MPROF_LOCK_FUNCTIONS(MPROF_POINTER)
#undef MPROF_POINTER
};
// A C name: read by the assembly of syscall() and the stand-ins. Hidden: read past the offset
// table.
extern "C" [[gnu::visibility("hidden")]] RealLocks mprof_real_locks;
inline constexpr RealLocks& real_locks = mprof_real_locks;

// Looks everything up; libc has all of it, so that nothing is allocated.
extern "C" void mprof_fill_locks();

}  // namespace mprof::preload

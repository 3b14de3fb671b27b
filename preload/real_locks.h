// SPDX-License-Identifier: Apache-2.0
// libc's functions for locks, conditions, waits, sleeps and signals' actions, and syscall(): what
// the hooks of these forward to.
//
// Every pointer is valid from the first instruction on: it starts at a stand-in that looks the
// real function up. pthread_cond_* have two versions on x86-64, of which dlsym may give the one
// with the layout of 2002; so these are asked for by version.
//
// Threads: any. Signals: safe once resolved. Allocates: no.
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

// X(result, name, version, parameters...); version: nullptr for the default one.
#define MPROF_LOCK_FUNCTIONS(X)                                                              \
  X(int, pthread_mutex_lock, nullptr, pthread_mutex_t*)                                      \
  X(int, pthread_mutex_trylock, nullptr, pthread_mutex_t*)                                   \
  X(int, pthread_mutex_timedlock, nullptr, pthread_mutex_t*, const timespec*)                \
  X(int, pthread_mutex_clocklock, nullptr, pthread_mutex_t*, clockid_t, const timespec*)     \
  X(int, pthread_mutex_unlock, nullptr, pthread_mutex_t*)                                    \
  X(int, pthread_rwlock_rdlock, nullptr, pthread_rwlock_t*)                                  \
  X(int, pthread_rwlock_wrlock, nullptr, pthread_rwlock_t*)                                  \
  X(int, pthread_rwlock_tryrdlock, nullptr, pthread_rwlock_t*)                               \
  X(int, pthread_rwlock_trywrlock, nullptr, pthread_rwlock_t*)                               \
  X(int, pthread_rwlock_timedrdlock, nullptr, pthread_rwlock_t*, const timespec*)            \
  X(int, pthread_rwlock_timedwrlock, nullptr, pthread_rwlock_t*, const timespec*)            \
  X(int, pthread_rwlock_clockrdlock, nullptr, pthread_rwlock_t*, clockid_t, const timespec*) \
  X(int, pthread_rwlock_clockwrlock, nullptr, pthread_rwlock_t*, clockid_t, const timespec*) \
  X(int, pthread_rwlock_unlock, nullptr, pthread_rwlock_t*)                                  \
  X(int, pthread_spin_lock, nullptr, pthread_spinlock_t*)                                    \
  X(int, pthread_spin_trylock, nullptr, pthread_spinlock_t*)                                 \
  X(int, pthread_spin_unlock, nullptr, pthread_spinlock_t*)                                  \
  X(int, pthread_cond_wait, "GLIBC_2.3.2", pthread_cond_t*, pthread_mutex_t*)                \
  X(int, pthread_cond_timedwait, "GLIBC_2.3.2", pthread_cond_t*, pthread_mutex_t*,           \
    const timespec*)                                                                         \
  X(int, pthread_cond_clockwait, nullptr, pthread_cond_t*, pthread_mutex_t*, clockid_t,      \
    const timespec*)                                                                         \
  X(int, pthread_cond_signal, "GLIBC_2.3.2", pthread_cond_t*)                                \
  X(int, pthread_cond_broadcast, "GLIBC_2.3.2", pthread_cond_t*)                             \
  X(int, pthread_barrier_wait, nullptr, pthread_barrier_t*)                                  \
  X(int, pthread_join, nullptr, pthread_t, void**)                                           \
  X(int, pthread_tryjoin_np, nullptr, pthread_t, void**)                                     \
  X(int, pthread_timedjoin_np, nullptr, pthread_t, void**, const timespec*)                  \
  X(int, pthread_clockjoin_np, nullptr, pthread_t, void**, clockid_t, const timespec*)       \
  X(void, pthread_testcancel, nullptr)                                                       \
  X(int, pthread_setname_np, nullptr, pthread_t, const char*)                                \
  X(int, sched_yield, nullptr)                                                               \
  X(int, sem_wait, nullptr, sem_t*)                                                          \
  X(int, sem_trywait, nullptr, sem_t*)                                                       \
  X(int, sem_timedwait, nullptr, sem_t*, const timespec*)                                    \
  X(int, sem_clockwait, nullptr, sem_t*, clockid_t, const timespec*)                         \
  X(int, sem_post, nullptr, sem_t*)                                                          \
  X(int, mtx_lock, nullptr, mtx_t*)                                                          \
  X(int, mtx_trylock, nullptr, mtx_t*)                                                       \
  X(int, mtx_timedlock, nullptr, mtx_t*, const timespec*)                                    \
  X(int, mtx_unlock, nullptr, mtx_t*)                                                        \
  X(int, cnd_wait, nullptr, cnd_t*, mtx_t*)                                                  \
  X(int, cnd_timedwait, nullptr, cnd_t*, mtx_t*, const timespec*)                            \
  X(int, cnd_signal, nullptr, cnd_t*)                                                        \
  X(int, cnd_broadcast, nullptr, cnd_t*)                                                     \
  X(int, thrd_create, nullptr, thrd_t*, thrd_start_t, void*)                                 \
  X(int, thrd_join, nullptr, thrd_t, int*)                                                   \
  X(int, sigaction, nullptr, int, const struct sigaction*, struct sigaction*)                \
  X(sighandler_t, signal, nullptr, int, sighandler_t)                                        \
  X(sighandler_t, sysv_signal, nullptr, int, sighandler_t)                                   \
  X(sighandler_t, sigset, nullptr, int, sighandler_t)                                        \
  X(int, sigignore, nullptr, int)                                                            \
  X(int, siginterrupt, nullptr, int, int)                                                    \
  X(int, sigaltstack, nullptr, const stack_t*, stack_t*)                                     \
  X(int, sigprocmask, nullptr, int, const sigset_t*, sigset_t*)                              \
  X(int, pthread_sigmask, nullptr, int, const sigset_t*, sigset_t*)                          \
  X(int, poll, nullptr, pollfd*, nfds_t, int)                                                \
  X(int, __poll_chk, nullptr, pollfd*, nfds_t, int, size_t)                                  \
  X(int, ppoll, nullptr, pollfd*, nfds_t, const timespec*, const sigset_t*)                  \
  X(int, __ppoll_chk, nullptr, pollfd*, nfds_t, const timespec*, const sigset_t*, size_t)    \
  X(int, select, nullptr, int, fd_set*, fd_set*, fd_set*, timeval*)                          \
  X(int, pselect, nullptr, int, fd_set*, fd_set*, fd_set*, const timespec*, const sigset_t*) \
  X(int, epoll_wait, nullptr, int, epoll_event*, int, int)                                   \
  X(int, epoll_pwait, nullptr, int, epoll_event*, int, int, const sigset_t*)                 \
  X(int, epoll_pwait2, nullptr, int, epoll_event*, int, const timespec*, const sigset_t*)    \
  X(int, nanosleep, nullptr, const timespec*, timespec*)                                     \
  X(int, clock_nanosleep, nullptr, clockid_t, int, const timespec*, timespec*)               \
  X(int, thrd_sleep, nullptr, const timespec*, timespec*)                                    \
  X(int, pause, nullptr)                                                                     \
  X(int, sigsuspend, nullptr, const sigset_t*)                                               \
  X(int, sigtimedwait, nullptr, const sigset_t*, siginfo_t*, const timespec*)                \
  X(ssize_t, msgrcv, nullptr, int, void*, size_t, long, int)                                 \
  X(int, msgsnd, nullptr, int, const void*, size_t, int)                                     \
  X(int, semop, nullptr, int, sembuf*, size_t)                                               \
  X(int, semtimedop, nullptr, int, sembuf*, size_t, const timespec*)                         \
  X(long, syscall, nullptr, long, long, long, long, long, long, long)

struct RealLocks {
#define MPROF_POINTER(result, name, version, ...) result (*name)(__VA_ARGS__);
  MPROF_LOCK_FUNCTIONS(MPROF_POINTER)
#undef MPROF_POINTER
};
extern "C" RealLocks mprof_real_locks;  // a C name: read by the assembly of syscall()
inline constexpr RealLocks& real_locks = mprof_real_locks;

// Looks everything up once; later calls do nothing.
void resolve_locks();

}  // namespace mprof::preload

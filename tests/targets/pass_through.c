// SPDX-License-Identifier: Apache-2.0
// A library to be preloaded that wraps what libmprof.so wraps, too, and hands all of it on.
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

#define NEXT(name) (__typeof__(&name))dlsym(RTLD_NEXT, #name)

void* malloc(size_t bytes);
void free(void* block);
ssize_t write(int fd, const void* data, size_t bytes);
int close(int fd);
int sigaction(int number, const void* action, void* before);
void* mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset);

void* malloc(size_t bytes) {
  static __typeof__(&malloc) next;
  if (next == NULL) next = NEXT(malloc);
  return next(bytes);
}

void free(void* block) {
  static __typeof__(&free) next;
  if (next == NULL) next = NEXT(free);
  next(block);
}

int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static __typeof__(&pthread_mutex_lock) next;
  if (next == NULL) next = NEXT(pthread_mutex_lock);
  return next(mutex);
}

int pthread_mutex_unlock(pthread_mutex_t* mutex) {
  static __typeof__(&pthread_mutex_unlock) next;
  if (next == NULL) next = NEXT(pthread_mutex_unlock);
  return next(mutex);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*function)(void*),
                   void* argument) {
  static __typeof__(&pthread_create) next;
  if (next == NULL) next = NEXT(pthread_create);
  return next(thread, attributes, function, argument);
}

ssize_t write(int fd, const void* data, size_t bytes) {
  static __typeof__(&write) next;
  if (next == NULL) next = NEXT(write);
  return next(fd, data, bytes);
}

int close(int fd) {
  static __typeof__(&close) next;
  if (next == NULL) next = NEXT(close);
  return next(fd);
}

int sigaction(int number, const void* action, void* before) {
  static __typeof__(&sigaction) next;
  if (next == NULL) next = NEXT(sigaction);
  return next(number, action, before);
}

void* mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) {
  static __typeof__(&mmap) next;
  if (next == NULL) next = NEXT(mmap);
  return next(address, bytes, protection, flags, fd, offset);
}

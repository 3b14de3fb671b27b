// SPDX-License-Identifier: Apache-2.0
// Allocates on stacks made by the program: fibers of makecontext that swap in turn, and a signal
// handler on an alternate stack.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { kFibers = 4, kTurns = 500, kStackBytes = 64 << 10 };

static ucontext_t main_context;
static ucontext_t fibers[kFibers];
static int turns_done;

__attribute__((noinline, used)) void fiber_allocates(void) {
  void* block = malloc(6000);
  __asm__ volatile("" : : "r"(block) : "memory");
  free(block);
}

__attribute__((noinline, used)) void fiber_body(int index) {
  for (int turn = 0; turn < kTurns; turn++) {
    fiber_allocates();
    turns_done++;
    swapcontext(&fibers[index], &fibers[(index + 1) % kFibers]);
  }
  swapcontext(&fibers[index], index + 1 == kFibers ? &main_context : &fibers[index + 1]);
}

__attribute__((noinline, used)) void handler_allocates(void) {
  void* block = malloc(7000);
  __asm__ volatile("" : : "r"(block) : "memory");
}

static void on_signal(int signal) {
  (void)signal;
  handler_allocates();
}

static void* new_stack(void) {
  return mmap(NULL, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void run_fibers(void) {
  for (int i = 0; i < kFibers; i++) {
    getcontext(&fibers[i]);
    fibers[i].uc_stack.ss_sp = new_stack();
    fibers[i].uc_stack.ss_size = kStackBytes;
    fibers[i].uc_link = &main_context;
    makecontext(&fibers[i], (void (*)(void))fiber_body, 1, i);
  }
  swapcontext(&main_context, &fibers[0]);
}

static void run_handler(void) {
  const stack_t stack = {.ss_sp = new_stack(), .ss_size = kStackBytes};
  const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
  sigaltstack(&stack, NULL);
  sigaction(SIGUSR1, &action, NULL);
  for (int i = 0; i < 10; i++) raise(SIGUSR1);
}

int main(void) {
  run_fibers();
  run_handler();
  printf("turns %d\n", turns_done);
  return 0;
}

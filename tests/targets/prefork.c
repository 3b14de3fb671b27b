// SPDX-License-Identifier: Apache-2.0
// Servers that fork and never exec: prefork HOW NUMBER
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "work.h"

// Children answer some requests each and end, each in another way; others take their place.
static void serve(int listener, int number) {
  for (int answered = 0; answered < 5; answered++) {
    unsigned request;
    if (recv(listener, &request, sizeof request, 0) != sizeof request) _exit(0);
    const unsigned long answer[2] = {request, work(request % 7 + 1)};
    if (send(listener, answer, sizeof answer, 0) != sizeof answer) _exit(1);
  }
  switch (number % 4) {
    case 0: exit(0);
    case 1: _exit(0);
    case 2: raise(SIGKILL); break;
    default: quick_exit(0);
  }
}

static pid_t start_server(const int* pair, int number) {
  const pid_t child = fork();
  if (child == 0) {
    close(pair[0]);
    serve(pair[1], number);
    _exit(2);
  }
  return child;
}

static int servers(int requests) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) return 1;
  int started = 0;
  for (; started < 4; started++) start_server(pair, started);
  unsigned long sum = 0;
  int replaced = 0;
  for (int i = 0; i < requests; i++) {
    const unsigned request = (unsigned)i;
    unsigned long answer[2];
    if (send(pair[0], &request, sizeof request, 0) != sizeof request) return 1;
    if (recv(pair[0], answer, sizeof answer, 0) != sizeof answer) return 1;
    sum += answer[0] * 31 + answer[1];
    // Five answers end one of them.
    if (i % 5 == 4) {
      start_server(pair, started++);
      replaced++;
    }
  }
  close(pair[0]);
  close(pair[1]);
  while (wait(NULL) > 0 || errno == EINTR) {
  }
  printf("%d requests, %d servers replaced, %lu\n", requests, replaced, sum);
  return 0;
}

// Each generation is a fork of the one before, which waits for it and hands its status on.
static int generations(int left) {
  unsigned long sum = work(64);
  if (left > 0) {
    fflush(stdout);
    const pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) exit(generations(left - 1));
    int status;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return 1;
    sum += (unsigned long)WEXITSTATUS(status);
    sum += work(64);
  }
  printf("generation %d: %lu\n", left, sum);
  return (left + 7) % 64;
}

// A process that has everything loaded makes all others; they are no children of who asks.
static int zygote(int apps) {
  int ask[2];
  int told[2];
  if (pipe(ask) != 0 || pipe(told) != 0) return 1;
  const pid_t maker = fork();
  if (maker == 0) {
    close(ask[1]);
    work(64);
    int number;
    signal(SIGCHLD, SIG_IGN);
    while (read(ask[0], &number, sizeof number) == sizeof number) {
      if (fork() == 0) {
        // The lock and the threads are made after the fork, as apps do.
        const int threads = work_in_threads(2, 64);
        const unsigned long said[3] = {(unsigned long)number, (unsigned long)threads, work_sum};
        if (write(told[1], said, sizeof said) != sizeof said) _exit(1);
        exit(0);
      }
      if (number == 0) break;
    }
    close(told[1]);
    exit(wait(NULL) == -1 && errno == ECHILD ? 0 : 1);
  }
  close(told[1]);
  unsigned long sum = 0;
  for (int number = apps; number >= 0; number--) {
    unsigned long said[3];
    if (write(ask[1], &number, sizeof number) != sizeof number) return 1;
    if (read(told[0], said, sizeof said) != sizeof said) return 1;
    sum += said[0] * 7 + said[1] * 31 + said[2];
  }
  int status;
  if (waitpid(maker, &status, 0) != maker) return 1;
  printf("%d apps, status of the zygote %d, %lu\n", apps + 1, status, sum);
  return 0;
}

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "";
  const int number = argc > 2 ? atoi(argv[2]) : 10;
  work(64);
  if (strcmp(how, "servers") == 0) return servers(number);
  if (strcmp(how, "generations") == 0) return generations(number);
  if (strcmp(how, "zygote") == 0) return zygote(number);
  return 2;
}

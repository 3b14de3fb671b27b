// SPDX-License-Identifier: Apache-2.0
// Sets a limit for itself, then works: limited RESOURCE VALUE. Sizes of AS and DATA are what may
// come on top of what there is.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "work.h"

static const struct {
  const char* name;
  int resource;
} resources[] = {
    {"as", RLIMIT_AS},         {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
    {"data", RLIMIT_DATA},     {"fsize", RLIMIT_FSIZE},       {"memlock", RLIMIT_MEMLOCK},
    {"nofile", RLIMIT_NOFILE}, {"nproc", RLIMIT_NPROC},       {"sigpending", RLIMIT_SIGPENDING},
    {"stack", RLIMIT_STACK},   {"msgqueue", RLIMIT_MSGQUEUE}, {"rttime", RLIMIT_RTTIME},
};

static unsigned long now_kb(const char* what) {
  char text[4096];
  const int fd = open("/proc/self/status", O_RDONLY);
  const ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  text[length > 0 ? length : 0] = '\0';
  const char* at = strstr(text, what);
  return at ? strtoul(at + strlen(what), NULL, 10) : 0;
}

static void set(const char* name, const char* text) {
  for (size_t i = 0; i < sizeof resources / sizeof resources[0]; i++) {
    if (strcmp(name, resources[i].name) != 0) continue;
    rlim_t value = strcmp(text, "unlimited") == 0 ? RLIM_INFINITY : strtoul(text, NULL, 10);
    if (resources[i].resource == RLIMIT_AS) value += now_kb("VmSize:") * 1024;
    if (resources[i].resource == RLIMIT_DATA) value += now_kb("VmData:") * 1024;
    const struct rlimit limit = {value, value};
    printf("set: %d\n", setrlimit(resources[i].resource, &limit));
  }
}

// A file up to the limit, and beyond it with SIGXFSZ ignored.
static void write_files(void) {
  static const char block[4096];
  const int fd = open("written", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd < 0) {
    printf("open: %s\n", strerror(errno));
    return;
  }
  signal(SIGXFSZ, SIG_IGN);
  long written = 0;
  ssize_t one = 0;
  for (int i = 0; i < 64 && (one = write(fd, block, sizeof block)) > 0; i++) written += one;
  printf("written: %ld %s\n", written, one < 0 ? strerror(errno) : "");
  signal(SIGXFSZ, SIG_DFL);
  close(fd);
}

static void make_children(void) {
  for (int i = 0; i < 3; i++) {
    fflush(stdout);
    const pid_t child = fork();
    if (child < 0) printf("fork: %s\n", strerror(errno));
    if (child == 0) _exit(work(512) % 100);
    int status = 0;
    if (child > 0 && waitpid(child, &status, 0) == child) printf("child: %x\n", (unsigned)status);
  }
}

static void use_descriptors(void) {
  int opened = 0;
  while (opened < 100 && open("/dev/null", O_RDONLY) >= 0) opened++;
  printf("opened: %d\n", opened);
  for (int fd = 3; fd < 200; fd++) close(fd);
}

int main(int argc, char** argv) {
  work(16);
  for (int i = 1; i + 1 < argc; i += 2) set(argv[i], argv[i + 1]);
  printf("work: %lu\n", work(2048));
  printf("too much: %s\n", malloc((size_t)1 << 45) ? "there" : strerror(errno));
  const int threads = work_in_threads(3, 512);
  printf("threads: %d, %lu\n", threads, work_sum);
  write_files();
  use_descriptors();
  make_children();
  printf("work: %lu\n", work(4096));
  return 7;
}

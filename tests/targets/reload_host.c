// SPDX-License-Identifier: Apache-2.0
// Loads one plug-in, calls it, unloads it, loads another one: reload_host FIRST SECOND...
// Prints where each was loaded; alike plug-ins come to the same address.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static int run(const char* path) {
  void* plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (plugin == NULL) return fprintf(stderr, "reload_host: %s\n", dlerror()), 1;
  void (*call)(void) = (void (*)(void))dlsym(plugin, "plugin_call");
  if (call == NULL) return 1;
  Dl_info where = {0};
  dladdr((void*)call, &where);
  call();
  printf("%p\n", where.dli_fbase);
  return dlclose(plugin);
}

int main(int argc, char** argv) {
  int failed = 0;
  for (int i = 1; i < argc; i++) failed |= run(argv[i]);
  return failed;
}

// SPDX-License-Identifier: Apache-2.0
// A C program that loads a C++ plug-in with RTLD_LOCAL and calls it: plugin_host PLUGIN
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char** argv) {
  void* plugin = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  if (plugin == NULL) {
    fprintf(stderr, "plugin_host: %s\n", argc > 1 ? dlerror() : "no plug-in given");
    return 2;
  }
  int (*run)(void) = (int (*)(void))dlsym(plugin, "plugin_run");
  if (run == NULL) return 3;
  const int result = run();
  printf("plugin_run: %d\n", result);
  return dlclose(plugin) == 0 ? result : 4;
}

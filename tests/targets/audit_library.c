// SPDX-License-Identifier: Apache-2.0
// For LD_AUDIT: is told of each object and each binding, and allocates in its own namespace.
#include <link.h>
#include <stdlib.h>

static void allocate(void) {
  void* volatile block = malloc(100);
  free(block);
}

unsigned la_version(unsigned version) {
  (void)version;
  allocate();
  return LAV_CURRENT;
}

unsigned la_objopen(struct link_map* map, Lmid_t space, uintptr_t* cookie) {
  (void)map, (void)space, (void)cookie;
  allocate();
  return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

uintptr_t la_symbind64(Elf64_Sym* symbol, unsigned index, uintptr_t* from, uintptr_t* to,
                       unsigned* flags, const char* name) {
  (void)index, (void)from, (void)to, (void)flags, (void)name;
  allocate();
  return symbol->st_value;
}

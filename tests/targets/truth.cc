// SPDX-License-Identifier: Apache-2.0
// Knows every number of its own heap profile and prints it as JSON: truth [THREADS]
//
// Each thread churns, builds its heap up, meets the others at its highest point, and frees half,
// partly blocks that another thread allocated.
#include <pthread.h>
#include <string.h>

#include "tests/targets/truth.h"

namespace {

using truth::Chain;
using truth::SiteCounts;

constexpr size_t kSizes[] = {16, 48, 256, 1000, 4096, 70000, 1048577};
constexpr size_t kSites = sizeof kSizes / sizeof kSizes[0];
constexpr size_t kMaxThreads = 16;
constexpr void* (*kSiteFunctions[])() = {
    truth::site<16>,   truth::site<48>,    truth::site<256>,     truth::site<1000>,
    truth::site<4096>, truth::site<70000>, truth::site<1048577>,
};

struct Worker {
  pthread_t thread;
  size_t index;
  Chain kept[kSites];
  SiteCounts counts[kSites];
};

Worker workers[kMaxThreads];
size_t worker_count = 1;
pthread_barrier_t barrier;

uint64_t kept_blocks(size_t site) { return site < 4 ? 400 : 6 - site % 5; }

void churn(Worker& worker, uint64_t rounds) {
  for (uint64_t round = 0; round < rounds; round++) {
    for (size_t site = 0; site < kSites; site++) {
      free(kSiteFunctions[site]());
      worker.counts[site].allocated++;
      worker.counts[site].freed++;
    }
  }
}

void build_up(Worker& worker) {
  for (size_t site = 0; site < kSites; site++) {
    for (uint64_t i = 0; i < kept_blocks(site); i++) worker.kept[site].push(kSiteFunctions[site]());
    worker.counts[site].allocated += kept_blocks(site);
    worker.counts[site].at_peak = kept_blocks(site);
  }
}

void free_half_of(Worker& owner, Worker& freeing) {
  for (size_t site = 0; site < kSites; site++) {
    for (uint64_t i = 0; i < kept_blocks(site) / 2; i++) {
      free(owner.kept[site].pop());
      freeing.counts[site].freed++;
    }
  }
}

void* work(void* argument) {
  auto& worker = *static_cast<Worker*>(argument);
  churn(worker, 500);
  build_up(worker);
  pthread_barrier_wait(&barrier);
  free_half_of(workers[(worker.index + 1) % worker_count], worker);
  pthread_barrier_wait(&barrier);
  churn(worker, 100);
  return nullptr;
}

void run_threads() {
  for (size_t i = 0; i < worker_count; i++)
    if (pthread_create(&workers[i].thread, nullptr, work, &workers[i]) != 0) abort();
  for (size_t i = 0; i < worker_count; i++) pthread_join(workers[i].thread, nullptr);
}

void print_truth() {
  SiteCounts total[kSites] = {};
  for (const Worker& worker : workers) {
    for (size_t site = 0; site < kSites; site++) {
      total[site].allocated += worker.counts[site].allocated;
      total[site].freed += worker.counts[site].freed;
      total[site].at_peak += worker.counts[site].at_peak;
    }
  }
  truth::Output out;
  out.add("{\"sites\": {\n");
  for (size_t site = 0; site < kSites; site++)
    truth::print_site(out, kSizes[site], total[site], site + 1 == kSites);
  out.add("}}\n");
}

}  // namespace

int main(int argc, char** argv) {
  const size_t threads = argc > 1 ? strtoul(argv[1], nullptr, 10) : 0;
  if (threads > kMaxThreads) return 2;
  worker_count = threads == 0 ? 1 : threads;
  for (size_t i = 0; i < worker_count; i++) workers[i].index = i;
  pthread_barrier_init(&barrier, nullptr, static_cast<unsigned>(worker_count));
  if (threads == 0)
    work(&workers[0]);
  else
    run_threads();
  print_truth();
}

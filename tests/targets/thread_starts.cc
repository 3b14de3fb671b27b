// SPDX-License-Identifier: Apache-2.0
// Creates threads in every way there is and prints, a line a way: the function that creates them,
// how many there are, and what the label `start` must be (a regular expression).
#include <pthread.h>
#include <sys/prctl.h>
#include <threads.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <thread>
#include <vector>

#define SITE [[gnu::noinline]] void

namespace {

std::atomic<int> names_kept;

// The name that the kernel has for the calling thread.
void check_own_name(const char* wanted) {
  char name[16] = "";
  prctl(PR_GET_NAME, name);
  if (strcmp(name, wanted) == 0) names_kept++;
}

void must(int error) {
  if (error != 0) abort();
}

}  // namespace

void* start_named(void*) {
  must(pthread_setname_np(pthread_self(), "named-by-itself"));
  check_own_name("named-by-itself");
  return nullptr;
}
void* start_of_pthread(void* argument) { return argument; }
void* start_detached(void* ended) {
  static_cast<std::atomic<int>*>(ended)->fetch_add(1);
  return nullptr;
}
int start_of_thrd(void*) { return 0; }
void start_of_std(int, const char*) {}
int start_of_async(int value) { return value; }
void start_of_jthread(std::stop_token token) {
  while (!token.stop_requested()) std::this_thread::yield();
}
struct Functor {
  long state[4];
  void operator()() const {}
};
struct Worker {
  void run_worker(int) {}
};

SITE create_by_pthread() {
  pthread_t threads[3];
  for (pthread_t& thread : threads)
    must(pthread_create(&thread, nullptr, start_of_pthread, nullptr));
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
}
SITE create_named() {
  pthread_t threads[2];
  for (pthread_t& thread : threads) must(pthread_create(&thread, nullptr, start_named, nullptr));
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
}
SITE create_detached() {
  static std::atomic<int> ended;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  for (int i = 0; i < 2; i++) must(pthread_create(&thread, &attributes, start_detached, &ended));
  while (ended < 2) std::this_thread::yield();
}
// There is no room for such a stack: no thread, and no sample.
SITE create_in_vain() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  must(pthread_attr_setstacksize(&attributes, size_t{1} << 46));
  pthread_t thread;
  if (pthread_create(&thread, &attributes, start_of_pthread, nullptr) == 0) abort();
}
SITE create_by_thrd() {
  thrd_t threads[2];
  for (thrd_t& thread : threads) must(thrd_create(&thread, start_of_thrd, nullptr) != thrd_success);
  for (const thrd_t thread : threads) thrd_join(thread, nullptr);
}
SITE create_std_function() {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) threads.emplace_back(start_of_std, i, "argument");
  for (std::thread& thread : threads) thread.join();
}
SITE create_std_lambda() {
  int ran = 0;
  std::thread([&ran] { ran++; }).join();
  std::thread([&ran] { ran++; }).join();
}
SITE create_std_functor() { std::thread(Functor{}).join(); }
SITE create_std_member() {
  Worker worker;
  for (int i = 0; i < 2; i++) std::thread(&Worker::run_worker, &worker, i).join();
}
SITE create_jthread() {
  std::jthread first(start_of_jthread);
  std::jthread second(start_of_jthread);
}
SITE create_async() {
  int sum = 0;
  for (int i = 0; i < 3; i++) sum += std::async(std::launch::async, start_of_async, i).get();
  if (sum != 3) abort();
}
SITE create_in_thread() {
  for (int i = 0; i < 5; i++) std::thread(start_of_std, i, "inner").join();
}
void* start_creator(void*) {
  create_in_thread();
  return nullptr;
}
SITE create_creator() {
  pthread_t thread;
  must(pthread_create(&thread, nullptr, start_creator, nullptr));
  pthread_join(thread, nullptr);
}

int main() {
  // Of the main thread too: its name is the program's until then.
  must(pthread_setname_np(pthread_self(), "main-renamed"));
  check_own_name("main-renamed");
  create_by_pthread();
  create_named();
  create_detached();
  create_in_vain();
  create_by_thrd();
  create_std_function();
  create_std_lambda();
  create_std_functor();
  create_std_member();
  create_jthread();
  create_async();
  create_creator();
  if (names_kept != 3) return 3;
  printf("create_by_pthread\t3\t^start_of_pthread\\b\n");
  printf("create_named\t2\t^start_named\\b\n");
  printf("create_detached\t2\t^start_detached\\b\n");
  printf("create_in_vain\t0\t-\n");
  printf("create_by_thrd\t2\t^start_of_thrd\\b\n");
  printf("create_std_function\t4\t^start_of_std\\b\n");
  printf("create_std_lambda\t2\t^create_std_lambda\\b.*lambda\n");
  printf("create_std_functor\t1\t^Functor\\b\n");
  printf("create_std_member\t2\tWorker::\n");
  printf("create_jthread\t2\t^start_of_jthread\\b\n");
  printf("create_async\t3\t_Async_state_impl|start_of_async|int \\(\\*\\)\\(int\\)\n");
  printf("create_in_thread\t5\t^start_of_std\\b\n");
  printf("create_creator\t1\t^start_creator\\b\n");
}

// SPDX-License-Identifier: Apache-2.0
// A dump made in this process, as the library's start makes it, and a second mapping of the same
// file, through which a test looks at it the way another process does.
//
// The second mapping has other addresses: what the tests read there is no data race to
// ThreadSanitizer, just as it is none for a reader in another process.
#pragma once

#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <barrier>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "preload/buckets.h"
#include "preload/counts.h"
#include "preload/custom_profiles.h"
#include "preload/dump_file.h"
#include "preload/filter.h"
#include "preload/labels.h"
#include "preload/live_index.h"
#include "preload/modules.h"
#include "preload/program_labels.h"
#include "preload/stacks.h"
#include "preload/thread_state.h"
#include "tests/unit/temp_folder.h"

namespace mprof::test {

// One at a time: the core's state is global, as it is in the library.
class Recording {
 public:
  explicit Recording(format::Settings settings = {}, uint32_t live_heads = 1u << 12)
      : out_(folder_.path() + "/dump") {
    settings.out = out_.c_str();
    if (!preload::modules_init() || !preload::create_dump(settings) || !preload::stacks_init() ||
        !preload::buckets_init() || !preload::live_index.init(live_heads) ||
        !preload::threads_init([](void*) {
          if (preload::header != nullptr) preload::thread_ends();
        }) ||
        !preload::labels_init() || !preload::program_labels_init() || !preload::counts_init() ||
        !preload::condition_table_init(settings.mutex_fraction != 0))
      throw std::runtime_error("the recording does not start");
  }
  ~Recording() {
    preload::abandon_dump();
    preload::forget_threads();
    preload::forget_modules();
    preload::filter_clear();
    preload::custom_profiles_forget();
    preload::self.block = nullptr;
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  [[nodiscard]] const std::string& path() const { return out_; }

 private:
  TempFolder folder_;
  std::string out_;
};

// The file as a reader maps it, at its size of now.
class ReaderView {
 public:
  ReaderView() {
    const int fd = open(preload::dump_path(), O_RDWR | O_CLOEXEC);
    bytes_ = preload::header->file_bytes.load();
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory == MAP_FAILED) throw std::runtime_error("the dump cannot be mapped again");
    base_ = static_cast<char*>(memory);
  }
  ~ReaderView() { munmap(base_, bytes_); }
  ReaderView(const ReaderView&) = delete;
  ReaderView& operator=(const ReaderView&) = delete;

  [[nodiscard]] format::DumpHeader& header() const {
    return *reinterpret_cast<format::DumpHeader*>(base_);
  }
  template <class Row>
  [[nodiscard]] Row& row(format::TableId table, uint32_t number) const {
    const auto& directory = header().tables[static_cast<size_t>(table)];
    const format::RowPlace place = format::place_of_row(directory.first_rows, number);
    char* rows = base_ + directory.chunk_offset[place.chunk].load(std::memory_order_acquire);
    return *(reinterpret_cast<Row*>(rows) + place.row_in_chunk);
  }
  [[nodiscard]] uint64_t used(format::TableId table) const {
    return header().tables[static_cast<size_t>(table)].used_rows.load(std::memory_order_acquire);
  }
  [[nodiscard]] format::BucketRow& bucket(uint32_t number) const {
    return row<format::BucketRow>(format::TableId::kBuckets, number);
  }

 private:
  char* base_ = nullptr;
  size_t bytes_ = 0;
};

// `body(i)` in `count` threads, which begin together.
template <class Body>
void in_threads(int count, Body&& body) {
  std::barrier start(count);
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i)
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      body(i);
    });
  for (std::thread& thread : threads) thread.join();
}

// A stack of one frame, which no module contains.
inline uint32_t stack_with_pc(format::StackIndex& index, uint64_t pc) {
  const auto is_none = [](uint32_t module) { return module == format::kNoRow; };
  const auto none = [] { return format::kNoRow; };
  return index.find_or_add(format::kStackComplete, pc, is_none, none, [] {
    return preload::claim_row(preload::tables.stack_nodes, format::TableId::kStackNodes);
  });
}

// Heads of a StackIndex, zeroed.
class StackIndexMemory {
 public:
  StackIndexMemory() : heads_(calloc(1, format::StackIndex::kIndexBytes)) {
    index.reset(&preload::tables.stack_nodes, heads_);
  }
  ~StackIndexMemory() { free(heads_); }
  StackIndexMemory(const StackIndexMemory&) = delete;
  StackIndexMemory& operator=(const StackIndexMemory&) = delete;

  format::StackIndex index;

 private:
  void* heads_;
};

}  // namespace mprof::test

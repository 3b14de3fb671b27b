// SPDX-License-Identifier: Apache-2.0
// The kernel is the oracle: random filters, each installed in a child, must give for a call what
// they give here.
#include "preload/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <random>
#include <vector>

#include "preload/sys.h"
#include "tests/unit/catch.h"

using namespace mprof::preload;

namespace {

constexpr int kSame = 20, kOther = 21, kRefused = 22;
constexpr uint32_t kFirstArgument = offsetof(seccomp_data, args);

// Reads words of a call, computes, jumps forward, and lets it through or not.
std::vector<sock_filter> random_filter(std::mt19937& random) {
  const auto below = [&](uint32_t end) { return static_cast<uint32_t>(random() % end); };
  std::vector<sock_filter> code = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  for (int i = 0; i < BPF_MEMWORDS; ++i)  // the kernel refuses to read what was not written
    code.push_back(BPF_STMT(BPF_ST, static_cast<uint32_t>(i)));
  const uint32_t steps = 1 + below(40);
  const uint16_t operations[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_AND,
                                 BPF_OR,  BPF_XOR, BPF_LSH, BPF_RSH, BPF_NEG};
  const uint16_t tests[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
  for (uint32_t i = 0; i < steps; ++i) {
    const uint16_t from = below(2) == 0 ? BPF_K : BPF_X;
    const auto skip = [&] { return static_cast<uint8_t>(below(std::min(steps - i, 4u))); };
    switch (below(8)) {
      case 0:
        code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kFirstArgument + 4 * below(12)));
        break;
      case 1: code.push_back(BPF_STMT(BPF_LD | BPF_MEM, below(BPF_MEMWORDS))); break;
      case 2: code.push_back(BPF_STMT(BPF_LDX | BPF_MEM, below(BPF_MEMWORDS))); break;
      case 3:
        code.push_back(BPF_STMT(below(2) == 0 ? BPF_ST : BPF_STX, below(BPF_MEMWORDS)));
        break;
      case 4: code.push_back(BPF_STMT(BPF_MISC | (below(2) == 0 ? BPF_TAX : BPF_TXA), 0)); break;
      case 5: code.push_back(BPF_STMT(BPF_LDX | BPF_IMM, static_cast<uint32_t>(random()))); break;
      case 6: {
        const uint16_t operation = operations[below(10)];
        const uint32_t by =
            operation == BPF_LSH || operation == BPF_RSH ? below(32) : 1 + below(99);
        code.push_back(BPF_STMT(static_cast<uint16_t>(BPF_ALU | operation | from), by));
        break;
      }
      default:
        code.push_back(BPF_JUMP(static_cast<uint16_t>(BPF_JMP | tests[below(4)] | from),
                                static_cast<uint32_t>(random()) >> below(32), skip(), skip()));
    }
  }
  // Jumps end at most three steps behind.
  for (int i = 0; i < 4; ++i) code.push_back(BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 1));
  code.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x111, 1, 0));
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77));
  return code;
}

// `denied_here` outlives a process that is killed.
int compare(std::vector<sock_filter> code, std::mt19937& random, volatile bool* denied_here) {
  const sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
  const SeccompRequest request(SeccompRequest::kFilter, &program);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return kRefused;
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return kRefused;
  for (int i = 0; i < 20; ++i) {
    const auto word = [&] {
      return static_cast<long>(random()) << 32 | static_cast<long>(random());
    };
    const long a = word(), b = word(), c = word(), d = word(), e = word(), f = word();
    *denied_here = sys::call<SYS_getpgid>(a, b, c, d, e, f) == -EPERM;
    const bool is_denied = ::syscall(SYS_getpgid, a, b, c, d, e, f) == -1 && errno == 77;
    if (is_denied != *denied_here) return kOther;
  }
  return kSame;
}

}  // namespace

TEST_CASE("filters give what they give in the kernel") {
  int same = 0;
  auto* denied_here = static_cast<volatile bool*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  REQUIRE(denied_here != MAP_FAILED);
  for (unsigned seed = 0; seed < 400; ++seed) {
    const pid_t child = fork();
    if (child == 0) {
      std::mt19937 random(seed);
      auto code = random_filter(random);
      _exit(compare(std::move(code), random, denied_here));
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    INFO("seed " << seed << ", status " << status);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) {
      CHECK(*denied_here);  // a division by zero kills
      continue;
    }
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) != kOther);
    same += WEXITSTATUS(status) == kSame ? 1 : 0;
  }
  CHECK(same > 300);
}

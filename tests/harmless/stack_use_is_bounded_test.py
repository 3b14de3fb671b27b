# SPDX-License-Identifier: Apache-2.0
"""How much stack hooks and samples take: targets/stack_use.c paints stacks and looks afterwards."""

import os
import re

import harmless
import harness

# Measured: 0.7 KiB for the deepest hook, 1.3 KiB for the handler; beside it is the kernel's frame.
MOST_HOOK_BYTES = 1536
MOST_HANDLER_BYTES = 2560
SC_MINSIGSTKSZ = 249


class StackUse(harmless.Case):
    def bytes_by_work(self, settings):
        run = self.run_plain(
            harness.target("stack_use"),
            env=self.library_env(None, settings) if settings is not None else None,
        )
        self.assertEqual((run.returncode, run.stderr), (0, ""), run)
        found = re.findall(r"(\w+): (\d+) (\d+)\n", run.stdout)
        self.assertEqual(len(found), 6, run)
        return {name: (int(stack), int(alternate)) for name, stack, alternate in found}

    def test_stack_use(self):
        frame = os.sysconf(SC_MINSIGSTKSZ)
        plain = self.bytes_by_work(None)
        quiet = self.bytes_by_work({**harmless.EVERYTHING, "MPROF_CPU_HZ": "0"})
        sampled = self.bytes_by_work(harmless.EVERYTHING)
        for name in plain:
            with self.subTest(name):
                hooks = quiet[name][0] - plain[name][0]
                handler = sampled[name][1] - frame
                on_top = sampled[name][0] - plain[name][0]
                print(f"{name}: hooks {hooks}, handler {handler}, both with the kernel's frame {on_top} bytes")
                self.assertEqual(plain[name][1], 0)
                self.assertLessEqual(hooks, MOST_HOOK_BYTES)
                self.assertLessEqual(handler, MOST_HANDLER_BYTES)
                self.assertLessEqual(on_top, MOST_HOOK_BYTES + frame + MOST_HANDLER_BYTES)
        self.assertGreater(sampled["compute"][1], 0, "there was no sample on the alternate stack")


if __name__ == "__main__":
    harmless.main()

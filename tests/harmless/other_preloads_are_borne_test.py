# SPDX-License-Identifier: Apache-2.0
"""Other libraries in LD_PRELOAD, before this one and behind it; sanitizers; programs that load none."""

import glob
import os

import harmless
import harness

PASS_THROUGH = harness.target("pass_through.so")
MULTIARCH = "/usr/lib/x86_64-linux-gnu"


def installed(pattern):
    """The newest file of a package that scripts/install_deps.sh installs."""
    found = sorted(glob.glob(pattern))
    if not found:
        raise AssertionError(f"{pattern}: not there; scripts/install_deps.sh test installs it")
    return found[-1]


class Order(harmless.Case):
    """A case whose settings may put other libraries before this one or behind it."""

    def both_orders(self, other):
        """Each setting in both orders, and the other one in the run without the library, too."""
        for order in ("{other}:{ours}", "{ours}:{other}"):
            preload = order.format(other=other, ours=harness.LIBRARY)
            with self.subTest(preload):
                self.order = (preload, other)
                yield

    def environment_of(self, settings, preload=()):
        environment = super().environment_of(settings)
        both, other = self.order
        environment["LD_PRELOAD"] = other if settings is None else both
        return environment


class Preloads(Order):
    def check(self, other, *command, status=11, **options):
        for _ in self.both_orders(other):
            outcome = self.check_unchanged(*(command or [harness.target("ways_of_life")]), **options)
            self.assertEqual((outcome.status, outcome.err), (status, b""), outcome)
        return outcome

    def test_one_that_hands_all_on(self):
        self.check(PASS_THROUGH)

    def test_jemalloc(self):
        self.check(installed(f"{MULTIARCH}/libjemalloc.so.2"))

    def test_tcmalloc(self):
        self.check(installed(f"{MULTIARCH}/libtcmalloc_minimal.so.4"))

    def test_stdbuf(self):
        self.check(installed("/usr/libexec/coreutils/libstdbuf.so"), env={"_STDBUF_O": "L"})

    def test_faketime(self):
        """Its clock_gettime() takes locks and asks the loader; samples must not come by there."""
        fake = installed(f"{MULTIARCH}/faketime/libfaketime.so.1")
        for clock in ("@2001-02-03 04:05:06", "-10y", "+0 x1000"):
            env = {"FAKETIME": clock, "TZ": "UTC"}
            self.check(fake, env=env)
        env = {"FAKETIME": "@2001-02-03 04:05:06", "TZ": "UTC"}
        outcome = self.check(fake, "/usr/bin/date", "+%F", env=env, status=0)
        self.assertEqual(outcome.out, b"2001-02-03\n")

    def test_fakeroot(self):
        """By its own script, which puts its library before what is in LD_PRELOAD."""
        script = "touch a; chown 12:34 a; ls -n a | cut -d' ' -f 1-4; id -u"
        self.order = (str(harness.LIBRARY), "")
        outcome = self.check_unchanged("fakeroot", "/bin/sh", "-c", script)
        self.assertEqual((outcome.status, outcome.out.split()[2:4]), (0, [b"12", b"34"]), outcome)

    def test_heaptrack(self):
        """Without children: they wait at their end for a lock of heaptrack's, if its thread held it."""
        self.check(
            installed("/usr/lib/heaptrack/libheaptrack_preload.so"), harness.target("ways_of_life"), "alone",
            env={"DUMP_HEAPTRACK_OUTPUT": "/dev/null"},
        )  # fmt: skip


class Sanitizers(Order):
    def check(self, program, preload="", **options):
        self.order = (f"{preload}:{harness.LIBRARY}".strip(":"), preload)
        outcome = self.check_unchanged(harness.target(program), **options)
        self.assertEqual((outcome.status, outcome.err), (11, b""), outcome)

    def test_address(self):
        """ASan wants to be first in the list of libraries, and ends the program if it is not."""
        self.check("ways_of_life_asan", self.asan())

    def test_address_linked_in(self):
        self.check("ways_of_life_asan_static", leaves_dumps=False)

    def test_threads(self):
        self.check("ways_of_life_tsan", leaves_dumps=False)

    def test_undefined_behaviour(self):
        self.check("ways_of_life_ubsan")

    def asan(self):
        return os.path.realpath(installed("/usr/lib/gcc/x86_64-linux-gnu/*/libasan.so"))


class WithoutLibraries(harmless.Case):
    def test_static_programs(self):
        for program in ("ways_of_life_static", "ways_of_life_static_pie"):
            with self.subTest(program):
                outcome = self.check_unchanged(harness.target(program), leaves_dumps=False)
                self.assertEqual(outcome.status, 11, outcome)


if __name__ == "__main__":
    harmless.main()

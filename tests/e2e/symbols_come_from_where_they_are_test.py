# SPDX-License-Identifier: Apache-2.0
"""Names from separate debug files, and a profile that needs neither the program nor its libraries."""

import ctypes.util
import shutil
import socket

import harness


class Symbols(harness.Case):
    def copy_of(self, name):
        program = self.dir / name
        program.write_bytes((harness.TARGETS / name).read_bytes())
        program.chmod(0o755)
        return program

    def tool(self, *command):
        run = self.run_plain(*command)
        self.assertEqual(run.returncode, 0, run)

    def leaf_of(self, program):
        self.run_under(program, 5)
        profile = self.profile(self.only_dump())
        (sample,) = [s for s in profile.samples if s.values["alloc_space"] == 5000]
        return sample.frames[0]

    def test_debug_link(self):
        program = self.copy_of("deep_nofp")
        self.tool("objcopy", "--only-keep-debug", program, self.dir / "deep_nofp.debug")
        self.tool("strip", "--strip-all", program)
        self.tool("objcopy", f"--add-gnu-debuglink={self.dir}/deep_nofp.debug", program)
        leaf = self.leaf_of(program)
        self.assertEqual(leaf.function, "deep_leaf")
        self.assertTrue(leaf.file.endswith("deep.c"), leaf)

    def test_stripped(self):
        """No names anywhere: addresses in the right file, and no wrong names."""
        program = self.copy_of("deep_nofp")
        self.tool("strip", "--strip-all", program)
        leaf = self.leaf_of(program)
        self.assertTrue(leaf.mapping.endswith("/deep_nofp"), leaf)
        self.assertNotIn("deep_leaf", leaf.function)

    def test_profile_outlives_the_program(self):
        program = self.copy_of("deep_nofp")
        self.run_under(program, 5)
        file = self.profile_file(self.only_dump())
        program.unlink()
        self.assertIn("deep_leaf", self.go_pprof("-alloc_space", "-nodefraction=0", "-top", file))

    def test_replaced_program(self):
        """Another program now at the same path, told by its build id: no names rather than wrong ones."""
        program = self.copy_of("deep_nofp")
        self.run_under(program, 5)
        program.unlink()
        program.write_bytes((harness.TARGETS / "deep_fp").read_bytes())
        profile = self.profile(self.only_dump())
        (sample,) = [s for s in profile.samples if s.values["alloc_space"] == 5000]
        self.assertTrue(sample.frames[0].mapping.startswith(str(program)), sample.frames[0])
        self.assertNotIn(sample.frames[0].function, ("deep_leaf", "deep_step", "main"))
        said = self.mprof_ok("pprof", self.only_dump(), "-o", self.dir)
        self.assertRegex(said.stderr + "\n".join(profile.comments), r"(?i)build.?id|replaced|changed|differ")

    def test_deleted_program(self):
        program = self.copy_of("deep_nofp")
        self.run_under(program, 5)
        program.unlink()
        profile = self.profile(self.only_dump())
        self.assertEqual(profile.below("deep_leaf")["alloc_objects"], 0)
        self.assertEqual(sum(s.values["alloc_space"] == 5000 for s in profile.samples), 1)

    def test_servers_are_asked_only_when_wanted(self):
        program = self.copy_of("deep_nofp")
        self.tool("strip", "--strip-all", program)
        self.run_under(program, 5)
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            environment = {"DEBUGINFOD_URLS": url, "DEBUGINFOD_TIMEOUT": "1"}
            self.mprof_ok("top", self.only_dump(), env=environment)
            with self.assertRaises(BlockingIOError):
                server.accept()
            if shutil.which("debuginfod-find") is None and ctypes.util.find_library("debuginfod") is None:
                return  # nobody could ask
            self.mprof_ok("top", "--debuginfod", self.only_dump(), env=environment)
            server.accept()[0].close()

    def test_cxx_names(self):
        self.run_under(harness.target("throwing"), rate=1000)
        names = self.profile(self.only_dump(), "allocs").names()
        self.assertFalse([n for n in names if n.startswith("_Z")], "demangled")
        self.assertTrue([n for n in names if "operator new(" in n])


if __name__ == "__main__":
    harness.main()

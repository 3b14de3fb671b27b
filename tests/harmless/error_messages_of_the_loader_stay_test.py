# SPDX-License-Identifier: Apache-2.0
"""dlerror() says what it said.

A process's first operator new once looked the next one up then and there: a dlopen that had failed
just before lost its message, and the program printed "(null)" for a reason. All is looked up at the
start now, and the last of it is found, so that no message is left there either.
"""

import harmless
import harness


class Messages(harmless.Case):
    def test_message_outlives_the_first_allocations(self):
        plain = self.check_unchanged(harness.target("dl_errors"))
        self.assertIn(b"dlopen: no-such-library.so: cannot open", plain.out)
        self.assertIn(b"no_such_function\nthen: nothing\n", plain.out)

    def test_c_program_begins_without_one(self):
        code = "import ctypes; e = ctypes.CDLL(None).dlerror; e.restype = ctypes.c_char_p; print(e())"
        plain = self.check_unchanged("/usr/bin/python3", "-I", "-S", "-c", code)
        self.assertEqual(plain.out, b"None\n")


if __name__ == "__main__":
    harmless.main()

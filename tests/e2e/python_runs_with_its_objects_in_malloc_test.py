# SPDX-License-Identifier: Apache-2.0
"""The distribution's python3 with PYTHONMALLOC=malloc, under the library."""

import harness
from real_program import RealProgram

SCRIPT = """
import json, re, sys
class Node:
    def __init__(self, depth):
        self.children = [Node(depth - 1) for _ in range(3)] if depth else []
        self.text = "n" * depth
tree = Node(8)
words = {str(i): [i] * (i % 20) for i in range(20000)}
text = json.dumps(words)
back = json.loads(text)
print(len(text), back == words, len(re.findall(r"1+", text)))
b"x" * 5_000_000
print("to stderr", file=sys.stderr)
sys.exit(3)
"""


class Python(RealProgram):
    def test_python(self):
        (self.dir / "work.py").write_text(SCRIPT)
        # Not the one that runs this test, which may be any: the distribution's has no frame pointers.
        command = ["/usr/bin/python3", "work.py"]
        env = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        plain = self.run_plain(*command, env=env)
        under = self.run_under(*command, rate=self.rate, env=env)
        self.assertEqual(plain.returncode, 3, plain)
        self.assert_same_behaviour(plain, under)
        dump = self.only_dump()
        self.check_profile(dump, ["_PyEval_EvalFrameDefault", "PyEval_EvalCode"])
        self.check_complete_stacks(dump, ["Py_BytesMain", "_start"])


if __name__ == "__main__":
    harness.main()

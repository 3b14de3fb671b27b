#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Folder = layer: checks what each file of format/, preload/ and dumper/ includes.

format/ includes only itself; preload/ and dumper/ include themselves and format/, never each other.
In format/ and preload/ an angle include is a C or POSIX header, or one of the list below: what works
without libstdc++.so.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAY_INCLUDE = {
    "format": {"format"},
    "preload": {"preload", "format"},
    "dumper": {"dumper", "format"},
}
FREESTANDING = set(
    "algorithm array atomic bit concepts cstddef cstdint cstring initializer_list limits new span type_traits utility".split()
)
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


def complaint(layer, quoted, angle):
    """Why an include is not allowed; None if it is."""
    if quoted is not None:
        folder = quoted.partition("/")[0] if "/" in quoted else None
        if folder is None:
            return f'"{quoted}": write it from the root, as in "{layer}/{quoted}"'
        if folder not in MAY_INCLUDE[layer]:
            return f'"{quoted}": {layer}/ may include only {", ".join(sorted(MAY_INCLUDE[layer]))}'
    elif layer != "dumper" and not angle.endswith(".h") and angle not in FREESTANDING:
        return f"<{angle}>: needs libstdc++, or is not on the list in {Path(__file__).name}"
    return None


def main():
    failed = files = 0
    for layer in MAY_INCLUDE:
        for path in sorted((ROOT / layer).rglob("*")):
            if path.suffix not in (".h", ".cc", ".c"):
                continue
            files += 1
            for number, line in enumerate(path.read_text().splitlines(), 1):
                include = INCLUDE.match(line)
                why = complaint(layer, *include.groups()) if include else None
                if why:
                    failed += 1
                    print(f"{path.relative_to(ROOT)}:{number}: {why}", file=sys.stderr)
    print(f"check_layers: {files} files, {failed} wrong includes")
    return 1 if failed or not files else 0


if __name__ == "__main__":
    sys.exit(main())

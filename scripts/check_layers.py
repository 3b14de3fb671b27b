#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Folder = layer: checks what each file of format/, preload/ and dumper/ includes.

format/ includes only itself; preload/ and dumper/ include themselves and format/, never each other;
tests/ may include all. Code lies nowhere else. mprof.h is installed by itself and includes nothing of
the project. In format/ and preload/ an angle include is a C or POSIX header, or one of the list below: what works
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
MAY_INCLUDE_ALL = {"tests"}
STANDS_ALONE = {"preload/mprof.h"}
CODE = {".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".inc", ".S", ".s"}
FREESTANDING = set(
    "algorithm array atomic bit concepts cstddef cstdint cstring initializer_list limits new span type_traits utility".split()
)
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
# Brings code in, too, but by a name that cannot be read here.
HIDDEN = re.compile(r"^\s*(#\s*(include|import|embed)|import|export\s+import)\b")


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


def complaints_of(layer, path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        include = INCLUDE.match(line)
        if include:
            why = complaint(layer, *include.groups())
            if not why and include[1] and str(path.relative_to(ROOT)) in STANDS_ALONE:
                why = f'"{include[1]}": this file is installed by itself'
        else:
            why = "an include that this check cannot read" if HIDDEN.match(line) else None
        if why:
            yield f"{number}: {why}"


def code_files():
    """All code of the project; a folder that has meson's own files in it is a build."""
    for folder in sorted(ROOT.iterdir()):
        if folder.is_dir() and not folder.name.startswith(".") and not (folder / "meson-info").exists():
            yield from (path for path in sorted(folder.rglob("*")) if path.suffix in CODE)
        elif folder.suffix in CODE:
            yield folder


def main():
    failed = files = 0
    seen = set()
    for path in code_files():
        layer = path.relative_to(ROOT).parts[0]
        seen.add(layer)
        files += 1
        if layer in MAY_INCLUDE_ALL:
            continue
        wrong = complaints_of(layer, path) if layer in MAY_INCLUDE else ["1: code outside the layers"]
        for what in wrong:
            failed += 1
            print(f"{path.relative_to(ROOT)}:{what}", file=sys.stderr)
    for layer in sorted((MAY_INCLUDE.keys() | MAY_INCLUDE_ALL) - seen):
        failed += 1
        print(f"{layer}/: no code found", file=sys.stderr)
    print(f"check_layers: {files} files, {failed} wrong includes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

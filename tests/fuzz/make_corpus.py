#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the corpus of the fuzz targets anew: make_corpus.py BUILD [FOLDER]

BUILD is a build folder with tests. To be run when the format of the dump, of a journal or of the
trace changes. Files of other names, which were findings, stay. Needs g++ and binutils.
"""

import gzip
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

SETTINGS = {
    "defaults": "MPROF_OUT=%e.%p.mprof\nMPROF_HEAP_RATE=524288\nMPROF_BLOCK_RATE=100000\nMPROF_MUTEX_FRACTION=1000\n",
    "suffixes": "MPROF_HEAP_RATE=512k\nMPROF_TRACE_MAX=1G,stop\nMPROF_HEAP_RATE=1M\nMPROF_TRACE_MAX=0\n",
    "switches": "MPROF_MMAP=1\nMPROF_DRAIN=0\nMPROF_TRACE=1\nMPROF_VERBOSE=1\nMPROF_UNWIND=dwarf\nMPROF_UNWIND=fp\n",
    "refused": "MPROF_OUT=%x\nMPROF_OUT=\nMPROF_HEAP_RATE=-1\nMPROF_CPU_HZ=10001\nMPROF_STACK_DEPTH=0\nMPROF=\n=\n",
    "names": "MPROF_ONLY=a,b,,c\nMPROF_SKIP=,\nMPROF_SEED=18446744073709551615\nMPROF_CPU_HZ=100\nMPROF_STACK_DEPTH=256\n",
}

COMMANDS = {
    "run": ["run", "--heap-rate", "64k", "--trace-max", "1M,stop", "--mmap", "-o", "out", "--", "ls", "-l"],
    "pprof": ["pprof", "-p", "heap,block,program/files", "--from", "1.5s", "--to", "-10s", "--symbols", "none", "1"],
    "top": ["top", "--cum", "--peak", "a.mprof"],
    "trace": ["trace", "--format", "perfetto", "-o", "-", "a.mprof"],
    "timeline": ["timeline", "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T00:00:01.5+01:00", "--csv", "a"],
    "diff": ["diff", "--normalize", "a.pb.gz", "b.mprof"],
    "serve": ["serve", "--listen", "[::1]:6060", "--allow-remote", "--token-env", "TOKEN", "1"],
    "listen": ["127.0.0.1:0", ":6060", "localhost:6060", "Bearer 0123456789abcdef", "10ms", "90", "2h"],
    "ctl": ["ctl", "1", "--reset", "--snapshot", "name", "heap-rate=4096", "trace", "start"],
    "threads": ["threads", "--debug", "1", "--timeout", "10", "1"],
    "help": ["--help"],
    "version": ["--version"],
}

REQUESTS = {
    "index": "GET /debug/pprof/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "root": "GET / HTTP/1.0\r\n\r\n",
    "heap": "GET /debug/pprof/heap?debug=1&gc=1 HTTP/1.1\r\nHost: 127.0.0.1:6060\r\nAccept-Encoding: gzip\r\n\r\n",
    "cpu": "GET /debug/pprof/profile?seconds=1 HTTP/1.1\r\nHost: [::1]:6060\r\n\r\n",
    "threads": "GET /debug/pprof/goroutine?debug=2 HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-1,2-3\r\n\r\n",
    "symbol": "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n0x11010+0x11020",
    "targets": "GET /targets HTTP/1.1\r\nHost: localhost:6060\r\n\r\n",
    "escaped": "GET /%64ebug/pprof/%3cb%3e?a=%00%ff HTTP/1.1\r\nHost: evil.example\r\nExpect: 100-continue\r\n\r\n",
    "chunked": "POST /debug/pprof/symbol HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n0\r\n0\r\n\r\n",
    "method": "DELETE /4711/debug/pprof/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
WITH_TOKEN = "GET /debug/pprof/mutex HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdef\r\n\r\n"

NAMES = {
    "cxx": "_ZNSt6threadC4IRFvvEJEvEEOT_DpOT0_",
    "thread": "_ZTSNSt6thread11_State_implINS_8_InvokerISt5tupleIJZ4mainEUlvE_EEEEEE",
    "rust": "_RNvCskwGfYPst2Cb_3foo16example_function",
    "old-rust": "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE",
    "clone": "_ZN3fooEv.constprop.0.cold@@VERSION_1",
    "escapes": "\x1b]0;title\x07\x1b[31m\u009b1m\u202e\r\n\t",
    "html": "<script>alert('\"&')</script>",
    "maps": "7f0000000000-7f0000001000 rw-s 00000000 fe:01 1234   /tmp/a b (deleted)",
    "id": "0123456789abcdef0123456789abcdef01234567",
}

PROGRAM = """
template <class T> struct Box { virtual ~Box() {} T value; [[gnu::noinline]] T get() { return value; } };
namespace { int hidden; static inline int inner(int n) { return hidden += n; } }
volatile int sink;
[[gnu::noinline]] int outer(int n) { static int calls; sink = inner(n); return inner(n + ++calls); }
Box<int> box;
int main(int argc, char**) { try { if (argc > 9) throw 1; } catch (int) { return 2; } return outer(argc) + box.get(); }
"""


def write(folder, name, data):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))


def write_texts(corpus):
    for name, text in SETTINGS.items():
        write(corpus / "config", name, text)
    for name, arguments in COMMANDS.items():
        write(corpus / "options", name, "\n".join(arguments))
    for name, text in REQUESTS.items():
        write(corpus / "http", name, "\0" + text)
    write(corpus / "http", "token", "\1" + WITH_TOKEN)
    for name, text in NAMES.items():
        write(corpus / "names", name, text)


def write_profiles(corpus):
    """Of Go's own writer, without their compression: mutations do not get through that."""
    golden = HERE.parent / "golden" / "go"
    for path in sorted(golden.glob("*.pb.gz")):
        packed = path.read_bytes()
        write(corpus / "pprof", path.name.removesuffix(".pb.gz"), gzip.decompress(packed))
    write(corpus / "pprof", "packed", packed)


def run(folder, *command):
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE).stdout


def section(folder, program, name):
    """Its address and its contents."""
    run(folder, "objcopy", "-O", "binary", f"--only-section={name}", program, "section")
    fields = run(folder, "objdump", "-h", "-j", name, program).decode().split(name, 2)[-1].split()
    return int(fields[1], 16), (folder / "section").read_bytes()


def symbol(folder, program, name):
    line = next(line for line in run(folder, "nm", program).decode().splitlines() if line.endswith(f" {name}"))
    return int(line.split()[0], 16)


def write_programs(corpus):
    forms = {
        "dwarf": ["-g"],
        "dwarf4": ["-g", "-gdwarf-4"],
        "types": ["-g", "-fdebug-types-section"],
        "stripped": ["-s"],
        "packed": ["-g", "-gz"],
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "program.cc").write_text(PROGRAM)
        for name, flags in forms.items():
            run(folder, "g++", "-O1", "-std=c++17", "-Wl,--build-id=sha1,-z,noseparate-code", *flags,
                "program.cc", "-o", name)  # fmt: skip
            address = 0x400 if name == "stripped" else symbol(folder, name, "_Z5outeri")
            write(corpus / "elf", name, struct.pack("<I", address) + (folder / name).read_bytes())
        write_eh_frame(corpus, folder)


def write_eh_frame(corpus, folder):
    """As they are in memory: header, gap, frames, at the distance that they have in a program."""
    at_header, header = section(folder, "dwarf", ".eh_frame_hdr")
    at_frames, frames = section(folder, "dwarf", ".eh_frame")
    gap = b"\0" * (at_frames - at_header - len(header))
    for name in ("_Z5outeri", "main"):
        offset = symbol(folder, "dwarf", name) + 2 - at_header
        head = struct.pack("<iH", offset, len(header) + len(gap))
        write(corpus / "eh_frame", name.strip("_"), head + header + gap + frames)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    corpus = Path(sys.argv[2] if len(sys.argv) == 3 else HERE / "corpus")
    subprocess.run([Path(sys.argv[1]) / "tests" / "fuzz" / "write_seeds", corpus], check=True)
    write_texts(corpus)
    write_profiles(corpus)
    write_programs(corpus)
    total = sum(path.stat().st_size for path in corpus.rglob("*") if path.is_file())
    print(f"{corpus}: {total} bytes", file=sys.stderr)


if __name__ == "__main__":
    os.umask(0o022)
    main()

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# From a fresh clone to a first profile: installs what building needs, builds into build/, profiles
# a program of this machine, prints where its memory went.
set -eu
cd "$(dirname "$0")/.."
root=$PWD

sh scripts/install_deps.sh build
[ -f build/build.ninja ] || meson setup build -Dtests=false
ninja -C build -j "$(nproc)"

work=$root/build/quickstart
rm -rf "$work"
mkdir -p "$work"
cat >"$work/work.py" <<'PY'
import json
records = [{"id": i, "name": "name-%06d" % i, "tags": ["tag%d" % (i % j) for j in range(1, 8)]}
           for i in range(60000)]
text = json.dumps(records)
index = {record["name"]: record for record in json.loads(text)}
print("made", len(index), "records from", len(text), "bytes of JSON")
PY

echo
echo "== profiling /usr/bin/python3 work.py"
cd "$work"
# Python's own small-object allocator would take its memory in large pieces.
PYTHONMALLOC=malloc "$root/build/dumper/mprof" run -- /usr/bin/python3 work.py

dump=$(find "$work" -name 'python3*.mprof' | head -n 1)
profile=$(find "$work" -name 'python3*.peak.pb.gz' | head -n 1)
allocs=$(find "$work" -name 'python3*.allocs.pb.gz' | head -n 1)
[ -s "$profile" ] || { echo "quickstart.sh: no profile in $work" >&2; exit 1; }
echo
echo "== the heap at its peak"
"$root/build/dumper/mprof" top --peak -n 15 "$dump"
echo
echo "peak profile:   $profile"
echo "allocs profile: $allocs"
echo "open them with: go tool pprof -http=: $profile"
echo
echo "Your own program: LD_PRELOAD=$root/build/preload/libmprof.so ./app"
echo "              or: $root/build/dumper/mprof run -- ./app"

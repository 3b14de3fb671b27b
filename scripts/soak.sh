#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Looks for harm for as long as it is told: soak.sh HOURS [--only PATTERN] [--list] [--jobs N]
# [--logs FOLDER]. Builds, then runs the tests of tests/harmless, the storms and the fuzzers over and
# over, and prints a table of cases, runs and failures (docs/reliability.md has the last one).
set -eu
cd "$(dirname "$0")/.."

sh scripts/install_deps.sh test >&2
build() { # folder, options...
  local folder=$1
  shift
  [ -f "$folder/build.ninja" ] || meson setup "$folder" "$@" >&2
  ninja -C "$folder" >&2
}
build build-test --buildtype=debugoptimized -Dtests=true
CC=clang CXX=clang++ build build-fuzz --buildtype=debugoptimized -Dfuzzers=true -Db_lundef=false \
  -Db_sanitize=address,undefined

python=python3
[ ! -x /usr/bin/python3 ] || python=/usr/bin/python3
exec "$python" -B tests/harmless/soak.py --build build-test --fuzz-build build-fuzz "$@"

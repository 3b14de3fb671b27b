#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Measures what mprof costs, beside its peers, and writes docs/benchmarks.md,
# docs/benchmarks-locks.md, docs/benchmarks-cpu.md and docs/benchmarks-trace.md.
#
#   scripts/bench.sh [--quick] [--only PATTERN] [--sets LIST] [--rounds N] [--out FILE]
#                    [--raw FILE] [--from FILE] [--lib PATH] [--build DIR] [--list]
#   scripts/bench.sh --sets locks  only what programs pay whose threads share locks
#   scripts/bench.sh --sets cpu    only what CPU samples and labels cost
#   scripts/bench.sh --sets trace,tracers,trace-files  only what an execution trace costs
#   scripts/bench.sh --smoke       runs every workload shortly, fails only if a run fails
#
# Builds a release build in build-bench/ (or uses --build DIR). Installs missing peers with apt-get
# when it may. `scripts/bench.sh --help` explains each option.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build-bench
ready_build=
library=
smoke=
measures=yes

previous=
for argument in "$@"; do
  case $previous in
    --lib) library=$argument ;;
    --build) ready_build=$argument ;;
  esac
  case $argument in
    --lib=*) library=${argument#--lib=} ;;
    --build=*) ready_build=${argument#--build=} ;;
    --smoke) smoke=yes ;;
    --list | --help | -h | --from | --from=*) measures= ;;
  esac
  previous=$argument
done

# The distribution's python3, not a version manager's wrapper.
python=python3
[ ! -x /usr/bin/python3 ] || python=/usr/bin/python3

missing_packages() {
  need_command() { command -v "$1" >/dev/null 2>&1 || echo "$2"; }
  need_library() { ls /usr/lib/*/"$1" >/dev/null 2>&1 || echo "$2"; }
  need_command g++ g++
  need_command python3 python3
  need_command meson meson
  need_command ninja ninja-build
  need_command sqlite3 sqlite3
  need_command redis-server redis-server
  need_command redis-benchmark redis-tools
  need_command git git
  [ -z "$smoke" ] || return 0
  need_command heaptrack heaptrack
  need_command zstd zstd  # without it heaptrack compresses with gzip, which is slower
  need_library libtcmalloc.so.4 "$(perftools_package)"
  need_library libjemalloc.so.2 libjemalloc2
  need_command lttng lttng-tools
  [ -f /usr/include/lttng/tracepoint.h ] || ls /usr/include/*/lttng/tracepoint.h >/dev/null 2>&1 ||
    echo liblttng-ust-dev
  need_command uftrace uftrace
  need_command perf linux-perf
}

# Ubuntu 24.04 has it under another name, from the change to 64-bit time.
perftools_package() {
  if apt-cache show libgoogle-perftools4t64 >/dev/null 2>&1; then
    echo libgoogle-perftools4t64
  else
    echo libgoogle-perftools4
  fi
}

install_missing() {
  packages=$(missing_packages | tr '\n' ' ')
  [ -n "$packages" ] || return 0
  as_root=
  if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo -n"
    if ! $as_root true 2>/dev/null; then
      echo "bench: not root and no sudo; not installed: $packages(shown as failed)" >&2
      return 0
    fi
  fi
  echo "bench: installing $packages" >&2
  $as_root apt-get update -qq >&2 || true
  # shellcheck disable=SC2086  # words on purpose
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    $packages >&2 || echo "bench: apt-get failed; what is missing is shown as failed" >&2
}

build_release() {
  if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" "$root" >&2
  fi
  if [ -n "$library" ]; then
    ninja -C "$build" bench-programs >&2
  else
    ninja -C "$build" bench-programs preload/libmprof.so dumper/mprof >&2
  fi
}

if [ -n "$measures" ]; then
  install_missing
  if [ -n "$ready_build" ]; then
    build=$(cd "$ready_build" && pwd)
  else
    build_release
  fi
  [ -n "$library" ] || set -- "$@" --lib "$build/preload/libmprof.so"
fi
exec "$python" -B "$root/tests/bench/run.py" "$@" --programs "$build/tests/bench"

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian and Ubuntu packages that are missing: install_deps.sh [build|test|bench]...
# `build` (always included) is what building needs, `test` and `bench` what these need on top.
# Needs root or sudo only when something is missing.
set -eu

build_packages='g++ meson ninja-build pkg-config binutils python3
  libdw-dev libelf-dev liblzma-dev libzstd-dev zlib1g-dev nlohmann-json3-dev libfmt-dev libiberty-dev
  libcli11-dev libprotozero-dev libcpp-httplib-dev'
# libunwind is what the unwinder is compared with; golang-go for `go tool pprof`; the programs that are profiled; the other allocators; setpriv and
# unshare, for processes with other rights and full disks; libFuzzer, which comes with clang; file systems of several kinds.
test_packages='catch2 libunwind-dev golang-go clang-format sqlite3 redis-server redis-tools git util-linux libjemalloc-dev
  libgoogle-perftools-dev libmimalloc-dev libc6-dev memcached libsqlite3-dev libtbb-dev clang libclang-rt-dev
  e2fsprogs mount xfsprogs strace dash bash zsh mksh mawk gawk bc patch rsync perl lua5.4 tcl tcl-thread make
  cmake xz-utils zstd pigz bzip2 zip unzip openssl openssh-client curl gdb valgrind libfaketime fakeroot
  heaptrack nginx imagemagick chromium postgresql nodejs default-jre-headless rhino vim'
# PostgreSQL's own regression queries are in no package, but in the source of one.
queries=/usr/local/share/mprof-tests/postgresql-regress
bench_packages='heaptrack'

wanted=$build_packages
missing_source=''
for set in "$@"; do
  case $set in
    build) ;;
    test) wanted="$wanted $test_packages"; [ -d "$queries" ] || missing_source=queries ;;
    bench) wanted="$wanted $bench_packages" ;;
    *) echo "install_deps.sh: unknown set '$set'; known: build, test, bench" >&2; exit 2 ;;
  esac
done

missing=''
for package in $wanted; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
    missing="$missing $package"
done
[ -n "$missing$missing_source" ] || exit 0

as_root=''
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "install_deps.sh: needs root or sudo to install:$missing $missing_source" >&2
    exit 1
  }
  as_root='sudo'
fi

echo "installing:$missing $missing_source"
# Services that come with a package are not wanted here: redis-server would start and take its port.
policy=/usr/sbin/policy-rc.d
made_policy=no
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
  $as_root chmod 755 "$policy"
  made_policy=yes
fi
cleanup() { [ "$made_policy" = no ] || $as_root rm -f "$policy"; }
trap cleanup EXIT
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
# Split into words on purpose: a list of packages.
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
[ -z "$missing_source" ] || $as_root sh "$(dirname "$0")/install_queries.sh" "$queries"

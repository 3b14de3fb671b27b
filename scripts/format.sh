#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Formats the C and C++ files with clang-format; with --check only names those that differ.
set -eu
cd "$(dirname "$0")/.."

check=''
case ${1:-} in
  '') ;;
  --check) check='--dry-run --Werror' ;;
  *) echo "usage: format.sh [--check]" >&2; exit 2 ;;
esac
# shellcheck disable=SC2086
find format preload dumper tests -type f \( -name '*.h' -o -name '*.cc' -o -name '*.c' \) -print0 |
  xargs -0 clang-format -i $check

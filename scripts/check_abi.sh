#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What libmprof.so brings into a process, from its ELF headers: check_abi.sh LIBRARY
set -eu
[ $# -eq 1 ] || { echo "usage: check_abi.sh LIBRARY" >&2; exit 2; }
library=$1
exports_map=$(dirname "$0")/../preload/exports.map
# Its code is loaded into every process of a machine that uses it.
size_budget_bytes=262144

failed=0
check() { # what, found, wanted
  if [ "$2" = "$3" ]; then
    echo "ok: $1"
  else
    printf 'not ok: %s\n  found:  %s\n  wanted: %s\n' "$1" "$2" "$3" >&2
    failed=1
  fi
}
dynamic=$(readelf -dW "$library")
symbols=$(nm -D "$library")
segments=$(readelf -lW "$library")
relocations=$(readelf -rW "$library" | grep R_X86_64_)

# Anything else would come into the process too, and stand before the program's own.
check 'needs libc only' \
  "$(echo "$dynamic" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | xargs)" 'libc.so.6'

# Names of the version script: what stands before a semicolon in its global part.
wanted=$(sed -e 's/#.*//' "$exports_map" | tr -d '\n' | sed -e 's|/\*[^*]*\*/||g' -e 's/.*global://' -e 's/local:.*//' |
  tr ';{}' '\n\n\n' | tr -d ' \t' | sed '/^$/d' | sort -u)
found=$(echo "$symbols" | awk 'NF == 3 && $2 ~ /[TDBRWViu]/ { sub(/@.*/, "", $3); print $3 }' | sort -u)
# A map may name functions by pattern.
unexpected=$(echo "$found" | while read -r name; do
  matched=no
  for pattern in $wanted; do
    # shellcheck disable=SC2254
    case $name in $pattern) matched=yes ;; esac
  done
  [ "$matched" = yes ] || echo "$name"
done)
check 'exports nothing but the map' "$unexpected" ''
absent=$(echo "$wanted" | grep -v '[*?]' | while read -r name; do
  echo "$found" | grep -qx -e "$name" || echo "$name"
done)
check 'exports all of the map' "$absent" ''

check 'uses nothing of libstdc++' \
  "$(echo "$symbols" | awk '$(NF - 1) == "U" && $NF ~ /^_Z|^__cxa_|^__gxx_/ && $NF !~ /^__cxa_(finalize|atexit|thread_atexit_impl)/ { print $NF }' | xargs)" ''
# Thread-local storage from the static block: the dynamic kind allocates, inside malloc.
check 'has no dynamic TLS' \
  "$(echo "$symbols" | awk '$NF ~ /__tls_get_addr/ { print $NF }' | xargs)" ''
check 'takes its TLS from the static block' \
  "$(echo "$dynamic" | grep -o STATIC_TLS | head -n 1)" 'STATIC_TLS'
check 'has no relocations in its code' "$(echo "$dynamic" | grep -c TEXTREL || true)" '0'
check 'has no executable stack' \
  "$(echo "$segments" | awk '$1 == "GNU_STACK" { print $7 }')" 'RW'
check 'has no memory that is writable and executable' \
  "$(echo "$segments" | awk '$1 == "LOAD" { print $7 $8 $9 }' | grep -c 'W.*E' || true)" '0'

# TPOFF64: a place in the static block. Others would ask the loader, or run code of ours inside it.
check 'has no relocations but these' \
  "$(echo "$relocations" | awk '{ print $3 }' | sort -u | xargs)" \
  'R_X86_64_GLOB_DAT R_X86_64_JUMP_SLOT R_X86_64_RELATIVE R_X86_64_TPOFF64'
# A call of an own function by its exported name would go to whoever comes first, or to a hook.
check 'reaches its own functions directly' \
  "$(echo "$relocations" | awk '{ sub(/@.*/, "", $5); print $5 }' | grep -xF "$found" | xargs)" ''
check 'is looked for nowhere by path' "$(echo "$dynamic" | grep -cE '\((RPATH|RUNPATH)\)' || true)" '0'
# Bound lazily, the first call of a function would go through the loader, in the middle of a hook.
check 'is bound when it is loaded' \
  "$(echo "$dynamic" | sed -n 's/.*(FLAGS_1) *Flags: //p' | xargs)" 'NOW NODELETE'
check 'cannot be written to where it is bound' \
  "$(readelf -SW "$library" | grep -c ' \.got\.plt ' || true) $(echo "$segments" | grep -c GNU_RELRO)" '0 1'
check 'has no functions that choose themselves at load' \
  "$(readelf -sW "$library" | grep -c ' IFUNC ' || true)" '0'
# frame_dummy and construct(): a variable with a constructor would be emptied after the first hooks.
check 'has no constructors but its own' "$(echo "$dynamic" | sed -n 's/.*(INIT_ARRAYSZ) *//p')" '16 (bytes)'
check 'has no destructors but its own' "$(echo "$dynamic" | sed -n 's/.*(FINI_ARRAYSZ) *//p')" '16 (bytes)'
check 'has no weak references but these' \
  "$(echo "$symbols" | awk '$1 == "w" { sub(/@.*/, "", $2); print $2 }' | xargs)" \
  '_ITM_deregisterTMCloneTable _ITM_registerTMCloneTable __cxa_finalize __gmon_start__ _dl_find_object'
check 'asks for no glibc after 2.35' \
  "$( (echo "$symbols" | grep -o 'GLIBC_[0-9.]*'; echo GLIBC_2.35) | sort -uV | tail -n 1)" 'GLIBC_2.35'

loaded=$(readelf -lW "$library" | awk '$1 == "LOAD" { print $5 }' | while read -r size; do echo $((size)); done |
  awk '{ sum += $1 } END { print sum }')
check "is loaded in at most $size_budget_bytes bytes ($loaded)" \
  "$([ "$loaded" -le "$size_budget_bytes" ] && echo yes)" 'yes'
echo "libmprof.so: $(stat -c %s "$library") bytes with debug information, $loaded loaded"
exit $failed

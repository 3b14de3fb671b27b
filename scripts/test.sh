#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests need, builds, runs every test. Ends with a line "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1

[ $# -eq 0 ] || { echo "usage: test.sh" >&2; exit 2; }

passed=0
failed=0
failures=()
jobs=$(nproc)

# One thing that passes or fails, with its output, and whether it passed.
step() { # name, command...
  local name=$1
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    failures+=("$name")
    return 1
  fi
}

# Builds in a folder of its own, with the given options.
build() { # folder, options...
  local folder=$1
  shift
  if [ -f "$folder/build.ninja" ]; then
    meson configure "$folder" "$@" && ninja -C "$folder" -j "$jobs"
  else
    meson setup "$folder" "$@" && ninja -C "$folder" -j "$jobs"
  fi
}

# Runs suites of a build; each test of them passes or fails.
run_suites() { # folder, suites...
  local folder=$1 suite all ok
  local log=$folder/meson-logs/testlog.json
  local arguments=()
  shift
  for suite in "$@"; do arguments+=(--suite "$suite"); done
  printf '\n== %s: %s\n' "$folder" "$*"
  rm -f "$log"
  meson test -C "$folder" --no-rebuild --print-errorlogs --num-processes "$jobs" "${arguments[@]}"
  # One line of JSON a test. No log: the tests could not run at all.
  all=$(grep -c '"result":' "$log") || all=1
  ok=$(grep -c '"result": "OK"' "$log") || ok=0
  passed=$((passed + ok))
  failed=$((failed + all - ok))
  [ "$all" = "$ok" ] || failures+=("$folder: $*")
}

# Each target reads its corpus and a fixed number of mutations of it, the same ones every time.
fuzz() { # folder
  local target name runs log ok=0
  declare -A fewer=([dump_reader]=150 [trace]=1000 [elf]=1500 [journal]=2000 [options]=2000 [http]=5000)
  for target in tests/fuzz/*_fuzz.cc; do
    name=$(basename "$target" _fuzz.cc)
    runs=${fewer[$name]:-20000}
    log=$1/$name.log
    rm -rf "$1/scratch" && mkdir "$1/scratch"  # what it finds is written to the first folder
    if UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$1/tests/fuzz/${name}_fuzz" -runs="$runs" \
      -seed=1 -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$1/$name-" \
      "$1/scratch" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
      printf '%s: %s inputs\n' "$name" "$(sed -n 's/^stat::number_of_executed_units: //p' "$log")"
    else
      tail -40 "$log"
      printf '%s: FAILED; the input is in %s\n' "$name" "$1/$name-*"
      ok=1
    fi
  done
  return "$ok"
}

finish() {
  printf '\n'
  [ "$failed" = 0 ] || printf 'failed: %s\n' "${failures[@]}"
  printf '%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" = 0 ]
  exit
}

step 'packages' sh scripts/install_deps.sh test || finish

step 'layers' python3 scripts/check_layers.py
# Versions of clang-format differ in small things: the one of Debian 12 is the measure.
if clang-format --version | grep -q 'version 14\.'; then
  step 'format' sh scripts/format.sh --check
fi

plain=(--buildtype=debugoptimized -Dtests=true)
sanitized=(--buildtype=debug -Doptimization=1 -Dtests=true -Db_lundef=false)
step 'build' build build-test "${plain[@]}" || finish
run_suites build-test unit abi stress fuzz
run_suites build-test e2e harmless

step 'build with ASan and UBSan' \
  build build-asan "${sanitized[@]}" -Db_sanitize=address,undefined &&
  run_suites build-asan unit stress fuzz
step 'build with TSan' build build-tsan "${sanitized[@]}" -Db_sanitize=thread &&
  run_suites build-tsan unit stress

fuzzing=(--buildtype=debugoptimized -Dfuzzers=true -Db_lundef=false -Db_sanitize=address,undefined)
CC=clang CXX=clang++ step 'build with libFuzzer' build build-fuzz "${fuzzing[@]}" &&
  step 'fuzz' fuzz build-fuzz

step 'bench smoke' sh scripts/bench.sh --smoke --build build-test
finish

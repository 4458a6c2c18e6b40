#!/bin/sh
# Builds the fuzzers with clang's sanitizers and runs each over its kept corpus:
#     sh tests/fuzz/run.sh [SECONDS [NAME...]]
# SECONDS is for each fuzzer (default 20). The build goes to $BUILD/fuzz (default build/fuzz), and so
# do the inputs found on the way and a crashing one. Ends with status 1 when one crashed.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-20}
[ $# -gt 0 ] && shift
names=${*:-safetensors idx cifar csv image}
out=${BUILD:-build}/fuzz
CC=${FUZZ_CC:-clang-14}
command -v "$CC" >/dev/null || { echo "tests/fuzz/run.sh: needs $CC" >&2; exit 1; }
mkdir -p "$out"

flags="-std=gnu11 -g -O1 -D_GNU_SOURCE -Iengine -Iengine/include
  -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
packages="$(pkg-config --cflags jansson zlib) $(pkg-config --cflags-only-I stb)"
objects=
for file in engine/core/*.c engine/io/*.c third_party/stb.c; do
  case $file in
  # They tell of the kernels and begin their regions; no kernel is here.
  engine/core/info.c | engine/core/region.c) continue ;;
  third_party/*) quiet='-w -fno-sanitize=signed-integer-overflow,shift' ;; # not ours to mend
  *) quiet=-Wall ;;
  esac
  object=$out/$(echo "$file" | tr / _).o
  objects="$objects $object"
  # shellcheck disable=SC2086
  if [ ! "$object" -nt "$file" ] || [ -n "$(find engine/core engine/io engine/include third_party \
    tests/fuzz/run.sh -newer "$object" \( -name '*.h' -o -name run.sh \))" ]; then
    "$CC" $flags $packages $quiet -fsanitize=fuzzer-no-link -c "$file" -o "$object"
  fi
done

status=0
for name in $names; do
  # shellcheck disable=SC2086
  "$CC" $flags $packages -Wall -fsanitize=fuzzer "tests/fuzz/$name.c" $objects -o "$out/$name" \
    $(pkg-config --libs jansson zlib) -lm -lpthread
  mkdir -p "$out/found/$name"
  echo "fuzz $name: $seconds s"
  if "$out/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -verbosity=0 \
    -print_final_stats=1 -artifact_prefix="$out/$name-" "$out/found/$name" \
    "tests/fuzz/corpus/$name" >"$out/$name.log" 2>&1; then
    grep -E 'number_of_executed_units|new_units_added' "$out/$name.log" || true
  else
    tail -n 60 "$out/$name.log"
    status=1
  fi
done
exit $status

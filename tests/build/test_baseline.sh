#!/bin/sh
# No register wider than 128 bits outside the objects of the instruction-set levels, and the program
# runs on a processor of 2008.   sh tests/build/test_baseline.sh BUILD
set -eu
build=$1
if [ "$(uname -m)" != x86_64 ]; then
    echo "skipped: not x86-64"
    exit 77
fi
if grep -q '^VESTIGE_SANITIZE:BOOL=ON' "$build/CMakeCache.txt"; then
    echo "skipped: sanitizers are on, the objects are not those that ship"
    exit 77
fi
wide=0
for object in $(find "$build/engine/CMakeFiles/vestige_objects.dir" -name '*.o'); do
    if objdump -d --no-show-raw-insn "$object" | grep -qE '%[yz]mm'; then
        echo "wide registers in $object"
        wide=1
    fi
done
[ $wide = 0 ]
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE || true
qemu-x86_64 -cpu Nehalem "$build/vestige" -e '
  local vestige = require "vestige"
  local x = vestige.randn({ 64, 64 }, { requires_grad = true })
  local g = vestige.grad((x:matmul(x) * x):relu():sum(), x)
  assert(g:shape()[1] == 64)
  assert(vestige.info()["cpu level"] == "v2")'
echo "the program runs on Nehalem"

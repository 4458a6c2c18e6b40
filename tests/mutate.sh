#!/bin/sh
# Flips a sign in ten gradient rules, one at a time, and shows that the tests of that row fail.
# sh tests/mutate.sh; not part of CI: it builds the engine eleven times. Works on a copy of the
# tree in a temporary folder, which is removed at the end.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
(cd "$root" && git ls-files -z | xargs -0 tar cf - --ignore-failed-read) | tar xf - -C "$work"
cd "$work"

build() {
    make -s -C build vestige_engine cdef >build.log 2>&1 || {
        tail -20 build.log
        exit 1
    }
}

gradients() { # of one operator: gradcheck and gradgradcheck of all its cases
    LUA_PATH="bindings/lua/?.lua;bindings/lua/?/init.lua;lua/?.lua;lua/?/init.lua;build/lua/?.lua;?.lua;;" \
        luajit tests/ops/registry.lua grad "op=$1" >test.log 2>&1
}

echo "building the engine"
cmake -S . -B build -DCMAKE_BUILD_TYPE=Release >build.log 2>&1 || {
    cat build.log
    exit 1
}
build

missed=0
# operator, file, the text that stands there once, what it becomes
mutate() {
    file=engine/ops/$2
    count=$(grep -cF -- "$3" "$file" || true)
    if [ "$count" != 1 ]; then
        echo "$1: '$3' stands $count times in $file: this script is out of date"
        missed=$((missed + 1))
        return
    fi
    if ! gradients "$1"; then
        echo "$1: fails before anything was changed"
        missed=$((missed + 1))
        return
    fi
    cp "$file" kept.c
    from=$3 to=$4 perl -pi -e 's/\Q$ENV{from}\E/$ENV{to}/' "$file"
    build
    if gradients "$1"; then
        echo "$1: NOT NOTICED: $3 -> $4"
        missed=$((missed + 1))
    else
        echo "$1: noticed ($(grep -cE '^[0-9]+\)' test.log) tests fail): $3 -> $4"
    fi
    cp kept.c "$file"
    build
}

mutate div arith.c 'give(g, 1, R(neg, R(mul, da, R(div, in(g, 0), in(g, 1)))))' \
    'give(g, 1, R(mul, da, R(div, in(g, 0), in(g, 1))))'
mutate tanh activation.c 'R(sub, num(1), R(square, out(g, 0)))' \
    'R(add, num(1), R(square, out(g, 0)))'
mutate logsigmoid activation.c 'R(mul, gout(g, 0), R(sigmoid, R(neg, in(g, 0))))' \
    'R(mul, gout(g, 0), R(sigmoid, in(g, 0)))'
mutate cos unary.c 'R(neg, R(mul, gout(g, 0), R(sin, in(g, 0))))' \
    'R(mul, gout(g, 0), R(sin, in(g, 0)))'
mutate mse_loss criterion.c 'give(g, 1, R(neg, d))' 'give(g, 1, d)'
mutate var reduce.c 'R(sub, x, R(div, sum_kept(g, x), num(n)))' \
    'R(add, x, R(div, sum_kept(g, x), num(n)))'
mutate logsumexp reduce.c 'R(exp, R(sub, in(g, 0), safe))' 'R(exp, R(add, in(g, 0), safe))'
mutate softmax softmax.c 'give(g, 1, R(sub, R(mul, a, centred)' 'give(g, 1, R(add, R(mul, a, centred)'
mutate linalg_solve linalg.c 'R(neg, left ? RO(matmul' 'R(abs, left ? RO(matmul'
mutate batch_norm_statistics norm.c 'R(mul, r, r), gout(g, 1)), num(-1 / n))' \
    'R(mul, r, r), gout(g, 1)), num(1 / n))'

[ "$missed" = 0 ] || {
    echo "$missed of 10 were not noticed"
    exit 1
}
echo "all ten were noticed"

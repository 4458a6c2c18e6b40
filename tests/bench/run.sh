#!/bin/sh
# The bench: sh tests/bench/run.sh [JOB...] [--check FILE] [--out DIR] [--only TEXT] [--quick]
# [--no-compile] [--default-malloc]. Jobs: gemm conv resnet gpt2 small; all of them within 75
# minutes, one within 15. Vestige, PyTorch's variants and the machine's peak run in turn; a table is
# printed, bench.json and a chart are written to DIR (out/bench). --check lists what got slower than
# in a saved bench.json.
# PYTHON names a Python that has torch and numpy; else they are installed from PyPI into
# ${XDG_CACHE_HOME:-$HOME/.cache}/vestige-bench/venv (PIP_INDEX_URL names another index).
# OMP_NUM_THREADS: threads of both sides, all of the machine's unless said.
set -eu
cd "$(dirname "$0")/../.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vestige-bench
mkdir -p "$cache"
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$cache/venv/bin/python
    "$PYTHON" -c 'import numpy, torch' 2>/dev/null || {
        sh third_party/install.sh build bench
        python3 -m venv "$cache/venv"
        "$cache/venv/bin/pip" install --quiet numpy torch
    }
fi
cmake -S . -B build >/dev/null
cmake --build build -j "$(nproc)" >/dev/null
"${CC:-cc}" -std=gnu11 -O3 -fopenmp tests/bench/peak.c -o "$cache/peak"
exec "$PYTHON" tests/bench/bench.py --peak "$cache/peak" --cache "$cache" "$@"

#!/bin/sh
# Makes the golden data again. Needs a built tree and a Python with torch, numpy, scipy, safetensors,
# transformers:
# PYTHON=path/to/python sh tests/golden/make.sh
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
cases=$(mktemp)
trap 'rm -f "$cases"' EXIT
LUA_PATH="./?.lua;;" build/vestige tests/golden/dump_cases.lua "$cases"
"$python" tests/golden/make_ops.py "$cases" tests/golden/ops.safetensors
"$python" tests/golden/make_models.py tests/golden/models.safetensors
"$python" tests/golden/make_gpt2.py tests/golden/gpt2.safetensors
"$python" tests/golden/make_unlearn.py tests/golden/unlearn.safetensors
"$python" tests/golden/make_attacks.py tests/golden/attacks.safetensors
"$python" tests/golden/make_stats.py
"$python" tests/golden/make_metrics.py

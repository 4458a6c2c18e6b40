#!/bin/sh
# One step of full-size networks against PyTorch's, which the golden data leaves out for its size, for
# three seeds: PYTHON=... sh tests/golden/compare.sh [resnet18|gpt2-124m|gpt2-355m]
# Needs a built tree and a Python with torch, numpy, safetensors, for GPT-2 transformers; GPT-2's files
# are 1.5 and 4.3 GB in $TMPDIR.
set -eu
cd "$(dirname "$0")/../.."
net=${1:-resnet18}
file=$(mktemp)
trap 'rm -f "$file"' EXIT
for seed in 1 2 3; do
    "${PYTHON:-python3}" tests/golden/compare.py "$net" "$seed" "$file"
    build/vestige tests/golden/compare.lua "$net" "$file"
done

#!/bin/sh
# One step of ResNet-18 at full width against PyTorch's, which the golden data leaves out for its
# size, for three seeds: PYTHON=... sh tests/golden/compare.sh [WIDTH [BATCH]]
# Needs a built tree and a Python with torch, numpy, safetensors.
set -eu
cd "$(dirname "$0")/../.."
width=${1:-64}
file=$(mktemp)
trap 'rm -f "$file"' EXIT
for seed in 1 2 3; do
    "${PYTHON:-python3}" tests/golden/compare.py "$width" "${2:-32}" "$seed" "$file"
    build/vestige tests/golden/compare.lua "$width" "$file"
done

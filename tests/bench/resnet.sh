#!/bin/sh
# A train step of ResNet-18 against PyTorch's, in turn: PYTHON=... sh tests/bench/resnet.sh [WIDTH]
# Needs a built tree and a Python with torch and numpy. Both use two threads and OPENBLAS_* is unset.
# PyTorch runs with its default malloc and with malloc kept, which returns no memory to the system.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
width=${1:-64}
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE || true
export OMP_NUM_THREADS=2
for round in 1 2; do
    ours=$(build/vestige tests/bench/resnet.lua "$width" 5)
    nchw=$("$python" tests/bench/resnet.py "$width" 5 contiguous)
    nhwc=$("$python" tests/bench/resnet.py "$width" 5 channels_last)
    kept=$(GLIBC_TUNABLES=glibc.malloc.trim_threshold=4294967296:glibc.malloc.mmap_threshold=4294967296 \
        "$python" tests/bench/resnet.py "$width" 5 channels_last)
    echo "round $round: vestige $ours s, pytorch contiguous $nchw s, channels_last $nhwc s," \
        "channels_last with malloc kept $kept s"
done

#!/bin/sh
# Do poisons carry over between Vestige and PyTorch? Gradient matching on real images, 20 targets:
# poisons made here against victims trained there, and the other way round.
#   PYTHON=... sh tests/golden/transfer.sh --data FOLDER [OPTION...]
# Needs a built tree and a Python with torch and safetensors. FILES names the folder that both sides
# share (out/transfer); what is there is not made again. JOBS: PyTorch's processes (1).
set -eu
cd "$(dirname "$0")/../.."
files=${FILES:-out/transfer}
build/vestige tests/golden/transfer.lua --step brew --files "$files" "$@"
"${PYTHON:-python3}" tests/golden/transfer.py "$files" "${JOBS:-1}"
build/vestige tests/golden/transfer.lua --step score --files "$files" "$@"

#!/bin/sh
# Installs what is missing, builds Vestige, and runs the first experiment on real images.
# sh experiments/quickstart.sh [OPTION...]   options go to experiments/gaussian.lua; --help lists them
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
sh third_party/install.sh build data
cmake -S . -B build -DCMAKE_BUILD_TYPE=Release >quickstart.log 2>&1 || {
    cat quickstart.log
    exit 1
}
echo "building (quickstart.log has the details)"
cmake --build build --target vestige cdef -j "$(nproc)" >>quickstart.log 2>&1 || {
    tail -40 quickstart.log
    exit 1
}
exec build/vestige experiments/gaussian.lua "$@"

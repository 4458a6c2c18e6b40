#!/bin/sh
# Installs what is missing, builds, and runs every test. sh tests/run.sh [CTEST OPTION...]
# VESTIGE_DATA names a folder with CIFAR-10 and its like, for the tests on real images.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
sh third_party/install.sh build data test
cmake -S . -B build -DCMAKE_BUILD_TYPE=Release -DVESTIGE_WERROR=ON >build.log 2>&1 || {
    cat build.log
    exit 1
}
cmake --build build -j "$(nproc)" >>build.log 2>&1 || {
    tail -40 build.log
    exit 1
}
rm -f build.log
exec ctest --test-dir build --output-on-failure -j "$(nproc)" "$@"

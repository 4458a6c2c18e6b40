#!/bin/sh
# Small jobs and start-up beside PyTorch's, in turn: PYTHON=... sh tests/bench/small.sh
# Needs a built tree and a Python with torch and numpy. Prints microseconds, the least of each side
# over three rounds, and PyTorch's time over ours.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE || true
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Microseconds of starting a command, the least of ten.
start_up() {
    "$python" - "$@" <<'EOF'
import subprocess, sys, time
best = 1e9
for _ in range(10):
    begin = time.perf_counter()
    subprocess.run(sys.argv[1:], check=True)
    best = min(best, time.perf_counter() - begin)
print(f"{best * 1e6:.1f}")
EOF
}
for round in 1 2 3; do
    build/vestige tests/bench/small.lua | sed 's/^/vestige /' >>"$log"
    "$python" tests/bench/small.py | sed 's/^/pytorch /' >>"$log"
    echo "vestige start-up $(start_up build/vestige -e '')" >>"$log"
    echo "vestige start-up with a tensor $(start_up build/vestige -e 'vestige.zeros(1)')" >>"$log"
    torch=$(start_up "$python" -c 'import torch')
    echo "pytorch start-up $torch" >>"$log"
    echo "pytorch start-up with a tensor $torch" >>"$log"
done
awk '{ side = $1; t = $NF; $1 = $NF = ""; name = $0
       if (!((side, name) in best) || t < best[side, name]) best[side, name] = t
       if (!(name in seen)) { seen[name] = 1; order[++n] = name } }
     END { printf "%-32s %12s %12s %8s\n", "", "vestige us", "pytorch us", "ratio"
           for (i = 1; i <= n; i++) {
               ours = best["vestige", order[i]]; theirs = best["pytorch", order[i]]
               printf "%-32s %12.3f %12.3f %8.1f\n", order[i], ours, theirs, theirs / ours } }' "$log"

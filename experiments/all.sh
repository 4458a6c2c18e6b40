#!/bin/sh
# Every experiment, on one cache: sh experiments/all.sh DATA [OPTION...]
# DATA: a folder that --data takes, such as CIFAR-10's. Options go to every script, so they are what
# all have: --scale paper, --seeds 3, --jobs 2, --runs DIR, --quiet. Without --seeds there are six, at
# --scale paper the paper's. What was run before is read, so it can be stopped and started.
set -eu
cd "$(dirname "$0")/.."
if [ $# -eq 0 ] || [ "$1" = --help ] || [ "$1" = -h ]; then
    sed -n '2,5s/^# //p' "$0"
    exit
fi
program=${VESTIGE:-build/vestige}
data=$1
shift
case " $* " in
*" --seeds"*|*" --scale paper "*|*" --scale=paper "*) ;;
*) set -- --seeds 6 "$@" ;;
esac
# First, because it has the fewest options: one that some script lacks is told at once.
echo "== experiments/figure5.lua"
"$program" experiments/figure5.lua "$@"
for name in figure2a figure6 mia_vs_gus figure8 figure9 pareto figure3 table2 gus_vs_attacks \
    figure4 protocol; do
    echo "== experiments/$name.lua"
    "$program" "experiments/$name.lua" --data "$data" "$@"
done

#!/usr/bin/env bash
# Figures 5(b) and 6 of the paper, from training to pictures: a depth-6 RHN of 900,000 parameters on the chorales, the weights with the
# least training loss kept. Killed at any moment, the same command goes on. The 1000 epochs take hours on a CPU; scale it down with options
# of `rhn train`.
#
#   bash examples/depth6.sh runs/depth6 results [--hidden-size 128 --epochs 100 ...]
set -eu
run=$1 results=$2
shift 2
python=${PYTHON:-.venv/bin/python}
mkdir -p "$results"
"$python" -m rhn train jsb-depth-6 --objective train --out "$run" "$@"
"$python" -m analysis gates "$run/best.safetensors" --output "$results/depth6-gates.png" --csv "$results/depth6-gates.csv"
for mode in bias carry blind; do
    "$python" -m analysis lesion "$run/best.safetensors" --mode "$mode" --pairs \
        --output "$results/depth6-lesion-$mode.png" --csv "$results/depth6-lesion-$mode.csv"
done

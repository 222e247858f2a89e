#!/usr/bin/env bash
# How long a window bounds a gradient that vanishes, as docs/results/2026-11-20-norm-bounds.md tells: networks of 48 units, before and
# after 100 epochs on chorales, along one chorale. Two minutes of one idle core.
#   bash benchmarks/norm_bounds.sh OUT [RESULTS]
# OUT      folder of the trainings
# RESULTS  existing folder of the note's table and figure (default: docs/results)
set -eu
out=$1 results=${2:-docs/results}
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=1
for run in rnn:1 gru:1 lstm:1 rhn:1 rhn:5; do
    cell=${run%:*} depth=${run#*:}
    [ -e "$out/$cell-$depth/best.safetensors" ] ||
        nice "$python" -m rhn train "jsb-depth-$depth" --cell "$cell" --hidden-size 48 --epochs 100 --out "$out/$cell-$depth"
done
nice "$python" -m benchmarks.norm_bounds "$out" --out "$results"

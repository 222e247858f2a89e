#!/usr/bin/env bash
# All cells of the registry at equal parameters, as docs/results/2026-11-20-cells.md tells: 60 random settings of each in the small preset of
# the study, at recurrence depth 1; then the best setting of each from five seeds, its spectra, the tables and the figure.
#   bash benchmarks/cells.sh OUT JOBS [RESULTS] [FINISHED]
# OUT       folder of the studies and the measured networks. Run again to go on where it stopped.
# RESULTS   existing folder of the tables and the figure (default: docs/results)
# FINISHED  folder of optim-study run --arch all --preset small, whose RHN, DT-RNN and DT(S)-RNN are then not trained again
set -eu
out=$1 jobs=$2 results=${3:-docs/results} finished=${4:-}
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=1
cells=$("$python" -c 'from rhn.cells import CELLS; print(*CELLS)')
[ -z "$finished" ] || cells=$(printf '%s\n' $cells | grep -vxE 'rhn|dt-rnn|dts-rnn')
nice "$python" -m optim_study run --arch $cells --preset small --depth 1 --jobs "$jobs" --out "$out"
nice "$python" -m benchmarks.cells --studies "$out" ${finished:+"$finished"} --networks "$out/networks" --out "$results"

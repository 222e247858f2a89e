#!/usr/bin/env bash
# Section 4 of Zilly et al. (2017) tested on trained networks: what moves the spectrum of one step, in an RNN, IRNN, RHN, GRU and LSTM of
# equal size, compared where they predict the chorales equally well. Five seeds each. Run again to go on where it stopped.
#   bash benchmarks/section4.sh OUT RESULTS
# OUT gets a record (.npz, for gersgorin recording) and a file of numbers a training, RESULTS the table and the figure.
set -eu
export OMP_NUM_THREADS=1
nice "${PYTHON:-.venv/bin/python}" -m benchmarks.section4 "$1" "$2"

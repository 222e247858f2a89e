#!/usr/bin/env bash
# Networks to judge `gersgorin-check` by, none of which it was fitted on: other cells, other initialisations, other gates than those of the
# small study (whose networks are RHNs, DT-RNNs and DT(S)-RNNs with Gaussian weights and transform biases of 0 to -3). 240 trainings of 200
# epochs at the small study's sizes and from another seed. Run again to go on where it stopped.
#   bash benchmarks/calibration.sh OUT [JOBS]
#   gated        LSTM, GRU and IRNN, all four initialisations                    3 x 24   (as many parameters as depth 4 has)
#   transitions  DT-RNN and DT(S)-RNN, depth 2, 4, 6, no Gaussian one            6 x 18
#   open-gates   RHN, depth 2, 4, 6, transform gates that start open             3 x 20
# Learning rates from 0.003: below it, nothing learns within 200 epochs, and nobody needs a prediction.
# Patience is as long as the training, so that no curve ends before its time.
set -eu
out=$1 jobs=${2:-2}
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=1
study() { # NAME [OPTIONS]
    nice "$python" -m optim_study run --preset small --epochs 200 --patience 200 --learning-rate 0.003 1 --seed 1 --jobs "$jobs" \
        --out "$out/$1" "${@:2}"
}
study gated --arch lstm gru irnn --depth 1 --budget-scale 0.06 --trials 24 --init-schemes gaussian scaled orthogonal identity
study transitions --arch dt-rnn dts-rnn --depth 2 4 6 --trials 18 --init-schemes scaled orthogonal identity
study open-gates --arch rhn --depth 2 4 6 --trials 20 --transform-bias 0 2 4 6 8

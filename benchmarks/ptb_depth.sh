#!/usr/bin/env bash
# Figure 5(a) of Zilly et al. (2017) in small: recurrence depth 1 to 5 at equal parameters on Penn Treebank, and an LSTM of that size.
# Units and vocabulary are a fifth of the paper's, so parameters a twenty-fifth: 1.28 million. Run again to go on where it stopped.
#   bash benchmarks/ptb_depth.sh PTB_FOLDER RUNS RESULTS [JOBS [OPTIONS OF rhn train]]
set -eu
data=$1 runs=$2 results=$3 jobs=${4:-2} more=("${@:5}")
export OMP_NUM_THREADS=1
rhn() { "${PYTHON:-.venv/bin/python}" -m rhn "$@"; }
training() { # NAME PRESET UNITS [OPTIONS]
    rhn train "$2" --hidden-size "$3" "${@:4}" --vocabulary-size 2000 --epochs 10 --lr-decay 1.5 --decay-after 5 \
        --init uniform:0.08 --drop-embedding 0.05 --drop-input 0.2 --drop-hidden 0.05 --drop-output 0.2 "${more[@]}" --data "$data" --out "$runs/$1"
}
mkdir -p "$runs"
units=(255 236 222 210 200)
for depth in 5 4 3 2 1; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    training "rhn-$depth" "ptb-depth-$depth" "${units[depth - 1]}" &
done
while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
training lstm ptb-depth-1 221 --cell lstm &
wait
for run in rhn-1 rhn-2 rhn-3 rhn-4 rhn-5 lstm; do
    echo "$run $(rhn evaluate "$runs/$run/best.safetensors" --data "$data" --split test --json)"
done | tee "$results/ptb-depth-test.txt"
rhn report --depth "$runs"/rhn-? "$runs/lstm" --force --output "$results/ptb-depth.png" "$results/ptb-depth.csv"
rhn report "$runs"/rhn-? "$runs/lstm" --output "$results/ptb-depth-curves.png"

#!/usr/bin/env bash
# Figure 5(a) of Zilly et al. (2017) in small: recurrence depth at equal parameters on Penn Treebank, and an LSTM of that size.
# Units and vocabulary are a fifth of the paper's, so parameters a twenty-fifth: 1.28 million. Run again to go on where it stopped.
#   bash benchmarks/ptb_depth.sh PTB_FOLDER RUNS RESULTS [JOBS [OPTIONS OF rhn train]]
# DEPTHS="5 3 1": other depths than 8 and 5 to 1. LSTM=0: without it. WHOLE=1: 5.0 million parameters, tied weights, and all 10,000 words.
# Several seeds as one program: --seeds N; on a GPU: --device cuda.
set -eu
data=$1 runs=$2 results=$3 jobs=${4:-2} more=("${@:5}")
export OMP_NUM_THREADS=1
rhn() { "${PYTHON:-.venv/bin/python}" -m rhn "$@"; }
if [ -n "${WHOLE:-}" ]; then
    units=([1]=426 [2]=401 [3]=382 [4]=365 [5]=350 [8]=317) lstm=382 size=(--tied)
else
    units=([1]=255 [2]=236 [3]=222 [4]=210 [5]=200 [8]=178) lstm=221 size=(--vocabulary-size 2000)
fi
training() { # NAME PRESET UNITS [OPTIONS]
    rhn train "$2" --hidden-size "$3" "${@:4}" "${size[@]}" --epochs 10 --lr-decay 1.5 --decay-after 5 \
        --init uniform:0.08 --drop-embedding 0.05 --drop-input 0.2 --drop-hidden 0.05 --drop-output 0.2 "${more[@]}" --data "$data" --out "$runs/$1"
}
turn() { while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done; }
mkdir -p "$runs" "$results"
names=()
for depth in ${DEPTHS:-8 5 4 3 2 1}; do
    turn
    training "rhn-$depth" "ptb-depth-$depth" "${units[depth]}" &
    names+=("rhn-$depth")
done
if [ "${LSTM:-1}" != 0 ]; then
    turn
    training lstm ptb-depth-1 "$lstm" --cell lstm &
    names+=(lstm)
fi
wait
evaluated() { echo "$(dirname "$1") $(rhn evaluate "$runs/$1" --data "$data" --split test --device cpu --json 2>/dev/null)"; }
(cd "$runs" && find "${names[@]}" -name best.safetensors | sort) | while read -r best; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    evaluated "$best" &
done | sort | tee "$results/ptb-depth-test.txt"
rhn report --depth "${names[@]/#/$runs/}" --force --output "$results/ptb-depth.png" "$results/ptb-depth.csv"
rhn report "${names[@]/#/$runs/}" --force --output "$results/ptb-depth-curves.png"

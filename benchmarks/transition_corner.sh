#!/usr/bin/env bash
# Where small deep transitions do train: DT-RNNs of depth 4 and 6 with the sizes of the small study (29 and 34 units), at the upper end of
# the study's initial standard deviations (1e-2) and above it, three seeds each. Run again to go on where it stopped.
#   bash benchmarks/transition_corner.sh RUNS TABLE.csv [JOBS]
# A row a training: its best loss within 100, 200 and all epochs, and the first epoch below 11 nats a frame, 0.16 below what a constant
# output reaches.
set -eu
runs=$1 table=$2 jobs=${3:-1}
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=1
training() { # DEPTH UNITS INIT_STD LEARNING_RATE EPOCHS SEED
    nice "$python" -m rhn train "jsb-depth-$1" --cell dt-rnn --hidden-size "$2" --init-std "$3" --learning-rate "$4" --epochs "$5" \
        --patience "$5" --objective train --seed "$6" --device cpu --out "$runs/depth$1-std$3-rate$4-seed$6" >"$runs/log-$1-$3-$4-$6.txt"
    echo "done: depth $1, standard deviation $3, learning rate $4, seed $6"
}
mkdir -p "$runs"
for seed in 0 1 2; do
    while read -r -a setting; do
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
        training "${setting[@]}" "$seed" &
    done <<'SETTINGS'
4 29 0.001 0.15 600
4 29 0.005 0.15 300
4 29 0.01 0.15 300
4 29 0.05 0.15 200
4 29 0.25 0.03 200
6 34 0.01 0.15 300
6 34 0.05 0.15 200
6 34 0.19 0.03 200
6 34 0.25 0.03 200
SETTINGS
done
wait
"$python" - "$runs" <<'PY' | tee "$table"
import json, math, pathlib, sys

SETTING = ("depth", "hidden_size", "init_std", "learning_rate", "seed")
print(*SETTING, "epochs,diverged,best_train_nll_100,best_train_nll_200,best_train_nll,first_epoch_below_11", sep=",")
rows = []
for folder in pathlib.Path(sys.argv[1]).glob("depth*"):
    config = json.loads((folder / "config.json").read_text())
    read = [json.loads(line)["train_nll"] for line in (folder / "metrics.jsonl").open()]
    losses = [math.inf if loss is None else loss for loss in read]  # null: no longer finite
    left = next((epoch for epoch, loss in enumerate(losses) if loss < 11), "")
    best = min(losses[:101]), min(losses[:201]), min(losses)
    rows.append([*(config[name] for name in SETTING), len(losses) - 1, math.isinf(losses[-1]), *best, left])
for row in sorted(rows, key=lambda row: row[:5]):
    print(*row, sep=",")
PY

#!/usr/bin/env bash
# Figure 4 under other optimizers: the small study, once for each optimizer, in rounds of ten trials a network.
#   bash benchmarks/optimizers_figure4.sh OUT                      # about 80 minutes of one CPU core
#   TRIALS="10 20" bash benchmarks/optimizers_figure4.sh OUT       # a third of it; run again with more to go on
# Stop it at any time (Ctrl-C saves the running trials); the same command goes on. OUT/trials.csv holds all complete trials.
set -eu
out=$1
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
mkdir -p "$out"
"$python" - <<'PY' | tee "$out/environment.txt"
import os, platform, torch
print("python", platform.python_version(), "torch", torch.__version__, "numpy", __import__("numpy").__version__)
print("machine", platform.machine(), "with", os.cpu_count(), "CPU cores")
PY
for trials in ${TRIALS:-10 20 30 40 50 60}; do
    for optimizer in adam sgd rmsprop adamw; do
        "$python" -m optim_study run --preset small --arch all --optimizer "$optimizer" --trials "$trials" --fuse 10 --jobs 1 \
            --device cpu --out "$out/$optimizer"
    done
done

#!/usr/bin/env bash
# Figure 4 with a fair start: every way of starting the weights competes, in a box of standard deviations that reaches 1.
#   bash benchmarks/fair_figure4.sh OUT                           # about two hours of two CPU cores
#   TRIALS="20 40" bash benchmarks/fair_figure4.sh OUT            # half of it; run again with more to go on
# Small networks (1.5 % of the paper's parameters), depths 4 and 6, the three architectures. 400 epochs and as much patience: patience
# shorter than the budget would itself decide which networks may leave the plateau. The trials come in rounds, so that every network has
# equally many whenever it is stopped; run again with the same OUT to go on.
set -eu
out=$1
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
mkdir -p "$out"
"$python" - <<'PY' | tee "$out/environment.txt"
import os, platform, torch
print("python", platform.python_version(), "torch", torch.__version__, "numpy", __import__("numpy").__version__)
print("machine", platform.machine(), "with", os.cpu_count(), "CPU cores")
PY
for trials in ${TRIALS:-20 40 60 80}; do
    "$python" -m optim_study run --preset small --arch all --depth 4 6 --epochs 400 --patience 400 --std-max 1 \
        --init-schemes gaussian scaled orthogonal identity --trials "$trials" --fuse 10 --jobs 2 --device cpu --out "$out"
done
"$python" -m benchmarks.fair_figure4 "$out/trials.csv" | tee "$out/pooled.txt"
for kind in swarm map; do
    "$python" -m optim_study plot --out "$out" --kind "$kind" --output "$out/$kind.png"
done
"$python" -m optim_study plot --out "$out" --kind area --border "$out/border.csv" --output "$out/area.png" | tee "$out/area.txt"

#!/usr/bin/env bash
# What needs a GPU, in the order of its worth, within so many minutes: the tests marked `gpu`, then timings of kernels and training steps, then,
# with Penn Treebank, epochs of ptb-sota at full size. Every result is written as it comes; the same command goes on with what is missing.
#
#   bash benchmarks/gpu.sh MINUTES OUT [PTB_FOLDER]
#
# It runs from the source tree with any Python that has torch (PYTHON=...). Wheels of what that Python lacks,
# commonly cyclopts, rich-rst and docstring_parser, may lie in .carry/wheels.
# SMOKE=1: tiny, on a CPU, whose stages may take all the minutes.
set -u
[[ $# -ge 2 && $# -le 3 && $1 =~ ^[0-9]+$ ]] || { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
minutes=$1 out=$2 ptb=${3:-} device=cuda
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}:$PWD/.carry/site" MPLBACKEND=Agg
"$python" -c 'import torch' 2>/dev/null || { echo "gpu: $python has no torch; name one that has: PYTHON=..." >&2; exit 2; }
tests=(-m gpu tests) kernels=(--only "RHN kernel") steps=(--full --only "language model step") smaller=() dry=0
if [ -n "${SMOKE:-}" ]; then
    dry=1 device=cpu tests=(-m gpu tests/rhn/training/test_graphs.py) kernels=(--only "RHN kernel n=20") steps=(--only "RHN n=50")
    smaller=(--hidden-size 8 --depth 2 --set vocabulary_size=200 --max-tokens 3000 --batch-size 4 --epochs 2)
fi
if compgen -G ".carry/wheels/*.whl" >/dev/null && [ ! -d .carry/site ]; then
    "$python" -m pip install --quiet --no-index --no-deps --target .carry/site .carry/wheels/*.whl
fi
mkdir -p "$out"
left() { echo $((60 * minutes > SECONDS ? 60 * minutes - SECONDS : 0)); } # seconds
failed=0
stage() { # NAME SECONDS_AT_MOST COMMAND...: what it prints goes to OUT/NAME.txt; done once
    local name=$1 most=$2 code
    shift 2
    [ -e "$out/$name.done" ] && return 0
    most=$((most < $(left) && ! dry ? most : $(left)))
    [ "$most" -gt 0 ] || { echo "== $name: the time is over, the same command goes on"; return 0; }
    echo "== $name (at most $most s)"
    timeout --signal=INT --kill-after=20 "$most" "$@" 2>&1 | tee "$out/$name.txt"
    code=${PIPESTATUS[0]}
    if [ "$code" -eq 0 ]; then touch "$out/$name.done"; else echo "== $name: exit code $code"; failed=1; fi
}

"$python" - "$device" <<'PY' | tee -a "$out/environment.txt"
import datetime, platform, subprocess, sys, torch

if sys.argv[1] == "cuda" and not torch.cuda.is_available():
    sys.exit(f"torch {torch.__version__} sees no CUDA device: run this on a machine with a GPU")
commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip() or "unknown"
device = torch.cuda.get_device_name() if sys.argv[1] == "cuda" else "CPU"
print(f"{datetime.date.today()} commit {commit} Python {platform.python_version()} torch {torch.__version__} CUDA {torch.version.cuda} {device}")
PY
[ "${PIPESTATUS[0]}" -eq 0 ] || exit 2
stage info 60 "$python" -m rhn info
stage tests 180 "$python" -m pytest -q -p no:cacheprovider --durations=5 "${tests[@]}"
stage kernels 90 "$python" -m benchmarks --device "$device" "${kernels[@]}"
stage steps 60 "$python" -m benchmarks --device "$device" "${steps[@]}"
if [ -n "$ptb" ]; then
    # its own clock saves and ends it in time; a result after one minute is worth more than none
    until=$(awk "BEGIN { print ($(left) > 40 ? $(left) - 40 : 0) / 60 }")
    stage ptb-sota $(($(left) + 20)) "$python" -m rhn train ptb-sota --device "$device" --data "$ptb" "${smaller[@]}" \
        --out "$out/runs/ptb-sota" --max-minutes "$until" --json
    if [ -e "$out/runs/ptb-sota/metrics.jsonl" ]; then cp "$out/runs/ptb-sota/metrics.jsonl" "$out/ptb-sota.jsonl"; fi
else
    echo "== ptb-sota needs Penn Treebank: name its folder"
fi
exit $failed

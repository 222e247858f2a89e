#!/usr/bin/env bash
# The checks that need a GPU, in 8 minutes at most: the list of kernels, tests marked `gpu` (those of the kernels first), then as many benchmarks as fit,
# all output into one folder. Runs from the source tree with any Python that has torch; wheels for what that Python lacks may lie in .carry/wheels (pip download -d .carry/wheels ...).
set -u
out=${1:-gpu-results}
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
"$python" -c 'import torch' 2>/dev/null || { echo "gpu-check: $python has no torch; name one that has: make gpu-check PYTHON=..." >&2; exit 2; }
mkdir -p "$out"
: >"$out/tests.txt"
if [ -d .carry/wheels ]; then
    "$python" -m pip install --quiet --no-index --find-links .carry/wheels --target .carry/site --upgrade .carry/wheels/*.whl --no-deps
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}:$PWD/.carry/site" MPLBACKEND=Agg
"$python" - <<'PY' | tee "$out/environment.txt"
import datetime, platform, torch
print("date", datetime.date.today().isoformat())
print("python", platform.python_version(), "torch", torch.__version__, "cuda", torch.version.cuda)
print("device", torch.cuda.get_device_name() if torch.cuda.is_available() else "none: torch sees no CUDA device")
raise SystemExit(0 if torch.cuda.is_available() else 2)
PY
[ "${PIPESTATUS[0]}" -eq 0 ] || { echo "gpu-check needs a CUDA device" >&2; exit 2; }
timeout 100 "$python" -m rhn info 2>&1 | tee "$out/info.txt"
tests=0
for part in "tests/rhn/kernels" "tests --ignore=tests/rhn/kernels"; do
    # shellcheck disable=SC2086 # two words
    timeout $((SECONDS < 380 ? 400 - SECONDS : 20)) "$python" -m pytest -q -m gpu -p no:cacheprovider --durations=10 $part 2>&1 | tee -a "$out/tests.txt"
    code=${PIPESTATUS[0]}
    [ "$code" -eq 5 ] && code=0 # no test was marked: nothing failed
    tests=$((code > tests ? code : tests))
done
timeout $((SECONDS < 460 ? 470 - SECONDS : 10)) "$python" -m benchmarks --device cuda 2>&1 | tee "$out/benchmarks.txt"
bench=${PIPESTATUS[0]}
[ "$bench" -eq 124 ] && { bench=0; echo "the time was over before the last benchmark"; }
echo "results in $out"
exit $((tests > bench ? tests : bench))

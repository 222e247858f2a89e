#!/usr/bin/env bash
# Language models on a GPU: first epochs of the paper's best model and of the modern recipe.
#   bash benchmarks/gpu_language.sh PTB_FOLDER OUT MINUTES_EACH
# Run again with the same OUT to go on. Each run's config.json and metrics.jsonl are the record.
set -eu
data=$1 out=$2 minutes=$3
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}:$PWD/.carry/site"
for name in ptb-sota ptb-modern; do
    run=$out/$name
    "$python" -m rhn train "$name" --device cuda --data "$data" --out "$run" --max-minutes "$minutes" --json
    tail -n 1 "$run/metrics.jsonl" || true
done

#!/usr/bin/env bash
# Results that need a GPU, in the order of their worth, as many as the minutes allow:
#   a  the whole study at the paper's scale: 12 networks x 60 settings, swarm, map, gates and lesions of the best RHN of depth 6
#   b  ptb-sota to its end: validation, test, Monte-Carlo (the paper: 67.9, 65.4, 64.4)
#   c  figure 5(a): recurrence depth 1 to 10 at 32 million parameters
#   d  ptb-modern: 12 draws of its dropout rates for 40 epochs each, then the best of them on validation to its end
#   e  enwik8-10x1000 for an hour, bits a character against time
#
#   bash benchmarks/gpu_results.sh MINUTES OUT [--ptb FOLDER] [--enwik8 PATH] [--part-mb N]
#
# The same command goes on where the last one stopped. OUT/runs holds the trainings, OUT/results what is worth keeping: tables, figures,
# environment.txt. With --part-mb everything is also in OUT/parts, in pieces of N megabytes and a list of their checksums, for machines
# from which only small files can be copied; where there are parts and no runs, they are put together first. SMOKE=1: tiny, on a CPU.
set -euo pipefail
usage() { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
minutes=$1 out=$2 ptb="" enwik8="" part_mb=""
shift 2
[[ $minutes =~ ^[0-9]+$ ]] || usage
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
        --ptb) ptb=$2 ;;
        --enwik8) enwik8=$2 ;;
        --part-mb) part_mb=$2 ;;
        *) usage ;;
    esac
    shift 2
done
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}:$PWD/.carry/site" MPLBACKEND=Agg
smoke=${SMOKE:-} device=cuda
study=(--preset paper --fuse 60) text=() characters=() some=() depths=(10 1 5 2 3 4 6 7 8 9)
search=40 draws=12 samples=100
if [ -n "$smoke" ]; then
    device=cpu search=1 draws=2 samples=2 depths=(10 1) some=(--max-tokens 500)
    study=(--preset smoke --depth 1 6 --trials 2 --epochs 3)
    text=(--hidden-size 8 --vocabulary-size 200 --max-tokens 3000 --batch-size 4 --epochs 2)
    characters=(--characters --hidden-size 8 --max-tokens 3000 --batch-size 4)
fi
runs=$out/runs results=$out/results deadline=$((SECONDS + 60 * minutes))
mkdir -p "$out"
if [ ! -e "$runs" ] && compgen -G "$out/parts/state.tar.*" >/dev/null; then
    (cd "$out/parts" && sha256sum --quiet --check checksums.txt) || { echo "a part is missing or damaged: copy $out/parts again" >&2; exit 2; }
    cat "$out"/parts/state.tar.?* | tar -x -C "$out"
fi
mkdir -p "$runs" "$results"

left() { echo $((deadline - SECONDS > 0 ? deadline - SECONDS : 0)); } # seconds
say() { echo "== $* ($(($(left) / 60)) minutes left)"; }
pack() { # all in pieces; the old ones stay until the new ones are whole
    [ -n "$part_mb" ] || return 0
    rm -rf "$out/parts.new"
    mkdir "$out/parts.new"
    tar -c -C "$out" runs results | split -b "${part_mb}m" -d -a 4 - "$out/parts.new/state.tar."
    (cd "$out/parts.new" && sha256sum state.tar.* >checksums.txt)
    rm -rf "$out/parts"
    mv "$out/parts.new" "$out/parts"
    echo "$(find "$out/parts" -name 'state.tar.*' | wc -l) parts in $out/parts"
}
trap pack EXIT
stop() { say "time is up, the same command goes on"; exit 0; }
within() { # COMMAND...: stopped by Ctrl-C, which saves, when the minutes are over
    [ "$(left)" -gt 0 ] || stop
    local code=0
    timeout --signal=INT --kill-after=120 "$(left)" "$@" || code=$?
    [ "$code" -ne 124 ] && [ "$code" -ne 137 ] || stop
    return "$code"
}
training() { # NAME PRESET [OPTIONS]: whether it is finished; stops the script where the minutes are over
    local name=$1 preset=$2 told
    shift 2
    [ -e "$runs/$name/finished" ] && return 0
    [ "$(left)" -gt 0 ] || stop
    say "$name"
    told=$("$python" -m rhn train "$preset" "${text[@]}" "$@" --device "$device" --out "$runs/$name" \
        --max-minutes "$(awk "BEGIN { print $(left) / 60 }")" --json)
    echo "$told"
    [[ $told == *'"finished": true'* ]] && touch "$runs/$name/finished"
}
evaluated() { # NAME: validation and test, once
    [ -s "$results/$1.json" ] && return 0
    local split
    for split in valid test; do
        "$python" -m rhn evaluate "$runs/$1" --split "$split" --device "$device" "${some[@]}" --json
    done >"$results/$1.tmp"
    mv "$results/$1.tmp" "$results/$1.json"
}

"$python" - "$results/environment.txt" "$*" <<'PY'
import datetime, platform, subprocess, sys, torch

commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip() or "no git"
device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
words = f"{datetime.date.today()} commit {commit} python {platform.python_version()} torch {torch.__version__} device {device}"
open(sys.argv[1], "a").write(words + "\n")
PY
"$python" -m rhn info | tee "$results/info.txt"

say "a: the whole study"
if [ ! -e "$results/study-lesion.csv" ]; then
    within "$python" -m optim_study run --arch all "${study[@]}" --device "$device" --out "$runs/study" --save-seconds 30
    "$python" -m optim_study export --out "$runs/study" >"$results/study.csv"
    "$python" -m optim_study plot --out "$runs/study" --output "$results/study-swarm.png" | tee "$results/study-trained.txt"
    "$python" -m optim_study plot --out "$runs/study" --kind map --output "$results/study-map.png"
    "$python" -m optim_study best --out "$runs/study" --json >"$results/study-best.json"
    best=$("$python" - "$results/study-best.json" <<'PY'
import json, sys

best = json.load(open(sys.argv[1]))
print(next(row["checkpoint"] for row in best if row["arch"] == "rhn" and row["depth"] == 6))
PY
    )
    cp "$best" "$results/study-rhn-depth6.safetensors"
    "$python" -m analysis gates "$best" --force --output "$results/study-gates.png" "$results/study-gates.csv"
    "$python" -m analysis lesion "$best" --force --output "$results/study-lesion.png" "$results/study-lesion.csv"
fi

if [ -n "$ptb" ]; then
    say "b: ptb-sota"
    training ptb-sota ptb-sota --data "$ptb"
    evaluated ptb-sota
    [ -s "$results/ptb-sota-mc.json" ] || within "$python" -m rhn evaluate "$runs/ptb-sota" --split test --mc "$samples" "${some[@]}" --device "$device" --json >"$results/ptb-sota-mc.json"

    say "c: recurrence depth 1 to 10"
    for depth in "${depths[@]}"; do
        training "ptb-depth-$depth" "ptb-depth-$depth" --data "$ptb"
        evaluated "ptb-depth-$depth"
        "$python" -m rhn report --depth "$runs"/ptb-depth-* --force --output "$results/ptb-depth.png" "$results/ptb-depth.csv"
    done

    say "d: dropout rates of ptb-modern"
    for ((draw = 0; draw < draws; draw++)); do
        read -r -a rates < <("$python" - "$draw" <<'PY'
import random, sys

rng = random.Random(int(sys.argv[1]))
ranges = {"embedding": (0.0, 0.2), "input": (0.3, 0.75), "hidden": (0.0, 0.4), "output": (0.3, 0.75), "candidate": (0.0, 0.4)}
print(*(f"--drop-{name} {rng.uniform(*bounds):.2f}" for name, bounds in ranges.items()))
PY
        )
        training "modern-$draw" ptb-modern --data "$ptb" "${rates[@]}" --epochs "$search"
    done
    best=$("$python" - "$runs" "$results/modern-search.csv" <<'PY'
import csv, json, pathlib, sys

rows = []
for folder in sorted(pathlib.Path(sys.argv[1]).glob("modern-[0-9]*")):
    config = json.loads((folder / "config.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    valid = min(line[key] for line in lines for key in line if key.startswith("valid_") and line[key] is not None)
    rows.append([folder.name, *(config[key] for key in sorted(config) if key.startswith("drop_")), valid])
names = [key for key in sorted(config) if key.startswith("drop_")]
with open(sys.argv[2], "w", newline="") as file:
    csv.writer(file).writerows([["run", *names, "best_valid"], *sorted(rows, key=lambda row: row[-1])])
best = min(rows, key=lambda row: row[-1])
print(*(f"--{name.replace('_', '-')} {value}" for name, value in zip(names, best[1:-1])))
PY
    )
    read -r -a rates <<<"$best"
    training modern-best ptb-modern --data "$ptb" "${rates[@]}"
    evaluated modern-best
else
    echo "b, c, d need Penn Treebank: --ptb FOLDER"
fi

if [ -n "$enwik8" ]; then
    say "e: enwik8 for an hour"
    hour=60
    [ -z "$smoke" ] || hour=0.05
    if [ ! -e "$runs/enwik8/hour" ]; then
        [ "$(left)" -gt 0 ] || stop
        "$python" -m rhn train enwik8-10x1000 "${characters[@]}" --device "$device" --data "$enwik8" --out "$runs/enwik8" \
            --max-minutes "$(awk "BEGIN { left = $(left) / 60; print left < $hour ? left : $hour }")" --json
        for curve in metrics speed; do # of whole epochs
            [ ! -e "$runs/enwik8/$curve.jsonl" ] || cp "$runs/enwik8/$curve.jsonl" "$results/enwik8-$curve.jsonl"
        done
        touch "$runs/enwik8/hour"
    fi
else
    echo "e needs enwik8: --enwik8 PATH"
fi
say "all done"

set -u
export PYTHONPATH=$PWD:$PWD/.carry/site PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
t0=$SECONDS
python3 -m pip install --quiet --no-index --no-deps --target .carry/site .carry/wheels/*.whl 2>&1 | tail -2
for v in base nocg w0 nowait nobarrier now noa trans nostore nocg-trans noa-now nocg-trans-nobarrier; do for p in high medium; do timeout -k 5 70 python3 .carry/abl.py compile $v $p > $OUT/$v-$p.txt 2>&1 & done; done
wait
echo "== compiled after $((SECONDS-t0)) s"
timeout -k 5 50 python3 .carry/abl.py all high medium 2>&1 | tail -40
echo "== all after $((SECONDS-t0)) s"

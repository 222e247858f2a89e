"""The rows of `make bench` and their table, and benchmarks/gpu.sh, tried on a CPU."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.registry import BENCHMARKS, Benchmark, Ratio, make_of_processor, write_rows

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
RATIO = Ratio(median=2.0, low=1.5, high=2.5, seconds=1.0)


def rows_of(path):
    return [*csv.reader(path.read_text().splitlines())]


def test_a_measured_row_replaces_its_own_on_this_make_of_processor_only(tmp_path):
    path = tmp_path / "speed.csv"
    write_rows(path, {("a", "b, c"): RATIO, ("d", "e"): RATIO}, "AMD")
    write_rows(path, {("a", "b, c"): RATIO}, "Intel")
    before = rows_of(path)
    write_rows(path, {("a", "b, c"): Ratio(median=3.0, low=3.0, high=3.0, seconds=1.0)}, "AMD")
    header, first, *others = rows_of(path)
    assert header == ["ratio", "range over pairs", "ours", "against", "on"]
    assert first == ["3.00x", "3.00 to 3.00", "a", "b, c", "AMD"]
    assert others == before[2:] and len(others) == 2


def test_the_make_of_a_processor_is_that_of_its_vendor(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nvendor_id : AuthenticAMD\n")
    assert make_of_processor(path) == "AMD"
    path.write_text("vendor_id : GenuineIntel\n")
    assert make_of_processor(path) == "Intel"


def test_the_table_of_the_page_has_rows_of_benchmarks_only():
    measured = {(row[2], row[3]) for row in rows_of(ROOT / "docs" / "speed.csv")[1:]}
    rows = {(b.name, b.against): b for b in BENCHMARKS}
    assert measured <= rows.keys()
    assert {key for key, b in rows.items() if "cpu" in b.devices and not b.full} <= measured


@pytest.mark.parametrize("words", re.findall(r'--only "([^"]*)"', SCRIPT.read_text()))
def test_the_rows_that_the_script_asks_for_exist(words):
    device = "cpu" if "n=" in words else "cuda"  # with SMOKE=1, or without
    assert [b for b in BENCHMARKS if words in b.name and device in b.devices]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_floor_holds_on_a_cpu_only(device, monkeypatch):
    slow = Ratio(median=0.5, low=0.5, high=0.5, seconds=1.0)
    monkeypatch.setattr(benchmarks, "paired", lambda *functions, **options: slow)
    row = Benchmark(name="row", prepare=lambda device: (), against="another", floor=1.0)
    assert benchmarks.measure(row, device) == (slow, device == "cuda")


def run(*words: str | int | Path) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHON": sys.executable, "SMOKE": "1", "OMP_NUM_THREADS": "1"}
    command = ["bash", SCRIPT, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def ptb(tmp_path) -> Path:
    """A folder with made-up text in the files of Penn Treebank."""
    generator = np.random.default_rng(0)
    for split, lines in (("train", 400), ("valid", 120), ("test", 120)):
        words = generator.integers(300, size=(lines, 12))
        text = "".join(f" {' '.join(f'w{k}' for k in line)} \n" for line in words)
        (tmp_path / f"ptb.{split}.txt").write_text(text)
    return tmp_path


def test_without_a_folder_the_script_prints_its_usage():
    done = run("2")
    assert done.returncode == 2
    assert "bash benchmarks/gpu.sh MINUTES OUT [PTB_FOLDER]" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_stage_writes_its_result_once(tmp_path, ptb):
    out = tmp_path / "out"
    first = run(30, out, ptb)
    done = {path.stem for path in out.glob("*.done")}
    # a ratio of a busy machine may be below its floor
    assert done | {"kernels", "steps"} == {"info", "tests", "kernels", "steps", "ptb-sota"}, first
    for name in ("kernels", "steps"):
        assert "x  (" in (out / f"{name}.txt").read_text()
    assert len((out / "ptb-sota.jsonl").read_text().splitlines()) == 2
    again = run(30, out, ptb).stdout
    assert not [name for name in done if f"== {name} (" in again]

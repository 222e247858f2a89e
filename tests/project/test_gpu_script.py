"""benchmarks/gpu.sh, tried on a CPU: every stage writes its result, and once only; no floor of a
benchmark fails it on a GPU.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.registry import Benchmark, Ratio

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str | int | Path) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHON": sys.executable, "SMOKE": "1", "OMP_NUM_THREADS": "1"}
    command = ["bash", "benchmarks/gpu.sh", *map(str, words)]
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


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_floor_holds_on_a_cpu_only(device, monkeypatch):
    slow = Ratio(median=0.5, low=0.5, high=0.5, seconds=1.0)
    monkeypatch.setattr(benchmarks, "paired", lambda *functions, **options: slow)
    row = Benchmark(name="row", prepare=lambda device: (), against="another", floor=1.0)
    assert benchmarks.measure(row, device) == (slow, device == "cuda")


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

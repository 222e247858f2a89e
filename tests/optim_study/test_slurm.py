"""The example for Slurm in the guide, run by a stand-in for `sbatch`: an array with one network a
task, and one figure of all.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from optim_study.cli import main

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "study.md"
SBATCH = """#!/bin/bash
# Runs each task of an array, in turn.
script=$1; shift
read -r first last < <(sed -nE 's/.*--array=([0-9]+)-([0-9]+).*/\\1 \\2/p' "$script")
for ((task = first; task <= last; task++)); do
    SLURM_ARRAY_TASK_ID=$task bash "$script" "$@" || exit
done
"""


@pytest.mark.slow
def test_the_guides_script_runs_a_network_a_task_and_one_figure_shows_all(
    tiny_data, tmp_path, monkeypatch, capsys
):
    (script,) = re.findall(r"```bash title=\"study.sh\"\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert "--array=0-11" in script, "the paper's twelve networks"
    tools = {
        "sbatch": SBATCH,
        "optim-study": f'#!/bin/bash\nexec "{sys.executable}" -m optim_study "$@"\n',
    }
    for name, text in tools.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "study.sh").write_text(script.replace("--array=0-11", "--array=3-5"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    words = "--preset smoke --trials 2 --epochs 1 --set budget_scale=0.01 --device cpu --data"
    subprocess.run(["sbatch", "study.sh", *words.split(), tiny_data], check=True)
    runs = sorted(Path("runs").iterdir())
    assert [run.name for run in runs] == ["dt-rnn-1", "dt-rnn-2", "rhn-6"]
    assert main(["plot", *map(str, runs), "--output", "swarm.png"]) == 0
    printed = capsys.readouterr().out
    assert all(run.name[:-2] in printed for run in runs) and Path("swarm.png").exists()

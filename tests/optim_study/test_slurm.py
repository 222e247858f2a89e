"""The script for Slurm submits three jobs in order, for any path, in a real shell; shell scripts stand in for `sbatch` and Python."""

import os
import subprocess
from types import SimpleNamespace

import pytest

from optim_study.cli import main
from optim_study.presets import WorkSettings

SBATCH = """#!/bin/bash
# Notes its options and runs what is wrapped, at once; the number of the job is how many came before.
printf '%s\\n' "$@" >> "$LOG"; echo --- >> "$LOG"
for word in "$@"; do [[ $word == --wrap=* ]] && sh -c "${word#--wrap=}" >&2; done
grep -c -e --- "$LOG"
"""


PYTHON = """#!/bin/bash
# Notes its arguments; the test runs them in one process, which spares the start of four.
printf '%s\\0' "$@" > "$COMMANDS/$(ls "$COMMANDS" | wc -l)"
"""


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Python of the scripts that are written from now on; returns the commands of `optim-study` that it was given, in order."""
    path, commands = tmp_path / "bin of" / "python", tmp_path / "commands"
    path.parent.mkdir()
    commands.mkdir()
    path.write_text(PYTHON)
    path.chmod(0o755)
    monkeypatch.setattr("optim_study.slurm.sys", SimpleNamespace(executable=str(path)))
    monkeypatch.setenv("COMMANDS", str(commands))

    def given() -> list[list[str]]:
        words = [file.read_text().split("\0")[:-1] for file in sorted(commands.iterdir())]
        assert all(start == ["-m", "optim_study"] for start in (w[:2] for w in words))
        return [w[2:] for w in words]

    return given


@pytest.fixture
def submit(tmp_path):
    """Runs a script with a `sbatch` of ours; the options of each job."""
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(SBATCH)
    sbatch.chmod(0o755)

    def submitted(script: str) -> list[list[str]]:
        path = tmp_path / "study.sh"
        path.write_text(script)
        subprocess.run(["bash", "-n", path], check=True)
        log = tmp_path / "log"
        environment = os.environ | {"PATH": f"{sbatch.parent}:{os.environ['PATH']}", "LOG": str(log)}
        done = subprocess.run(["bash", path], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("submitted: create 1, workers 2, results 3")
        return [job.splitlines() for job in log.read_text().split("---\n")[:-1]]

    return submitted


def test_the_jobs_make_the_study_work_on_it_and_write_its_table(tiny_data, python, submit, tmp_path, capsys):
    out, alone = tmp_path / 'it\'s a $(touch broken) 100 % "study"', tmp_path / "alone"
    words = ["--arch", "rhn", "--depth", "1", "--preset", "smoke", "--data", str(tiny_data)]
    assert main(["run", *words, "--out", str(alone), "--device", "cpu"]) == 0
    capsys.readouterr()
    asked = ["--workers", "3", "--time", "1-12", "--memory", "8G", "--partition", "short"]
    assert main(["slurm", *words, *asked, "--out", str(out)]) == 0
    create, workers, results = submit(capsys.readouterr().out)
    assert (out / "trials.csv").exists(), "the shell has written the output of `export` to it"
    commands = python()
    assert [words[0] for words in commands] == ["run", "worker", "export", "plot"]
    (out / "trials.csv").unlink()
    printed = [(main(words), capsys.readouterr().out) for words in commands]
    assert [code for code, _ in printed] == [0] * 4 and printed[2][1] == (alone / "trials.csv").read_text()
    assert (out / "swarm.png").stat().st_size > 5000
    assert {"--array=0-2", "--time=1-12", "--mem=8G", "--cpus-per-task=1", "--dependency=afterok:1"} <= set(workers)
    assert "--dependency=afterany:2" in results and "--time=1-12" not in create
    logs = f"--output={out}/slurm/%x-%j.txt".replace("100 % ", "100 %% ")
    assert all({"--partition=short", logs} <= set(job) for job in (create, workers, results))
    assert not list(tmp_path.rglob("broken"))


def test_workers_take_what_belongs_to_the_work_and_a_process_on_each_gpu(capsys, tmp_path):
    words = "--gpus 2 --cpus 4 --fuse 5 --trials 7 --arch gru --storage postgresql://host/study"
    assert main(["slurm", *words.split(), "--out", str(tmp_path)]) == 0
    script = capsys.readouterr().out
    (create,) = [line for line in script.splitlines() if " --create " in line]
    (worker,) = [line for line in script.splitlines() if " worker " in line and "--wrap" in line]
    assert "--gres=gpu:2" in script and "--cpus-per-task=4" in script
    assert "--fuse 5 --jobs 2 --device cuda" in worker and "--arch gru" in worker and "--trials" not in worker
    assert "--trials 7 --arch gru" in create and "--fuse" not in create and "--device cpu" in create
    assert script.count("--storage postgresql://host/study") == 5 and "password" not in script


@pytest.mark.parametrize("secret", ["me:hush@host/study", "me@host/study?password=hush", "me:hu?sh@host/study"])
def test_a_password_is_kept_out_of_the_script_and_of_its_settings_in_words(secret, capsys, tmp_path):
    assert main(["slurm", "--storage", f"postgresql://{secret}", "--out", str(tmp_path)]) == 0
    script, told = capsys.readouterr()
    assert "hush" not in script + told and "hu?sh" not in script and script.count("//me@host/study") == 5
    assert "~/.pgpass" in script and told == "the script is without the password; its comments show where to store it\n"
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "sh@" not in repr(WorkSettings(storage=secret)) and "hush" not in repr(WorkSettings(storage=secret))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0"], "--workers is 0, expected a whole number from 1"),
        (["--gpus", "-1"], "--gpus is -1, expected a whole number from 0"),
        (["--time", "soon"], "--time is 'soon', expected Slurm's MINUTES"),
        (["--memory", "lots"], "--memory is 'lots', expected a number of megabytes"),
        (["--device", "cuda"], "--device follows from --gpus and --cpus here"),
        (["--trials", "0"], "trials"),
    ],
)
def test_what_slurm_would_refuse_is_one_sentence(words, message, capsys):
    assert main(["slurm", *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and len(printed.err.splitlines()) == 1 and printed.out == ""

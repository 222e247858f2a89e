"""Write a Slurm script of three jobs: create the studies, an array of workers, then table and figure.

    create    creates the studies before any worker starts
    workers   a job array: each task is `optim-study worker`, on its GPUs or CPUs, until every study is complete
    results   writes the table and the figure after the last worker has ended

Two minutes before a worker's time limit Slurm sends it an interrupt: it saves and leaves. Submit the same script again to go on.
"""

import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from optim_study.presets import RunConfig, WorkSettings
from rhn.errors import InvalidInputError
from rhn.utils.options import flag, option
from rhn.utils.wording import without_password

TIME = re.compile(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}")  # minutes, minutes:seconds, ... days-hours:minutes:seconds
MEMORY = re.compile(r"\d+[KMGT]?")
WARNING_SECONDS = 120  # from the interrupt to the end of a job's time

SCRIPT = """\
#!/bin/bash
# {workers} workers for the studies of {name}, as three jobs for Slurm. Submit it where `sbatch` is:
#
#     bash study.sh
#
# Look at it:    squeue --me
#                {status}
# Stop it:       scancel --signal=INT --batch JOB     (workers save and leave; without --signal they lose what is not saved)
# Go on:         bash study.sh     (also after a time limit or a dead node; trials that are complete are never run again)
#
# The nodes share the folder, on a file system whose locks hold across nodes (NFS 4; Lustre mounted with `flock`){storage_note}.
{password_note}\
# Whatever else your cluster asks for, Slurm takes from the environment: SBATCH_QOS, SBATCH_CONSTRAINT, SBATCH_RESERVATION.
set -euo pipefail

out={out}
mkdir -p -- "$out/slurm"
shared=({shared})

create=$(sbatch "${{shared[@]}}" --job-name=study-create --time=30 \\
    --wrap={create})
workers=$(sbatch "${{shared[@]}}" --job-name=study-worker {resources} \\
    --array=0-{last} --dependency="afterok:$create" --kill-on-invalid-dep=yes --signal=B:INT@{warning} \\
    --wrap={worker})
results=$(sbatch "${{shared[@]}}" --job-name=study-results --time=30 --dependency="afterany:$workers" \\
    --wrap={results})
echo "submitted: create $create, workers $workers, results $results; what they say: $out/slurm"
"""

PASSWORD_NOTE = """\
# The password given with --storage is not in this script, which others may read: keep it in ~/.pgpass, readable by you
# alone (HOST:PORT:DATABASE:USER:PASSWORD), or `export PGPASSWORD=...` before you submit.
"""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The resources of a worker, which is a task of the job array."""

    workers: int = option(4, "Tasks of the job array.")
    gpus: int = option(0, "GPUs of a worker, which runs a process on each.")
    cpus: int = option(1, "CPUs of a worker; without GPUs it runs a process on each.")
    time: str = option("04:00:00", "Time limit of a worker in Slurm's notation: MINUTES, HH:MM:SS, DAYS-HH.")
    memory: str | None = option(None, "Memory of a worker, as in 8G (default: the cluster's).")
    partition: str | None = option(None, "Partition of all jobs (default: the cluster's).")
    account: str | None = option(None, "Account that pays for them (default: yours).")

    def __post_init__(self):
        for name, least in (("workers", 1), ("gpus", 0), ("cpus", 1)):
            if (value := getattr(self, name)) < least:
                raise InvalidInputError(f"--{name} is {value}, expected a whole number from {least}")
        if not TIME.fullmatch(self.time):
            raise InvalidInputError(f"--time is {self.time!r}, expected Slurm's MINUTES, HH:MM:SS or DAYS-HH:MM:SS")
        if self.memory is not None and not MEMORY.fullmatch(self.memory):
            raise InvalidInputError(f"--memory is {self.memory!r}, expected a number of megabytes, or as in 8G")

    def options(self) -> list[str]:
        """For `sbatch`."""
        options = [f"--time={self.time}", f"--cpus-per-task={self.cpus}"]
        options += [f"--gres=gpu:{self.gpus}"] if self.gpus else []
        return options + ([f"--mem={self.memory}"] if self.memory else [])


def slurm_script(config: RunConfig, given: Mapping[str, Any], resources: Resources, *, preset: str) -> str:
    """The script for a run.

    config: the whole configuration.
    given: the settings that differ from the preset, by name.

    Every value is quoted, so that any path is one word. A password in the storage's address is left out.
    """
    out, storage = config.folder.absolute(), without_password(config.storage or "")
    place = ["--out", str(out), *(["--storage", storage] if storage else [])]
    work = {"jobs": resources.gpus or resources.cpus, "device": "cuda" if resources.gpus else "cpu"}
    own = {field.name for field in fields(WorkSettings)}
    options = {name: value for name, value in given.items() if name not in {"out", "storage", *work}}
    protocol = {name: value for name, value in options.items() if name not in own or name == "data"}
    create = _command("run", "--preset", preset, "--create", "--device", "cpu", *place, *_words(protocol))
    worker = {name: value for name, value in options.items() if name in own} | work
    join = _command("worker", "--arch", *config.architectures, *place, *_words(worker))
    export, plot = _command("export", *place), _command("plot", *place, "--output", str(out / "swarm.png"))
    logs = str(out / "slurm").replace("%", "%%")  # Slurm's own sign in names
    shared = ["--parsable", f"--output={logs}/%x-%j.txt", "--export=ALL,OMP_NUM_THREADS=1"]
    shared += [f"--{name}={value}" for name in ("partition", "account") if (value := getattr(resources, name))]
    return SCRIPT.format(
        workers=resources.workers,
        name=" ".join(out.name.split()),
        status=_in_a_comment(_command("status", *place)),
        storage_note=", for the states of running trials" if storage else "",
        password_note=PASSWORD_NOTE if storage != (config.storage or "") else "",
        out=shlex.quote(str(out)),
        shared=shlex.join(shared),
        create=shlex.quote(f"exec {create}"),
        resources=shlex.join(resources.options()),
        last=resources.workers - 1,
        warning=WARNING_SECONDS,
        worker=shlex.quote(f"exec {join}"),
        results=shlex.quote(f"{export} > {shlex.quote(str(out / 'trials.csv'))} && {plot}"),
    )


def _command(*words: str) -> str:
    """A command line of `optim-study` with this interpreter, for any node with the same files."""
    return shlex.join([sys.executable, "-m", "optim_study", *words])


def _words(given: Mapping[str, Any]) -> list[str]:
    """Settings as options of the command line, with absolute paths."""
    words = []
    for name, value in given.items():
        if name == "cell_options":
            words += [word for option in value.items() for word in ("--cell-option", "=".join(option))]
            continue
        values = value if isinstance(value, tuple) else (value,)
        words += [flag(name), *(str(v.absolute() if isinstance(v, Path) else v) for v in values)]
    return words


def _in_a_comment(text: str) -> str:
    return " ".join(text.splitlines())

"""Small training runs by command: on the shortest chorales, and on a text of a made-up language."""

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rhn.cli import main as cli
from rhn.data.corpus import LOWEST_PITCH, SPLITS
from tests.rhn.pieces import shortest_chorales
from tests.rhn.texts import sentences

CHORALES = "jsb-depth-2 --hidden-size 4 --init-std 0.1 --patience 999"
TEXT = (
    "ptb-sota --corpus text --hidden-size 6 --depth 2 --batch-size 4 --learning-rate 0.1 "
    "--set window=8 --set drop_input=0.2 --set drop_output=0.2"
)


@dataclass(frozen=True)
class Task:
    """What is trained, as the words of `rhn train`, and its data."""

    name: str
    words: str
    data: Path

    def line(self, out: Path | str, more: str = "") -> str:
        """The command of three epochs, unless `more` names others."""
        return f"rhn train {self.words} --data {self.data} --epochs 3 --out {out} {more}"

    def train(self, out: Path | str, more: str = "") -> int:
        return cli.main(shlex.split(self.line(out, more))[1:])

    def __str__(self) -> str:
        return self.name


@pytest.fixture(scope="session")
def music(tmp_path_factory) -> Task:
    """The shortest chorales, in a file: 33 to train on, 3 and 3."""
    corpus, path = shortest_chorales(33, 3, 3), tmp_path_factory.mktemp("data") / "short.json"
    pitches = {
        s: [[(np.flatnonzero(f) + LOWEST_PITCH).tolist() for f in p] for p in getattr(corpus, s)]
        for s in SPLITS
    }
    path.write_text(json.dumps(pitches))
    return Task("chorales", CHORALES, path)


@pytest.fixture(scope="session")
def prose(tmp_path_factory) -> Task:
    """A folder of three files of sentences."""
    folder = tmp_path_factory.mktemp("text")
    for seed, (split, count) in enumerate({"train": 160, "valid": 40, "test": 40}.items()):
        (folder / f"{split}.txt").write_text(sentences(count, seed))
    return Task("text", TEXT, folder)


@pytest.fixture(scope="session", params=["music", "prose"])
def task(request) -> Task:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """trained(task) -> the folder of its training run, made once."""
    made = {}

    def run(task: Task) -> Path:
        if task.name not in made:
            made[task.name] = tmp_path_factory.mktemp(task.name) / "run"
            assert task.train(made[task.name]) == 0
        return made[task.name]

    return run


@pytest.fixture
def until():
    """until(line, path, lines) starts a command in a process of its own and returns that once a
    file has so many lines.
    """

    def start(line: str, path: Path, lines: int, **options) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", *shlex.split(line)], stderr=subprocess.PIPE, text=True, **options
        )
        deadline = time.monotonic() + 120
        while not path.exists() or len(path.read_text().splitlines()) < lines:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no progress"
            time.sleep(0.002)
        return process

    return start

"""Small trainings by command: on the shortest chorales, and on a text of a made-up language."""

import json
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

CHORALES = ("jsb-depth-2", "--hidden-size", "4", "--init-std", "0.1", "--patience", "999")
TEXT = (
    "ptb-sota",
    "--corpus",
    "text",
    "--hidden-size",
    "6",
    "--depth",
    "2",
    "--batch-size",
    "4",
    "--set",
    "window=8",
)
TEXT += ("--set", "drop_input=0.2", "--set", "drop_output=0.2", "--learning-rate", "0.1")


@dataclass(frozen=True)
class Task:
    """What is trained, as the words of `rhn train`, and its data."""

    name: str
    words: tuple[str, ...]
    data: Path

    def command(self, out, *options) -> list[str]:
        """rhn train for three epochs, unless the options say otherwise."""
        return [
            "train",
            *self.words,
            "--data",
            str(self.data),
            "--epochs",
            "3",
            "--out",
            str(out),
            *map(str, options),
        ]

    def train(self, out, *options) -> int:
        return cli.main(self.command(out, *options))

    def __str__(self) -> str:
        return self.name


@pytest.fixture(scope="session")
def short_chorales(tmp_path_factory) -> Path:
    """A file of the shortest chorales: 33 to train on, 3 and 3."""
    corpus, path = shortest_chorales(33, 3, 3), tmp_path_factory.mktemp("data") / "short.json"
    pitches = {
        s: [[(np.flatnonzero(f) + LOWEST_PITCH).tolist() for f in p] for p in getattr(corpus, s)]
        for s in SPLITS
    }
    path.write_text(json.dumps(pitches))
    return path


@pytest.fixture(scope="session")
def small_text(tmp_path_factory) -> Path:
    """A folder of three files of sentences."""
    folder = tmp_path_factory.mktemp("text")
    for seed, (split, count) in enumerate({"train": 160, "valid": 40, "test": 40}.items()):
        (folder / f"{split}.txt").write_text(sentences(count, seed))
    return folder


@pytest.fixture(scope="session")
def music(short_chorales) -> Task:
    return Task("chorales", CHORALES, short_chorales)


@pytest.fixture(scope="session")
def prose(small_text) -> Task:
    return Task("text", TEXT, small_text)


@pytest.fixture(scope="session", params=["music", "prose"])
def task(request) -> Task:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """trained(task) -> the folder of its training, made once."""
    made = {}

    def run(task: Task) -> Path:
        if task.name not in made:
            made[task.name] = tmp_path_factory.mktemp(task.name) / "run"
            assert task.train(made[task.name]) == 0
        return made[task.name]

    return run


@pytest.fixture
def refused(capsys):
    """refused(words, message): the command says one sentence with the message in it, prints nothing
    and ends with 2.
    """

    def check(words, message) -> None:
        capsys.readouterr()
        assert cli.main(list(map(str, words))) == 2
        said = capsys.readouterr()
        assert said.out == ""
        # on a slow machine there may be a line of progress
        *progress, sentence = said.err.splitlines()
        assert sentence.startswith("error: ") and message in sentence
        assert not any("Traceback" in line or line.startswith("error") for line in progress)

    return check


@pytest.fixture
def answer(capsys):
    """answer(*words): the JSON that a command prints."""

    def run(*words):
        capsys.readouterr()
        assert cli.main(list(map(str, words))) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def until():
    """until(words, path, lines) starts a command in a process of its own and returns that once a
    file has so many lines.
    """

    def start(words, path: Path, lines: int, **options) -> subprocess.Popen:
        program = [sys.executable, "-m", "rhn", *map(str, words)]
        process = subprocess.Popen(
            program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        deadline = time.monotonic() + 120
        while not path.exists() or len(path.read_text().splitlines()) < lines:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no progress"
            time.sleep(0.002)
        return process

    return start

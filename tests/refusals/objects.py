"""The names that the calls of the tables use, and the files that their commands read."""

# ruff: noqa: F401

import json
import pickle
import zipfile
from dataclasses import asdict, replace
from math import inf, nan
from pathlib import Path

import numpy as np
import torch
from torch import full, nn, ones, rand, zeros
from user_modules import EachState, Kept, LastState, OwnLoop, Stacked, Vectors

import analysis
import gersgorin
import optim_study
import rhn
import trainability
from optim_study.config import StudyConfig
from rhn.cells import (
    DTRNN,
    DTSRNN,
    GRU,
    LSTM,
    RHN,
    RNN,
    Cell,
    StackedCell,
    from_torch,
    hidden_size_for_budget,
    make_cell,
    read_options,
    register_cell,
    resolve_cell,
)
from rhn.cells.gates import CellMasks
from rhn.cells.init import Initialization
from rhn.checkpoints import save
from rhn.data.jsb import read_score
from rhn.data.vocabulary import Vocabulary
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.build import build_model
from rhn.training.config import LanguageConfig
from rhn.training.configure import preset

CHORALES = [np.eye(88)[[40, 44, 47, 40, 44]], np.eye(88)[[52, 47, 52]]]
MUSIC = PolyphonicModel("rhn", hidden_size=4, depth=3)
PROSE = LanguageModel("rhn", vocabulary_size=11, hidden_size=4, depth=3)
TEXT = LanguageConfig(corpus="text", hidden_size=3, depth=2, batch_size=2, window=8)
NO_POINTS = gersgorin.fixed_points(lambda x, s: s * s + 2, zeros(1), starts=ones(3, 2))
LETTERS = Vocabulary("characters", ("x", "z"))


def halved(x, s):
    """A step that reads no input."""
    return s / 2


class Pair(nn.Module):
    """A step of two tensors, (h, a)."""

    def forward(self, x, state):
        h, a = state
        return h + a, a / 2


class Counting:
    """A float32 step with another weight at each call."""

    __name__ = "Counting"

    def __init__(self):
        self.weights, self.calls = rand(4, 5, 5), 0

    def __call__(self, x, s):
        self.calls += 1
        return torch.tanh(self.weights[self.calls % 4] @ s + x.sum())


class Silent(Cell):
    """A cell without bounds, gates and layers."""

    def step(self, x, s):
        return s


class Bomb:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return Path("exploded").touch, ()


LOOP, NARROW = OwnLoop(nn.LSTMCell(3, 4)), EachState(5, units=5, inputs=88)
TRIAL = optim_study.TrialRow(
    arch="rnn", depth=1, trial=0, learning_rate=0.1, init_std=0.1, hidden_size=3, epochs=3,
    best_train_nll=8.0, best_valid_nll=8.0, test_nll=8.0, diverged=False,
)  # fmt: skip
LOST = nn.GRU(3, 4)
nn.init.constant_(LOST.weight_hh_l0, nan)
X, LINEAR = rand(100, 3), nn.Linear(3, 1)
SGD = torch.optim.SGD(LINEAR.parameters(), 0.1)
PARTS = {"x": X, "y": X[:, :1], "loss_fn": nn.MSELoss(), "optimizer": SGD, "steps": 50}


def checked(**changes):
    """A check of a sound training run with these changes."""
    return trainability.check(**{"model": LINEAR, **PARTS, **changes})


RUN = gersgorin.open_run(nn.GRU(3, 4), rand(9, 3))
SQUARE_ROOT = gersgorin.open_run(  # 4, 2, 0, 1: without a derivative at 0
    lambda x, s: torch.sqrt(s + x[0]), torch.tensor([[4.0], [-2.0], [1.0], [1.0]]), s0=zeros(4)
)
CONFIGURATIONS = {
    "list": "[]",
    "typo": '{"preset": "ptb-sota", "hidden_sise": 3}',
    "part": '{"cell": "rhn"}',
    "presets": '{"preset": ["ptb-sota"]}',
}
XML = """<score-partwise><part id="P1"><measure><attributes><divisions>4</divisions></attributes>
{}</measure></part></score-partwise>"""
SCORES = {
    "chord.xml": XML.format("<note><chord/><duration>4</duration></note>"),
    "cut.xml": XML[:60],
}


def files() -> None:
    """Write networks, data and records, of which some cannot be used, into the current folder."""
    words = Vocabulary("words", ("<eos>", "the", "cat", "dog", "bird", "sees"))
    language = {"train": asdict(TEXT), "vocabulary": words.to_json()}
    save("language.safetensors", build_model(TEXT, 6), **language)
    Path("folder.png").mkdir()
    for folder in ("words", "other"):
        Path(folder).mkdir()
        text = "the cat sees the dog\n" if folder == "words" else "an entirely different text\n"
        for split in ("train", "valid", "test"):
            Path(folder, f"{split}.txt").write_text(text * 400)
    Path("novel.txt").write_text("the cat sees the dog\nthe dog sees the bird\n" * 20)
    Path("empty.txt").write_text("")
    save("short.safetensors", build_model(TEXT, 5), **language)
    save("listed.safetensors", PROSE, train=[1], vocabulary={})
    save("cell.safetensors", RHN(88, 4))
    save("gated.safetensors", MUSIC)
    save("ungated.safetensors", PolyphonicModel("dt-rnn", hidden_size=4, depth=3))
    save("chorales.safetensors", PolyphonicModel("rnn", hidden_size=4))
    chorale = [[60, 64], [62], [64, 67], [60]]
    Path("chorales.json").write_text(json.dumps({s: [chorale] for s in ("train", "valid", "test")}))
    Path("one_step.py").write_text("def step(x, s):\n    return s + x.sum()\n")
    torch.save({}, "evil.pt")
    torch.save(LOOP.state_dict(), "own_loop.pt")
    Path("loop.csv").symlink_to("loop.csv")
    with zipfile.ZipFile("members.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    with Path("sparse.csv").open("wb") as file:
        file.truncate(10**12)
    name = f"\x1b[31mNet\x1b[0m{'x' * 10**5}"
    save("escapes.safetensors", type(name, (nn.Linear,), {"config": lambda self: {}})(2, 3))
    Path("bomb.pickle").write_bytes(pickle.dumps(Bomb()))
    RUN.save("states.npz")
    gersgorin.Recorder(RNN(3, 4), rand(5, 3)).recording.save("run.npz")
    for name, content in CONFIGURATIONS.items():
        Path(f"{name}.json").write_text(content)
    for name, content in SCORES.items():
        Path(name).write_text(content)

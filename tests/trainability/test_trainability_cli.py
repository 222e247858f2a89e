"""`trainability check` and `trainability cure`: both ways to name a training, what is printed and
written, and what is refused.
"""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn

from rhn.checkpoints import save_checkpoint
from rhn.errors import OutputError, RhnError
from rhn.models import PolyphonicModel
from rhn.utils.result import Result
from trainability.cli import CheckOptions, main, of_next_frames

OWN = """
import sys
from types import SimpleNamespace

import torch
from helper import mean
from torch import nn

import trainability

print("loading")
if __name__ == "__main__" or sys.argv != ["own/train.py"]:
    raise SystemExit("run as a script")

generator = torch.Generator().manual_seed(0)
torch.manual_seed(0)
x = torch.randn(160, 4, 3, generator=generator)
model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
optimizer = torch.optim.Adam(model.parameters(), 0.05)
training = {
    "model": model, "x": x, "y": mean(x), "loss": nn.MSELoss(), "optimizer": optimizer,
    "steps": 40, "seconds": 1000,
}
large = training | {"y": 9000 + 4000 * mean(x)}
same_outputs = training | {"model": nn.Sequential(model, nn.Softmax(-1))}
as_object = SimpleNamespace(**training, notes="further attributes are ignored")
as_object.loss_fn = as_object.__dict__.pop("loss")
as_training = trainability.Training(
    model, x, mean(x), nn.MSELoss(), optimizer, steps=40
)

def make():
    return training

def of_size(size):
    return training

def fails():
    raise ValueError("no data today")

def leaves():
    sys.exit(0)

without_model = {name: part for name, part in training.items() if name != "model"}
unknown = training | {"batchsize": 3}
two_losses = training | {"loss_fn": "mse"}
other_sizes = training | {"y": mean(x)[:50]}
a_tuple = tuple(training.values())
"""


@pytest.fixture
def own(own_folder) -> None:
    """A file with trainings in another folder, which imports a file beside it."""
    Path("own").mkdir()
    Path("own/train.py").write_text(OWN)
    Path("own/helper.py").write_text("def mean(x):\n    return x.mean((1, 2)).unsqueeze(1)\n")
    Path("own/broken.py").write_text("training = {\n")


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = main([*words])
    said = capsys.readouterr()
    sys.modules.pop("helper", None)
    return code, said.out, said.err


def answer(capsys, *words: str) -> dict:
    code, out, err = run(capsys, *words, "--json")
    assert code == 0, err
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_a_dictionary_an_object_and_a_function_name_the_same_training(capsys, own):
    found = [
        answer(capsys, "check", f"own/train.py:{n}") for n in ("training", "as_object", "make")
    ]
    assert found[0]["outcome"] == "learns" and found[0]["title"] == "Sequential"
    assert found[0] == found[1] == found[2]


def test_a_training_object_names_itself(capsys, own):
    found = answer(capsys, "check", "own/train.py:as_training", "--steps", "8")
    assert found["steps"] == 8 and found["title"] == "Sequential"


def test_only_the_answer_is_on_stdout(capsys, own):
    code, out, _ = run(capsys, "check", "own/train.py:training")
    assert code == 0 and out.startswith("Sequential learns: ") and out.count("\n") == 1


def test_a_limit_of_the_command_comes_before_that_of_the_file(capsys, own):
    assert answer(capsys, "check", "own/train.py:large", "--steps", "8")["steps"] == 8


def test_import_path_and_arguments_are_restored(capsys, own):
    before = [*sys.path], [*sys.argv]
    run(capsys, "check", "own/train.py:training", "--steps", "1")
    assert (sys.path, sys.argv) == before


@for_each(
    ("word", "sentence"),
    [
        ("missing.py:training", "missing.py is not there"),
        (
            "own/train.py:trainin",
            "own/train.py:trainin: the file has no such name: did you mean training?",
        ),
        ("own/train.py:nothing_like_it", "expected the name of a training in it"),
        ("own/train.py", "expected FILE.py:NAME"),
        ("own.train:training", "expected FILE.py:NAME"),
        ("own/train.py:fails", "own/train.py:fails does not run: ValueError: no data today"),
        ("own/train.py:leaves", "own/train.py:leaves does not run: SystemExit: 0"),
        ("own/broken.py:training", "does not run: SyntaxError"),
        ("own/train.py:of_size", "'size'): expected a function without them"),
        ("own/train.py:without_model", "it is a dictionary without model"),
        ("own/train.py:model", "it is a Sequential without model, x, loss, optimizer"),
        ("own/train.py:a_tuple", "expected a dictionary or an object with model, x, y, loss"),
        (
            "own/train.py:unknown",
            "'batchsize' is no part of a training run: did you mean batch_size?",
        ),
        ("own/train.py:two_losses", "loss and loss_fn are both given"),
        ("own/train.py:other_sizes", "own/train.py:other_sizes: x of shape (160, 4, 3)"),
    ],
)
def test_a_wrong_name_is_one_sentence(capsys, own, word, sentence):
    code, out, err = run(capsys, "check", word)
    line, *frames = err.splitlines()
    assert (code, out) == (2, "") and sentence in line, err
    assert all(frame.startswith('  File "own/') for frame in frames), err


@for_each(
    ("words", "steps", "rate"),
    [
        ({"cell": "gru", "epochs": 7, "batches": 3}, 21, 0.1),
        ({"cell": "lstm", "input": Path("many.npy"), "epochs": 20}, 40, 0.1),
        ({"cell": "lstm", "input": Path("one.npy"), "epochs": 20, "momentum": 0.0}, 20, 0.1),
        ({"cell": "rhn", "input": Path("one.npy"), "steps": 5}, 5, 0.1),
        ({"cell": "rhn", "input": Path("one.npy"), "optimizer": "adam"}, 3000, 1e-3),
        ({"checkpoint": Path("net.safetensors")}, 4 * 7, 0.5),
    ],
)
def test_a_training_on_next_frames_is_that_of_the_options(own_folder, words, steps, rate):
    np.save("many.npy", np.sin(np.arange(240.0)).reshape(40, 2, 3))
    np.save("one.npy", np.sin(np.arange(60.0)).reshape(20, 3))
    model = PolyphonicModel("gru", hidden_size=8)
    save_checkpoint("net.safetensors", model, train={"learning_rate": 0.5, "epochs": 4})
    parts = of_next_frames(CheckOptions(**words))
    (group,) = parts["optimizer"].param_groups
    assert (parts["steps"], group["lr"]) == (steps, rate)
    assert group.get("momentum", 0.0) == words.get("momentum", 0.0 if "optimizer" in words else 0.9)
    frames = torch.as_tensor(parts["x"])[1:], torch.as_tensor(parts["y"])[:-1]
    assert torch.equal(*frames) and parts["batch_axis"] == 1


def test_cells_are_checked_on_the_chorales(capsys):
    words = ["--cell", "rhn", "--depth", "2", "--hidden-size", "4", "--steps", "2"]
    found = answer(capsys, "check", *words, "--seconds", "1000")
    assert found["title"] == "rhn, depth 2, 4 units" and found["steps"] == 2
    assert found["about"] == "SGD, learning rate 0.1"


MODULE = """
from torch import nn

class Next(nn.Module):
    def __init__(self, input_size, hidden_size=5):
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size)
        self.output = nn.Linear(hidden_size, input_size)

    def forward(self, x):
        return self.output(self.rnn(x)[0])
"""


def test_a_module_is_checked_on_the_next_frames_of_a_file(capsys, own_folder, monkeypatch):
    Path("own_next.py").write_text(MODULE)
    monkeypatch.syspath_prepend(own_folder)
    np.save("x.npy", np.sin(np.arange(720.0)).reshape(30, 12, 2))
    words = ["--module", "own_next:Next", "--input", "x.npy", "--steps", "4"]
    assert answer(capsys, "check", *words)["title"] == "own_next:Next"


TEXT = """
from torch import nn

class Text(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.embedding, self.output = nn.Embedding(12, 6), nn.Linear(8, 12)
        self.rnn = nn.GRU(6, 8, batch_first=batch_first)

    def forward(self, ids):
        return self.output(self.rnn(self.embedding(ids))[0])

def time_first():
    return Text(batch_first=False)
"""


@pytest.mark.parametrize("made", ["Text", "time_first"])
@pytest.mark.parametrize("shape", [(40, 12), (30,)])
def test_whole_numbers_of_a_file_are_ids_for_a_module_that_embeds_them(
    capsys, own_folder, monkeypatch, made, shape
):
    Path("own_text.py").write_text(TEXT)
    monkeypatch.syspath_prepend(own_folder)
    monkeypatch.delitem(sys.modules, "own_text", raising=False)
    np.save("ids.npy", np.random.default_rng(0).integers(0, 12, shape))
    words = ["--module", f"own_text:{made}", "--input", "ids.npy", "--steps", "4"]
    found = answer(capsys, "check", *words, "--seconds", "1000")
    assert found["steps"] == 4 and not math.isnan(found["loss"])
    assert "mixed examples" not in [cause["name"] for cause in found["causes"]]


def test_the_answer_is_written_and_drawn(capsys, own):
    files = ["found.png", "found.json", "found.csv"]
    code, out, _ = run(capsys, "check", "own/train.py:large", "--steps", "100", "--output", *files)
    assert code == 0 and out.endswith("\nfigure: found.png\nfile: found.json\nfile: found.csv\n")
    assert Path("found.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads(Path("found.json").read_text())
    (repair,) = (row for row in written["rows"] if row["what"] == "targets standardised")
    assert written["part"] == "targets" and repair["word"] == "at fault"
    assert {row["training"] for row in written["rows"]} == {"yours", "known good"}
    lines = Path("found.csv").read_text().splitlines()
    assert lines[0].startswith("part,what,training,error,steps") and len(lines) == 1 + len(
        written["rows"]
    )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Found(Result):
    """Stands for the result of a cure."""

    seconds: float

    def summary(self, *, whole: bool = True) -> str:
        return f"cured in {self.seconds} s"


def test_an_answer_is_printed_also_if_its_file_cannot_be_written(capsys, own, monkeypatch):
    def full(path, header, rows):
        raise OutputError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr("rhn.utils.result.write_rows", full)
    code, out, error = run(capsys, "check", "own/train.py:training", "--output", "mine.csv")
    assert code == 2 and "Sequential learns" in out and "cannot write mine.csv" in error


def test_a_cure_takes_the_same_training(capsys, own, monkeypatch):
    given = {}

    def cure(model, x, y, loss_fn, optimizer, *, progress, **options):
        given.update(options, loss=loss_fn, model=model)
        return Found(seconds=options["seconds"])

    stub = ModuleType("trainability.cure")
    stub.cure = cure
    monkeypatch.setitem(sys.modules, "trainability.cure", stub)
    code, out, _ = run(capsys, "cure", "own/train.py:make", "--seconds", "9")
    assert (code, out) == (0, "cured in 9.0 s\n")
    assert given["steps"] == 40 and isinstance(given["loss"], nn.MSELoss)
    assert answer(capsys, "cure", "own/train.py:make")["seconds"] == 1000
    assert answer(capsys, "cure", "--cell", "gru", "--seconds", "3")["seconds"] == 3
    assert given["batch_axis"] == 1 and isinstance(given["model"], PolyphonicModel)


def test_what_a_cure_refuses_is_one_sentence(capsys, own, monkeypatch):
    def cure(*args, **options):
        raise RhnError("nothing can be changed")

    stub = ModuleType("trainability.cure")
    stub.cure = cure
    monkeypatch.setitem(sys.modules, "trainability.cure", stub)
    code, _, err = run(capsys, "cure", "own/train.py:training")
    assert code == 2 and err.startswith("error: nothing can be changed\n")


def test_help_has_examples_and_loads_no_torch():
    code = (
        "import sys, trainability.cli as c\n"
        "try: c.main(['check', '--help'])\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "trainability check train.py:training" in done.stdout
    assert done.stdout.endswith("False\n")

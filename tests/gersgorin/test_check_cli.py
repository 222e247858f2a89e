"""`gersgorin check`: what it prints, what it reads, what it refuses; its exit code says nothing of
the verdict.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tables import for_each

from gersgorin.cli.check import main
from gersgorin.cli.main import main as gersgorin
from gersgorin.loading.network import build_module, load_weights
from rhn.checkpoints import save_checkpoint
from rhn.models import PolyphonicModel
from rhn.utils.io import made_with

SMALL = ["--hidden-size", "8", "--init", "gaussian:1e-4", "--learning-rate", "0.1"]


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


def answer(capsys, *words: str) -> dict:
    code, out, err = run(capsys, *words, "--json")
    assert code == 0, err
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_a_network_that_will_not_train_is_no_failure(capsys):
    found = answer(
        capsys, "--cell", "dt-rnn", "--depth", "6", *SMALL, "--epochs", "10", "--seconds", "60"
    )
    assert {"probability", "interval", "escape_steps", "causes", "verdict"} <= set(found)
    assert found["probability"] < 0.05 and found["outcome"] == "stays"


def test_without_json_it_prints_the_verdict_and_the_numbers(capsys):
    words = ["--cell", "rhn", "--depth", "2", *SMALL, "--transform-bias", "-1"]
    code, out, _ = run(capsys, *words)
    assert (
        code == 0
        and "Under SGD at a learning rate of 0.1, the loss of rhn, depth 2, 8 units, " in out
    )
    assert "learning rate 0.1, 2,100 steps of minibatches, 300 epochs" in out


CHORALES = {"optimizer": "Adam", "steps": 3, "steps_per_epoch": 7}


@for_each(
    ("words", "expected"),
    [
        (
            "jsb-depth-1 --cell gru --epochs 7 --batches 3",
            {"learning_rate": 0.2, "optimizer": "SGD", "steps": 21},
        ),
        ("--cell lstm --input many.npy --hidden-size 8 --epochs 20", {"steps": 2 * 20}),
        ("--cell lstm --input one.npy --hidden-size 8 --epochs 20", {"steps": 20}),
        (
            "--cell rhn --depth 2 --hidden-size 4 --optimizer adam --learning-rate 0.01 --steps 3",
            CHORALES,
        ),
        (
            "jsb-depth-1 --optimizer adam --learning-rate 0.01 --steps 3",
            CHORALES | {"name": "jsb-depth-1"},
        ),
    ],
)
def test_the_training_is_that_of_the_options(capsys, own_folder, words, expected):
    np.save("many.npy", np.sin(np.arange(240.0)).reshape(40, 2, 3))
    np.save("one.npy", np.sin(np.arange(60.0)).reshape(20, 3))
    found = answer(capsys, *words.split())
    assert {name: found[name] for name in expected} == expected
    assert 0 < found["constant_loss"] < (3 if "--input" in words else 12)  # nats a frame


OWN = """
from torch import nn

class Next(nn.Module):
    def __init__(self, input_size, hidden_size=5):
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size, num_layers=2)
        self.output = nn.Linear(hidden_size, input_size)

    def forward(self, x):
        return self.output(self.rnn(x)[0])

def wrapped(input_size):
    return nn.ModuleDict({"next": Next(input_size)})
"""


def test_a_module_of_the_user_s_with_its_weights(capsys, own_folder):
    Path("own_to_check.py").write_text(OWN)
    Path("x.csv").write_text("a,b\n" + "\n".join(f"{np.sin(k)},{np.cos(k)}" for k in range(30)))
    run_on = [
        "--module",
        "own_to_check:Next",
        "--input",
        "x.csv",
        "--epochs",
        "40",
        "--seconds",
        "600",
    ]
    new = answer(capsys, *run_on, "--seed", "3")
    assert new["name"] == "own_to_check:Next"
    module = build_module("own_to_check:Next", input_size=2, seed=3)
    torch.save(module.state_dict(), "w.pt")
    assert (
        answer(capsys, *run_on, "--checkpoint", "w.pt")["first_loss"]
        == new["first_loss"]
        != answer(capsys, *run_on)["first_loss"]
    )
    part = answer(
        capsys,
        "--module",
        "own_to_check:wrapped",
        "--submodule",
        "next",
        *run_on[2:],
        "--seed",
        "3",
    )
    assert part["first_loss"] == new["first_loss"]
    code, _, err = run(capsys, "--module", "own_to_check:wrapped", "--input", "x.csv")
    assert code == 2 and "NotImplementedError" in err and err.count("\n") == 1


def test_a_checkpoint_is_taken_as_it_is(capsys, tmp_path):
    path = tmp_path / "net.safetensors"
    generator = torch.Generator().manual_seed(0)
    save_checkpoint(
        path, PolyphonicModel("gru", hidden_size=8, init="gaussian:1e-4", generator=generator)
    )
    new, stored = (
        answer(capsys, *words, "--learning-rate", "0.1", "--epochs", "1")
        for words in (["--cell", "gru", *SMALL[:4]], ["--checkpoint", str(path)])
    )
    assert stored["first_loss"] == pytest.approx(new["first_loss"])


READER = """
from torch import nn

class Reader(nn.Module):
    def __init__(self, input_size, hidden_size=5):
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, 1)

    def forward(self, x):
        print("called")
        return self.output(self.rnn(x)[0][:, -1])

def absolute(output, y):
    return (output - y).abs().mean()
"""


@pytest.fixture
def targets(own_folder):
    """The words of a check of a module with targets, in a folder with its files."""
    Path("own_reader.py").write_text(READER)
    x = np.random.default_rng(0).random((90, 4, 2))
    np.save("x.npy", x)
    np.save("y.npy", x.sum((1, 2)))
    files = ["--module", "own_reader:Reader", "--input", "x.npy", "--target", "y.npy"]
    return [
        *files,
        "--loss",
        "mse",
        "--optimizer",
        "adam",
        "--learning-rate",
        "0.01",
        "--steps",
        "40",
    ]


def test_a_training_with_targets_is_checked_under_its_optimizer(capsys, targets):
    found = answer(capsys, *targets)
    names = {"probability", "interval", "causes", "verdict"}
    names |= {"escape_steps", "diverges_at", "optimizer"}
    assert names <= set(found)
    assert (found["optimizer"], found["steps"], found["steps_per_epoch"]) == ("Adam", 40, 3)
    epochs = [*targets[:-2], "--epochs", "2", "--batch-size", "30"]
    assert answer(capsys, *epochs)["steps"] == 6
    others = [*targets, "--loss", "own_reader:absolute", "--optimizer", "sgd", "--momentum", "0.9"]
    code, out, _ = run(capsys, *others)
    assert code == 0 and out.startswith("The loss does not change when targets are permuted")
    np.save("y.npy", np.load("y.npy")[:, None])
    code, out, _ = run(capsys, *others)
    assert (
        code == 0
        and "\nUnder SGD at a learning rate of 0.01, the loss of own_reader:Reader " in out
    )


def test_a_cure_writes_the_weights_that_its_lines_give(capsys, targets):
    slow = [
        *targets[: targets.index("0.01")],
        "1e-5",
        "--steps",
        "120",
        "--cure",
        "cured.safetensors",
    ]
    found = answer(capsys, *slow)["cure"]
    assert found["outcome"] == "cured" and found["learning_rate"] > 1e-4
    fresh, written = (
        build_module("own_reader:Reader", input_size=2, hidden_size=5, seed=0) for _ in range(2)
    )
    load_weights(written, Path("cured.safetensors"))
    exec(found["code"], {"model": fresh, "torch": torch, "nn": torch.nn})
    torch.testing.assert_close(written.state_dict(), fresh.state_dict(), rtol=0, atol=0)
    assert gersgorin(["cure", *slow[:-2], "--seconds", "1e-3"]) == 1
    assert "Untested" in capsys.readouterr().out


def test_the_outcome_is_drawn_and_written(capsys, targets):
    found = answer(capsys, *targets, "--output", "outcome.png", "outcome.json", "outcome.csv")
    assert Path("outcome.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads(Path("outcome.json").read_text())
    assert [len(curve) for curve in written.pop("curves")] == [
        trial["steps"] for trial in found["trials"]
    ]
    assert written == {"made_with": made_with()} | found
    assert Path("outcome.csv").read_text().startswith("learning_rate,steps,left,diverged\n")


def test_help_has_examples_and_loads_nothing_heavy():
    code = (
        "import sys, gersgorin.cli.check as c\ntry: c.main(['--help'])\nexcept SystemExit: "
        "pass\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "gersgorin check jsb-depth-6 --cell dt-rnn" in done.stdout and done.stdout.endswith(
        "False\n"
    )

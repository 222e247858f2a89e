"""docs/json.md lists the keys that the commands print with --json, and no others."""

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from tables import for_each

import gersgorin
import trainability.cli
from gersgorin.cli.main import main
from optim_study import TrialRow
from rhn.cells import RHN
from rhn.checkpoints import save_checkpoint
from rhn.training.state import LEFT

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "json.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
NETWORK = ["--cell", "rhn", "--depth", "2", "--hidden-size", "4", "--steps", "8"]
OF_LISTS = "causes[].", "facts[]."


def listed(command: str) -> set[str]:
    """The keys in the first column of the table of a command."""
    rows = re.findall(r"^\| (`.*?) \|", SECTIONS[command], re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`(.*?)`", row)}


def keys(value, before: str = "") -> set[str]:
    """All keys in an object, as on the page."""
    if isinstance(value, dict):
        below = [keys(part, f"{before}{key}.") for key, part in value.items()]
        return {f"{before}{key}" for key in value}.union(*below)
    if isinstance(value, list):
        return set().union(*(keys(part, f"{before[:-1]}[].") for part in value))
    return set()


def printed(capsys, command, words) -> set[str]:
    assert command([*words, "--json", "--output", "figure.png"]) == 0
    return keys(json.loads(capsys.readouterr().out, parse_constant=pytest.fail))


def test_a_section_for_each_command():
    names = {f"gersgorin {row.command}" for row in gersgorin.analyses.ANALYSES.values()}
    others = {"gersgorin recording", "trainability check", "trainability cure"}
    others |= {"Arrays in saved files"}
    assert {*SECTIONS} == names | others


@for_each("row", [*gersgorin.analyses.ANALYSES.values()])
def test_the_keys_of_an_analysis(row, capsys, own_folder, monkeypatch):
    # pictures have tests of their own
    monkeypatch.setattr("rhn.utils.figures.save_figure", lambda path, draw: None)
    found = printed(capsys, main, [row.command, *NETWORK])
    assert found == listed(f"gersgorin {row.command}")


def test_the_keys_of_a_recording(capsys, own_folder):
    x = torch.rand(10, 1, 2)
    gersgorin.Recorder(torch.nn.GRU(2, 4), x, path="run.npz").close()
    assert printed(capsys, main, ["recording", "run.npz"]) == listed("gersgorin recording")


def test_the_arrays_of_saved_files(own_folder):
    networks = {"a": torch.nn.RNN(3, 4), "b": torch.nn.GRU(3, 4)}
    found = gersgorin.compare(networks, torch.rand(6, 3))
    for path in ("one.npz", "one.json"):
        found["a"].save(path)
        found.save(path.replace("one", "all"))
    one, several = (set(np.load(f"{name}.npz").files) for name in ("one", "all"))
    assert one | {"leading"} == listed("Arrays in saved files")
    assert {*json.loads(Path("one.json").read_text())} == one | {"leading", "steps"}
    whole = {"kind", "title", "about", "doubt", "along", "analysis", "labels"}
    assert several == whole.union(*({f"{name}.{key}" for key in one} for name in networks))
    assert {*json.loads(Path("all.json").read_text())} - several == {
        "a.leading",
        "b.leading",
    }


@for_each("question", ["check", "cure"])
def test_the_keys_of_a_question_about_a_training(question, capsys, own_folder):
    words = [question, "--cell", "rnn", "--hidden-size", "4", "--steps", "4", "--seconds", "0.01"]
    found = printed(capsys, trainability.cli.main, words)
    wanted = listed(f"trainability {question}")
    found, wanted = (
        {key for key in each if not key.startswith(OF_LISTS)} for each in (found, wanted)
    )
    assert found == wanted


def test_the_keys_of_a_cause():
    """Of a proof: the optimiser has no weights of the cell."""
    torch.manual_seed(0)
    rnn, head = torch.nn.GRU(2, 3, batch_first=True), torch.nn.Linear(3, 1)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = rnn, head

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    x = torch.randn(30, 5, 2)
    optimizer = torch.optim.SGD(head.parameters(), 0.1)
    loss = torch.nn.functional.mse_loss
    found = trainability.check(
        Model(), x, x.sum((1, 2))[:, None], loss, optimizer, steps=3, seconds=5
    ).to_dict()
    assert found["facts"]
    shown = listed("trainability check")
    wanted = {key.removeprefix("causes[].") for key in shown if key.startswith("causes[].")}
    assert all({*each} == wanted for name in ("facts", "causes") for each in found[name])


@for_each("files", [("a",), ("a", "b")])
def test_the_names_of_networks_before_and_after_training(files, own_folder):
    for name in files:
        Path(name).mkdir(exist_ok=True)
        trained = {"metrics": {"epoch": 3}, "train": {"seed": 0, "cell": "rhn", "depth": 1}}
        save_checkpoint(f"{name}/best.safetensors", RHN(88, 4), **trained)
    words = [",".join(files), "--before-training", "--steps", "2", "--output", "all.json"]
    assert main(["compare", *words]) == 0
    saved = json.loads(Path("all.json").read_text())
    names = {key.rsplit(".", 1)[0] for key in saved if "." in key}
    explained = set(re.findall(r"`([^`]*(?:before training|after epoch)[^`]*)`", PAGE))
    of_file = {name for name in explained if name.startswith(("a:", "a,"))}
    assert names >= (of_file if len(files) > 1 else explained - of_file)
    assert len(of_file) == len(explained - of_file) == 2


def test_each_column_of_the_trials_is_explained():
    page = (DOCS / "guides" / "study.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    assert {key for row in rows for key in re.findall(r"`(.*?)`", row)} == {
        field.name for field in fields(TrialRow)
    }
    assert f"below {LEFT} of `constant_nll`" in page

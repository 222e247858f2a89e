"""Labels, titles and footers of comparisons: what tells the networks apart, and nothing else."""

import json
import random
import re
from pathlib import Path

import pytest
import torch
from readable import readable
from tables import for_each
from torch import nn

from gersgorin import compare, open_run
from gersgorin.cli.compare import main
from gersgorin.comparison import SideBySide
from gersgorin.labels import Identity, labels_of
from gersgorin.results import load
from rhn.cells import GRU, RHN, RNN
from rhn.checkpoints import save_checkpoint


class BigRNN(nn.Module):
    """A user's module around a cell of torch."""

    def __init__(self, units: int = 4, kind: type = nn.RNN):
        super().__init__()
        self.rnn = kind(88, units)

    def forward(self, x):
        return self.rnn(x)[0]


def write_chorales(name: str, key: int) -> None:
    """A file of chorales with one chord of twelve steps in each."""
    pieces = [[[key, key + 4]] * 12] * 2
    Path(name).write_text(json.dumps({"train": pieces, "valid": pieces, "test": pieces}))


@pytest.fixture
def compared(own_folder):
    """A function that runs the command in a folder with trained networks and a user's module."""
    Path("nets_to_label.py").write_text(
        "from tests.gersgorin.test_labels import BigRNN\nfrom torch import nn\n"
        "def rnn(input_size, hidden_size=4):\n    return nn.LSTM(input_size, hidden_size)\n"
    )
    for name, cell, key in (("one", RHN, 60), ("rnn", RHN, 61), ("two", GRU, 62)):
        write_chorales(f"{name}.json", key)
        Path("runs", name).mkdir(parents=True)
        about = {"metrics": {"epoch": 7}, "train": {"seed": 0, "cell": "rhn", "depth": 1}}
        network = cell(88, 4, init="gaussian:0.3")
        data = {"path": f"{name}.json"}
        save_checkpoint(f"runs/{name}/best.safetensors", network, data=data, **about)

    def run(*words: str) -> SideBySide:
        files = ["--output", "both.npz"]
        assert main([*words, "--data", "two.json", "--steps", "4", *files]) == 0
        return load("both.npz")

    return run


def shown(found: SideBySide) -> tuple[list[str], str, str]:
    """The labels of a figure, its title and its footer."""
    figure = found.figure()
    panels = [ax.get_title("left").replace("\n", " ") for ax in figure.axes]
    labels = [re.sub(r" \(discs extend.*", "", panel) for panel in panels[: len(found)]]
    foot = " ".join(figure.get_supxlabel().split())
    return labels, " ".join(figure.get_suptitle().split()), foot


@for_each(
    ("words", "labels"),
    [
        (["runs/one,rhn"], ["trained one, epoch 7", "new rhn"]),
        (["runs/rnn,rhn"], ["trained runs/rnn, epoch 7", "new rhn"]),
        (["runs/one,runs/rnn"], ["runs/one, epoch 7", "runs/rnn, epoch 7"]),
        (
            ["runs/one,rhn", "--set", "hidden_size=4", "hidden_size=5"],
            ["trained one, epoch 7", "new rhn, 4 units", "new rhn, 5 units"],
        ),
        (
            ["runs/one,rhn", "--before-training"],
            ["one, before training", "one, after epoch 7", "new rhn"],
        ),
        (["runs/one", "--before-training"], ["before training", "after epoch 7"]),
        (["rhn", "--set", "depth=1", "depth=2"], ["depth 1", "depth 2"]),
        (["rhn", "--set", "hidden_size=4", "hidden_size=5"], ["4 units", "5 units"]),
        (
            ["rhn", "--set", "transform_bias=-1", "transform_bias=-2"],
            [f"transform bias -{k}" for k in "12"],
        ),
        (
            ["rhn", "--set", "depth=1", "depth=2", "hidden_size=4", "hidden_size=5"],
            [f"rhn, depth {d}, {n} units" for d in (1, 2) for n in (4, 5)],
        ),
        (["rnn,nets_to_label:BigRNN"], ["rnn", "BigRNN"]),
        (["rnn,nets_to_label:rnn"], ["rnn", "nets_to_label:rnn"]),
    ],
)
def test_a_label_is_a_property_only_if_nothing_else_differs(words, labels, compared):
    assert compared(*words).labels.tolist() == labels


def test_a_title_with_trained_and_new_networks_says_which_is_which(compared):
    labels, title, _ = shown(compared("runs/one,rhn", "--set", "depth=2"))
    assert labels == ["trained one, epoch 7", "new rhn"]
    assert re.fullmatch(r"The gradient .* in the trained one and .* in the new RHN", title)
    assert "depth" not in title


def test_the_footer_has_the_origin_and_the_data_of_each_network(compared):
    _, _, foot = shown(compared("runs/one,runs/rnn,rnn,nets_to_label:BigRNN"))
    assert "trained runs/one, epoch 7: rhn, 4 units, one/best.safetensors, gaussian:0.3" in foot
    assert "trained on one.json" in foot and "trained on rnn.json" in foot
    assert (
        "new rnn: rnn, 64 units, uniform:0.04" in foot
        and "BigRNN: RNN, 4 units, nets_to_label:BigRNN" in foot
    )
    assert not re.search(r":\s*;|;\s*;", foot) and "two.json" in foot


def test_a_title_over_seeds_says_median_and_where_the_runs_disagree():
    """The products of these steps are powers of their factors."""

    def draws(*factors: float) -> list:
        return [(lambda x, s, a=a: a * s, torch.ones(1).double()) for a in factors]

    x = torch.zeros(9, 1).double()
    found = compare({"a": draws(0.25, 0.5, 2), "b": draws(0.5, 0.25, 0.5)}, x, over="seeds")
    title = "The gradient grows in 1 of 3 runs in a and halves every step in b (median)"
    assert shown(found)[1] == title
    found = compare({"a": draws(0.25, 0.5, 0.5), "b": draws(0.25, 0.25)}, x, over="seeds")
    title = "The gradient halves every step in a and every 0.5 steps in b (median)"
    assert shown(found)[1] == title
    found = compare({k: draws(0.5, 2, 0.5) for k in "abc"}, x, over="seeds")
    end = "in all 3 networks (medians; runs disagree in 3 of them)"
    assert shown(found)[1] == f"The gradient halves every step {end}"


def test_the_footer_of_bands_leaves_no_network_out():
    networks = {"first": [nn.GRU(3, 6) for _ in range(2)], "second": [nn.LSTM(3, 9)] * 2}
    foot = shown(compare(networks, torch.randn(9, 3), over="seeds"))[2]
    assert foot.startswith(
        "1 sequence; first: GRU, 6 units; second: LSTM, 9 units; 2 seeds, 2 runs"
    )


def test_networks_of_a_list_have_the_names_of_their_classes():
    x = torch.rand(5, 88)
    found = compare([RNN(88, 4), BigRNN(), BigRNN(5), BigRNN(4, nn.LSTM), nn.RNN(88, 4)], x)
    big = [f"BigRNN, {words}" for words in ("RNN, 4 units", "RNN, 5 units", "LSTM, 4 units")]
    assert found.labels.tolist() == ["rnn", *big, "RNN (2)"]


def test_depth_is_not_blamed_in_python_where_the_weights_are_unknown():
    found = compare([RHN(3, 4, 2), RHN(3, 4)], torch.rand(5, 3))
    assert found.labels.tolist() == ["rhn, depth 2", "rhn, depth 1"]
    assert "in the RHN (depth 2)" in shown(found)[1]


def test_runs_along_other_sequences_are_named_by_them():
    cell = RNN(88, 4)
    found = compare([open_run(cell, name) for name in ("bwv269", "bwv66.6")])
    assert found.labels.tolist() == ["rnn, chorale bwv269", "rnn, chorale bwv66.6"]
    assert shown(found)[2].startswith("rnn, 4 units; built with uniform:0.04; valid-4 of")


@for_each("seed", range(30))
def test_no_two_labels_are_the_same_up_to_case(seed):
    draw = random.Random(seed)
    cells = [", ".join(draw.choices(["rnn", "RNN", "Rnn", "4 units"], k=2)) for _ in range(6)]
    networks = [
        Identity(cell=cell, name=draw.choice(["", "rnn (2)", "RNN", "a"]), state=draw.choice(" b"))
        for cell in cells
    ]
    labels = labels_of(networks, only=draw.random() < 0.5)
    assert len({label.casefold() for label in labels}) == len(labels)
    titles = [one.title(label) for one, label in zip(networks, labels, strict=True)]
    assert len({*titles}) == len(titles)


def test_the_title_has_no_two_names_that_are_the_same_up_to_case():
    steps = [lambda x, s: s / 2, lambda x, s: s / 4]
    pairs = zip(("RNN", "rnn"), steps, strict=True)
    found = compare({name: (step, torch.ones(2)) for name, step in pairs}, torch.zeros(9, 1))
    assert [*found] == ["RNN", "rnn"]
    assert shown(found)[1].endswith("every step in RNN and every 0.5 steps in rnn (2)")


@pytest.mark.parametrize("width", ["column", "page"])
def test_the_footer_fits_a_narrow_figure(width, compared):
    found = compared("runs/one,runs/rnn,runs/two,rnn")
    readable(found.plot(figure=width).figure)

"""Default names of figures: short for defaults, different for different options, and possible on
every system.
"""

import itertools
import re
from dataclasses import replace
from pathlib import Path

from tables import for_each

from gersgorin.analyses import ANALYSES
from gersgorin.cli.analysis import options_of
from gersgorin.cli.compare import CompareOptions
from gersgorin.cli.outputs import default_figure

VALUES = {
    "depth": [2, 22],
    "hidden_size": [2, 63],
    "init": ["gaussian:0.1", "gaussian:0.10000001", "uniform:0.1,bias:0"],
    "transform_bias": [-2.5, 2.5],
    "seed": [2],
    "module": ["torch.nn:LSTM"],
    "submodule": ["encoder", "encoder.rnn", "a b", "a*b"],
    "chorale": ["bwv66.6", "test-0"],
    "steps": [2],
    "data": [Path("a.json"), Path("b.json")],
    "input": [Path("a.csv"), Path("a.npy"), Path("a.npz")],
    "networks": [
        "lstm",
        "a.b:make",
        "a.b:Make",
        "a/best.safetensors",
        "b/best.pt",
        "a b.pt",
        "x" * 150,
        "x" * 151,
        "rnn,gru",
        "gru,rnn",
        "rnn,gru:f",
    ],
    "set": [("depth=1", "depth=2"), ("depth=12",), ("init=scaled",), ("rhn.depth=2",)],
    "before_training": [True],
    "sequences": [2],
    "seeds": [2],
}


def test_another_option_or_value_is_another_name_that_fits_every_file_system():
    each = [{name: value} for name, values in VALUES.items() for value in values]
    pairs = [
        one | other for one, other in itertools.combinations(each, 2) if one.keys() != other.keys()
    ]
    names = [
        str(default_figure("", replace(CompareOptions(), **given))) for given in ({}, *each, *pairs)
    ]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"gersgorin-[\w.-]{1,110}\.png", name, re.ASCII) for name in names)


@for_each(
    ("options", "name"),
    [
        ({}, "gersgorin-rhn-bwv269.png"),
        ({"cell": "rhn", "depth": 5}, "gersgorin-rhn-depth5-bwv269.png"),
        (
            {"transform_bias": -4.0, "init": "uniform:0.1"},
            "gersgorin-rhn-uniform-0.1-transform-bias-4-bwv269.png",
        ),
        (
            {"output": (Path("x.npz"),), "json": True, "device": "cpu"},
            "gersgorin-rhn-bwv269.png",
        ),
        ({"checkpoint": Path("runs/one/best.safetensors")}, "gersgorin-one-bwv269.png"),
        (
            {"checkpoint": Path("language.safetensors"), "input": Path("novel.txt")},
            "gersgorin-language-novel.png",
        ),
    ],
)
def test_names_are_short_without_a_checksum(options, name):
    assert str(default_figure("", options_of(ANALYSES["spectra"])(**options))) == name


@for_each(
    ("networks", "name"),
    [
        ("lstm,gru,rhn", "lstm-vs-gru-vs-rhn"),
        ("gru, rhn,gru", "gru-vs-rhn"),
        ("runs/a,runs/b/best.safetensors, c.pt", "a-vs-b-vs-c-pt"),
    ],
)
def test_a_comparison_names_each_network_once_in_order_and_without_folders(networks, name):
    given = CompareOptions(networks=networks, input=Path("lorenz.csv"))
    assert default_figure("", given) == Path(f"gersgorin-{name}-lorenz-csv.png")


def test_a_comparison_names_its_options_and_an_analysis_its_command():
    compared = CompareOptions(networks="rhn", set=("depth=1", "depth=5"))
    name = "gersgorin-rhn-set-depth-1-depth-5-bwv269"
    assert str(default_figure("", compared)) == f"{name}.png"
    assert str(default_figure("gains", compared)) == f"{name}-gains.png"
    many = CompareOptions(networks="rhn", sequences=20, seeds=5)
    assert str(default_figure("", many)) == "gersgorin-rhn-seeds5-sequences20-test.png"
    assert (
        str(default_figure("gains", options_of(ANALYSES["gains"])(depth=2)))
        == "gersgorin-rhn-depth2-bwv269-gains.png"
    )

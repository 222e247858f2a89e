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
from gersgorin.comparing.variants import panel_networks, parse_variants

VALUES = {
    "cell": ["lstm", "a.b:make", "a.b:Make"],
    "depth": [2, 22],
    "hidden_size": [2, 63],
    "init": ["gaussian:0.1", "gaussian:0.10000001", "uniform:0.1,bias:0"],
    "transform_bias": [-2.5, 2.5],
    "seed": [2],
    "checkpoint": [
        Path("a/best.safetensors"),
        Path("b/best.pt"),
        Path("a b.pt"),
        Path("x" * 150),
        Path("x" * 151),
    ],
    "module": ["torch.nn:LSTM"],
    "submodule": ["encoder", "encoder.rnn", "a b", "a*b"],
    "chorale": ["bwv66.6", "test-0"],
    "steps": [2],
    "data": [Path("a.json"), Path("b.json")],
    "input": [Path("a.csv"), Path("a.npy"), Path("a.npz")],
    "variants": [
        "rnn,gru",
        "gru,rnn",
        "rnn,gru:f",
        "depth=1,2",
        "depth=12",
        "bias=-1,0.1",
        "init=scaled",
        "init=scaled,gaussian:0.1",
        "init",
        "a",
        "a,b",
    ],
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
            {"output": (Path("x.npz"),), "json": True, "force": True, "device": "cpu"},
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
    ("options", "networks"),
    [
        ({"variants": "lstm,gru,rhn"}, "lstm-vs-gru-rhn"),
        ({"variants": "gru, rhn,gru", "cell": "lstm"}, "lstm-vs-gru-rhn"),
        ({"variants": "lstm,gru", "cell": "gru"}, "lstm-vs-gru"),
        ({"variants": "irnn"}, "rhn-vs-irnn"),
    ],
)
def test_a_comparison_names_each_network_once_and_in_the_order_of_its_figure(options, networks):
    given = CompareOptions(**options, input=Path("lorenz.csv"))
    assert default_figure("", given) == Path(f"gersgorin-{networks}-lorenz-csv.png")
    drawn = [
        subject.name for (subject,) in panel_networks(given, parse_variants(given.variants), 3)
    ]
    assert networks.replace("-vs", "").split("-") == drawn


@for_each(
    ("checkpoint", "variants", "networks"),
    [
        ("runs/a", "runs/b", "a-vs-b"),
        ("runs/a/best.safetensors", "runs/b/best.safetensors, c.pt", "a-vs-b-c-pt"),
        ("runs/a", "runs/a,runs/b", "a-vs-b"),
        ("rnn.safetensors", "rnn", "rnn-vs-rnn"),
        ("runs/a", "init", "a-vs-init"),
    ],
)
def test_files_are_named_once_and_without_their_folders(checkpoint, variants, networks):
    given = CompareOptions(checkpoint=Path(checkpoint), variants=variants)
    assert default_figure("", given) == Path(f"gersgorin-{networks}-bwv269.png")


def test_a_comparison_names_its_variants_and_an_analysis_its_command():
    compared = CompareOptions(cell="rhn", variants="depth=1,2,5")
    assert str(default_figure("", compared)) == "gersgorin-rhn-vs-depth-1-2-5-bwv269.png"
    assert str(default_figure("gains", compared)) == "gersgorin-rhn-vs-depth-1-2-5-bwv269-gains.png"
    many = replace(compared, variants=None, sequences=20, seeds=5)
    assert str(default_figure("", many)) == "gersgorin-rhn-sequences20-seeds5-test.png"
    assert (
        str(default_figure("gains", options_of(ANALYSES["gains"])(depth=2)))
        == "gersgorin-rhn-depth2-bwv269-gains.png"
    )

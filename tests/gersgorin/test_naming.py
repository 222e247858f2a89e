"""Default names of figures: short for defaults, different for different options, and possible on every system."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

from tables import for_each

from gersgorin.analyses import ANALYSES
from gersgorin.cli.analysis import options_of
from gersgorin.cli.compare import CompareOptions
from gersgorin.cli.outputs import default_figure
from gersgorin.cli.plot import PlotOptions

VALUES = {
    "cell": ["lstm", "a.b:make", "a.b:Make"],
    "depth": [2, 22],
    "hidden_size": [2, 63],
    "init": ["gaussian:0.1", "gaussian:0.10000001", "uniform:0.1,bias:0"],
    "transform_bias": [-2.5, 2.5],
    "seed": [2],
    "checkpoint": [Path("a/best.safetensors"), Path("b/best.pt"), Path("a b.pt"), Path("x" * 150), Path("x" * 151)],
    "module": ["torch.nn:LSTM"],
    "submodule": ["encoder", "encoder.rnn"],
    "chorale": ["bwv66.6", "test-0"],
    "steps": [2],
    "data": [Path("a.json"), Path("b.json")],
    "variants": ["rnn,lstm", "depth=1,2", "depth=12", "bias=-1,0.1", "init"],
    "sequences": [2],
    "seeds": [2],
}


def test_another_option_or_value_is_another_name_that_fits_every_file_system():
    each = [{name: value} for name, values in VALUES.items() for value in values]
    pairs = [one | other for one, other in itertools.combinations(each, 2) if one.keys() != other.keys()]
    names = [str(default_figure("", replace(CompareOptions(), **given))) for given in ({}, *each, *pairs)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"gersgorin-[\w.-]{1,110}\.png", name, re.ASCII) for name in names)


@for_each(
    ("options", "name"),
    [
        ({}, "gersgorin-rhn-bwv269.png"),
        ({"cell": "rhn", "depth": 5}, "gersgorin-rhn-depth5-bwv269.png"),
        ({"transform_bias": -4.0, "init": "uniform:0.1"}, "gersgorin-rhn-uniform-0.1-transform-bias-4-bwv269.png"),
        ({"output": (Path("x.npz"),), "json": True, "force": True, "device": "cpu"}, "gersgorin-rhn-bwv269.png"),
        ({"checkpoint": Path("runs/one/best.safetensors")}, "gersgorin-one-bwv269.png"),
        ({"checkpoint": Path("language.safetensors"), "input": Path("novel.txt")}, "gersgorin-language-novel.png"),
    ],
)
def test_names_are_short_without_a_checksum(options, name):
    assert str(default_figure("", PlotOptions(**options))) == name


def test_a_comparison_names_its_variants_and_an_analysis_its_command():
    compared = CompareOptions(cell="rhn", variants="depth=1,2,5")
    assert str(default_figure("", compared)) == "gersgorin-rhn-vs-depth-1-2-5-bwv269.png"
    assert str(default_figure("gains", compared)) == "gersgorin-rhn-vs-depth-1-2-5-bwv269-gains.png"
    many = replace(compared, variants=None, sequences=20, seeds=5)
    assert str(default_figure("", many)) == "gersgorin-rhn-sequences20-seeds5-test.png"
    assert (
        str(default_figure("gains", options_of(ANALYSES["gains"])(depth=2))) == "gersgorin-rhn-depth2-bwv269-gains.png"
    )


def test_a_checksum_stands_for_what_a_name_cannot_hold():
    name = str(default_figure("", PlotOptions(submodule="a b", module="m:f")))
    assert re.fullmatch(r"gersgorin-m-f-a-b-bwv269-[0-9a-f]{8}\.png", name)
    assert name != str(default_figure("", PlotOptions(submodule="a*b", module="m:f")))

"""Default names of figures: short for defaults, different for different options, and possible on every system."""

import re
from dataclasses import replace
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st
from tables import for_each

from gersgorin.analyses import ANALYSES
from gersgorin.cli.analysis import options_of
from gersgorin.cli.compare import CompareOptions
from gersgorin.cli.naming import default_figure
from gersgorin.cli.plot import PlotOptions

FILES = st.builds(
    lambda folder, stem, end: Path(folder, stem + end),
    st.sampled_from(["", "a", "elsewhere/a", "/tmp/a"]),
    st.sampled_from(["best", "weights", "a b", "bwv269", "x" * 150]),
    st.sampled_from([".safetensors", ".pt", ""]),
)
POOL = {
    "cell": st.sampled_from(["lstm", "dt-rnn", "a.b:make", "a.b:Make"]),
    "depth": st.integers(2, 30),
    "hidden_size": st.integers(1, 63),
    "init": st.sampled_from(["gaussian:0.1", "gaussian:0.10000001", "uniform:0.1,bias:0", "orthogonal"]),
    "transform_bias": st.floats(-9, 9, allow_subnormal=False),
    "seed": st.integers(1, 30),
    "checkpoint": FILES,
    "module": st.sampled_from(["a.b:net", "torch.nn:LSTM"]),
    "submodule": st.sampled_from(["encoder", "encoder.rnn"]),
    "chorale": st.sampled_from(["bwv66.6", "test-0", "a"]),
    "steps": st.integers(1, 300),
    "data": st.builds(Path, st.sampled_from(["a.json", "b.json"])),
    "variants": st.sampled_from(["rnn,lstm", "depth=1,2", "depth=12", "bias=-1,0.1", "init"]),
    "sequences": st.integers(1, 30),
    "seeds": st.integers(1, 30),
}
OPTIONS = st.fixed_dictionaries({}, optional=POOL)


def name_of(given: dict) -> str:
    return default_figure("", replace(CompareOptions(), **given))


@for_each("name", POOL)
@given(data=st.data())
def test_one_more_option_or_another_value_is_another_name(name, data):
    value, others = data.draw(POOL[name]), data.draw(OPTIONS)
    second = data.draw(st.none() | POOL[name])
    assume(
        value != second and getattr(value, "stem", 0) != getattr(second, "stem", 1)
    )  # of a run and its file it is one
    others.pop(name, None)
    assert name_of({**others, name: value}) != name_of(others if second is None else {**others, name: second})


@given(OPTIONS)
def test_names_fit_every_file_system(options):
    assert re.fullmatch(r"gersgorin-[\w.-]{1,110}\.png", name_of(options), re.ASCII)


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
    assert default_figure("", PlotOptions(**options)) == name


def test_a_comparison_names_its_variants_and_an_analysis_its_command():
    compared = CompareOptions(cell="rhn", variants="depth=1,2,5")
    assert default_figure("", compared) == "gersgorin-rhn-vs-depth-1-2-5-bwv269.png"
    assert default_figure("gains", compared) == "gersgorin-rhn-vs-depth-1-2-5-bwv269-gains.png"
    many = replace(compared, variants=None, sequences=20, seeds=5)
    assert default_figure("", many) == "gersgorin-rhn-sequences20-seeds5-test.png"
    assert default_figure("gains", options_of(ANALYSES["gains"])(depth=2)) == "gersgorin-rhn-depth2-bwv269-gains.png"


def test_a_checksum_stands_for_what_a_name_cannot_hold():
    name = default_figure("", PlotOptions(submodule="a b", module="m:f"))
    assert re.fullmatch(r"gersgorin-m-f-a-b-bwv269-[0-9a-f]{8}\.png", name)
    assert name != default_figure("", PlotOptions(submodule="a*b", module="m:f"))

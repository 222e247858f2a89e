"""Default names: short for what is usual, and two figures that differ never get the same."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gersgorin.cli.naming import figure_name, named, recording_name
from gersgorin.cli.plot import Options
from gersgorin.comparison.variants import Variants, settled

NUMBERS = st.floats(-9, 9, allow_subnormal=False)
STEMS = st.sampled_from(["best", "lstm", "rhn", "rhn-depth5", "weights", "a b", "bwv269", "Weights", "x" * 150])
FOLDERS = st.sampled_from(["", "runs/a", "runs/b", "/tmp/a", "a"])


def files(*suffixes: str):
    return st.builds(lambda folder, stem, end: Path(folder, stem + end), FOLDERS, STEMS, st.sampled_from(suffixes))


POOL = {
    "cell": st.sampled_from(["lstm", "dt-rnn", "a.b:make", "a-b:make", "a.b:Make"]),
    "depth": st.integers(2, 30),
    "hidden_size": st.integers(1, 63),
    "init": st.sampled_from(["gaussian:0.1", "gaussian:0.10000001", "uniform:0.1,bias:0", "orthogonal"]),
    "transform_bias": st.floats(-9, 9, allow_subnormal=False).filter(lambda value: value != -2)
    | st.sampled_from([1.0, 1 + 1e-12]),
    "compared": st.sampled_from([("depth", (1, 2)), ("depth", (12,)), ("bias", (-1.0, 0.1)), ("cell", ("gru",))]),
    "checkpoint": files(".safetensors", ".pt", ""),
    "compare_init": st.just(True),
    "module": st.sampled_from(["a.b:make", "torch.nn:LSTM"]),
    "submodule": st.sampled_from(["encoder", "encoder.rnn"]),
    "chorale": st.sampled_from(["bwv66.6", "test-0", "a", "2-of-test"]),
    "input": files(".npy", ".npz", ".csv"),
    "unit": st.sampled_from(["0.1 s", "0.1s"]),
    "sequences": st.integers(1, 30),
    "data": files(".json", ".pickle"),
    "seed": st.integers(1, 30),
    "seeds": st.integers(1, 30),
    "steps": st.integers(1, 300),
    "layer": st.integers(1, 9),
    "leading": st.integers(1, 300),
    "discs": st.sampled_from(["column", "both"]),
    "dtype": st.just("float32"),
    "show_discs": st.just(True),
    "lyapunov": st.integers(1, 20),
    "repeat": st.integers(1, 9),
    "fixed_points": st.integers(1, 20),
    "norm_bounds": st.just(True),
    "pseudospectra": st.just(True),
    "memory_limit": st.floats(0.1, 99),
}
KINDS = [
    ("cell", "depth", "hidden_size", "init", "transform_bias", "compared"),
    ("checkpoint", "compare_init"),
    ("module", "submodule"),
]
READS = [("chorale",), ("input", "unit"), ("sequences", "data")]
REST = tuple(POOL)[tuple(POOL).index("seed") :]


@st.composite
def asked(draw, beside: str | None = None) -> dict:
    """Options that go together, and with this one."""
    groups = [[group for group in kinds if beside in group] or kinds for kinds in (KINDS, READS)]
    names = [name for kinds in groups for name in draw(st.sampled_from(kinds))]
    return {name: draw(POOL[name]) for name in (*names, *REST) if name != beside and draw(st.integers(0, 2)) == 0}


def name_of(options: dict) -> str:
    options = dict(options)
    variants = options.pop("compared", None)
    return figure_name(Options(**options), variants and Variants(*variants))


@given(asked(), asked())
def test_what_differs_is_called_differently_and_all_names_are_short(one, other):
    assume(one != other)
    assert name_of(one) != name_of(other)
    assert all(len(Path(name_of(options)).stem + "-pseudospectra.png") < 120 for options in (one, other))


@pytest.mark.parametrize("name", POOL)
@settings(max_examples=30)
@given(data=st.data())
def test_one_option_more_or_of_another_value_is_another_name(name, data):
    value, others = data.draw(POOL[name]), data.draw(asked(beside=name))
    second = data.draw(st.none() | POOL[name])
    assume(value != second)
    changed = {} if second is None else {name: second}
    assert name_of({**others, name: value}) != name_of(others | changed)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, "gersgorin-rhn-bwv269.png"),
        ({"cell": "rhn", "depth": 5}, "gersgorin-rhn-depth5-bwv269.png"),
        ({"depth": 1, "hidden_size": 64, "transform_bias": -2.0}, "gersgorin-rhn-bwv269.png"),
        ({"chorale": "BWV 66.6", "seed": 3, "steps": 9}, "gersgorin-rhn-seed3-bwv66.6-steps9.png"),
        ({"output": Path("x.png"), "json": True, "animate": True, "device": "cpu"}, "gersgorin-rhn-bwv269.png"),
        ({"checkpoint": Path("folder")}, "gersgorin-folder-bwv269.png"),
        ({"checkpoint": Path("folder/best.safetensors")}, "gersgorin-folder-bwv269.png"),
        ({"checkpoint": Path("language.safetensors"), "text": Path("novel.txt")}, "gersgorin-language-novel.png"),
        ({"cell": "lstm", "input": Path("sine.npy")}, "gersgorin-lstm-sine.png"),
        ({"sequences": 2, "seeds": 2}, "gersgorin-rhn-2-of-test-2-seeds.png"),
    ],
    ids=str,
)
def test_names_are_short_for_what_is_usual(asked, name):
    assert figure_name(Options(**asked), None) == name


def test_of_compared_cells_each_is_told():
    options, variants = settled(Options(cell="rhn", compare="depth=1,2,5"))
    assert figure_name(options, variants) == "gersgorin-rhn-vs-depth-1-2-5-bwv269.png"
    options, variants = settled(replace(options, compare="rnn,lstm"))
    assert figure_name(options, variants) == "gersgorin-rhn-vs-rnn-lstm-bwv269.png"


def test_recordings_of_two_folders_are_told_apart():
    paths = [Path(folder, "record.npz") for folder in ("a/run", "b/run", "run")]
    assert len({recording_name(path) for path in paths}) == 3
    assert recording_name(paths[2]) == recording_name(Path("run")) == "gersgorin-run.png"


def test_a_name_holds_no_separator():
    assert "/" not in named(["a/b", "c\\d", "e\nf"]) and "\n" not in named(["a/b", "c\\d", "e\nf"])

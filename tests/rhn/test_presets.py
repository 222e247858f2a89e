"""Presets are the paper's networks: each is complete, and has as many parameters as the paper
prints; those for chorales are the largest of their budget.
"""

from dataclasses import MISSING, fields

import pytest

from rhn.cells import CELLS, RHN, cell_options
from rhn.errors import InvalidInputError
from rhn.training.build import build_model, parameters
from rhn.training.config import ChoraleConfig, LanguageConfig
from rhn.training.configure import preset
from rhn.training.presets import PRESETS

KINDS = (ChoraleConfig, LanguageConfig)


def test_every_preset_is_listed(answer):
    listed = {row.pop("name"): row for row in answer("rhn presets")}
    assert list(listed) == list(PRESETS)
    for name, row in listed.items():
        config = preset(name)
        fields = {"layers": 1, "tied": False} | vars(config)
        same = {key: fields[key] for key in ("cell", "depth", "layers", "hidden_size", "tied")}
        assert row == same | {
            "parameters": parameters(config),
            "published_test": PRESETS[name].test,
        }
    for name, loss in {"ptb-depth-4": 70.9, "ptb-depth-4-tied": 68.6, "ptb-sota": 65.4}.items():
        assert listed[name]["published_test"] == loss


def test_every_preset_has_its_fields(snapshot):
    rows = {kind.__name__: {f.name: f.default for f in fields(kind)} for kind in KINDS}
    for name in PRESETS:
        config = preset(name)
        usual = {f.name: f.default for f in fields(config)}
        rows[name] = {key: v for key, v in vars(config).items() if v != usual[key]}
    known = {name: {k: v for k, v in row.items() if v is not MISSING} for name, row in rows.items()}
    assert "\n".join(f"{name}: {row}" for name, row in known.items()) == snapshot


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("ptb-sota", 23),
        *[(f"ptb-depth-{depth}", 32) for depth in range(1, 11)],
        *[(f"ptb-{name}", 31.8) for name in ("variational-lstm", "lstm", "gru", "dt-rnn")],
        ("ptb-depth-1-tied", 19.3),
        ("ptb-depth-10-tied", 23.5),
        ("enwik8-5x1500", 23.4),
        ("enwik8-10x1000", 20.7),
        ("enwik8-sota", 46.0),
        ("text8-10x1000", 20.1),
        ("text8-sota", 45.2),
        ("ptb-variational-lstm-tied", 51.0),  # 10^4 1500 + 2 (8 1500^2 + 4 1500) + 10^4
        ("ptb-theano", 23.5),
        ("ptb-torch7", 42.0),  # 2 10^7 words + 22 10^6 recurrent weights + biases
        # enwik8-sota with (1500 - 205) (205 + 2 1500) more: a wider embedding
        ("enwik8-theano", 50.1),
        ("enwik8-torch7", 50.1),
    ],
)
def test_a_preset_has_as_many_parameters_as_the_paper_prints(name, millions):
    # the last one printed; 5 x 1500 has 23.48, printed as 23.4
    digit = 0.1 if isinstance(millions, float) else 1
    assert abs(parameters(preset(name)) / 1e6 - millions) < digit


def test_a_smaller_vocabulary_has_a_row_and_a_bias_less_for_each_word():
    """With tied weights."""
    whole, smaller = (preset("ptb-sota", vocabulary_size=size) for size in (None, 9_000))
    assert parameters(whole) - parameters(smaller) == 1000 * (830 + 1)


OPTIONS = {
    "rnn": {"nonlinearity": "relu"},
    "irnn": {"nonlinearity": "tanh"},
    "dt-rnn": {"nonlinearity": "relu"},
    "dts-rnn": {"skip": "last", "nonlinearity": "relu"},
    "rhn": {"coupled": False, "activation": "relu", "gate_constant": -1.5},
    "lstm": {"forget_bias": 1.0},
    "gru": {"update_bias": 1.0},
}
# by the paper: depth -> units for 150,000 parameters a layer
PAPER = {
    ("rhn", ""): {1: 215, 2: 242, 4: 257, 6: 262},
    ("dt-rnn", ""): {1: 308, 2: 345, 4: 365, 6: 372},
    ("dts-rnn", ""): {1: 308, 2: 287, 4: 280, 6: 277},
    ("dts-rnn", "skip"): {1: 308, 2: 287, 4: 328, 6: 345},
}
SQUARES = {"lstm": (4, 4, 4), "gru": (3, 3, 4)}


def count(cell: str, n: int, depth: int, options: dict) -> int:
    """The parameters of a network of chorales, from the equations of its cell: 88 keys in and
    out.
    """
    deep = {
        "rhn": (2 * depth, 2, 2 * depth),
        "dt-rnn": (depth, 1, depth),
        "dts-rnn": (2 * depth - 1, 1, depth),
    }
    squares, rows, biases = (deep | SQUARES).get(cell, (1, 1, 1))
    if options.get("coupled") is False:
        squares, rows, biases = 3 * depth, 3, 3 * depth
    if options.get("skip") == "last":
        squares = depth + min(1, depth - 1)
    return rows * n * 88 + squares * n * n + biases * n + (n + 1) * 88


@pytest.mark.parametrize("cell", CELLS)
def test_a_preset_with_options_is_the_largest_network_of_its_budget(cell, answer):
    assert {*OPTIONS[cell]} == {*cell_options(cell)} - {"transform_bias"}
    for option in ("", *OPTIONS[cell]):
        options = {option: OPTIONS[cell][option]} if option else {}
        for depth in (1, 2, 4, 6):
            config = preset(f"jsb-depth-{depth}", cell=cell, cell_options=options)
            layers, budget = config.depth, 150_000 * depth
            units = max(n for n in range(1, 1200) if count(cell, n, layers, options) <= budget)
            assert layers == (depth if cell in ("rhn", "dt-rnn", "dts-rnn") else 1)
            assert config.hidden_size == units
            assert parameters(config) == count(cell, units, layers, options)
            assert units == PAPER.get((cell, option), {}).get(depth, units)
        made = build_model(config).cells[0]
        assert {name: getattr(made, name) for name in options} == options
        words = [f"--cell-option={option.replace('_', '-')}={options[option]}"] if option else []
        assert answer(f"rhn train jsb-depth-6 --cell {cell} --dry-run", *words) == vars(config)


def test_changes_are_applied_before_the_budget_and_another_cell_drops_options():
    deep = preset("jsb-depth-6", depth=3)
    assert deep.hidden_size == max(n for n in range(400) if count("rhn", n, 3, {}) <= 900_000)
    assert preset("jsb-depth-6", hidden_size=7, cell="lstm").hidden_size == 7
    assert preset("jsb-depth-4", cell="dt-rnn").transform_bias is None
    there_and_back = preset(preset("ptb-torch7"), cell="gru", depth=1)
    assert there_and_back.transform_bias is None and there_and_back.cell_options == {}
    for value in (-3.0, "-3"):
        found = preset("jsb-depth-2", cell_options={"transform_bias": value})
        assert found == preset("jsb-depth-2", transform_bias=-3.0)


def test_a_bias_of_the_transform_gate_is_given_to_cells_that_have_it_and_refused_for_others():
    for bias in (-3.5, None):
        config = preset("jsb-depth-2", transform_bias=bias)
        assert config.options["transform_bias"] == bias
        assert build_model(config).cells[0].transform_bias == bias
    assert RHN(3, 4, 2).transform_bias is not None, "None is not the cell's own"
    assert "transform_bias" not in preset("jsb-depth-2", cell="lstm", transform_bias=None).options
    with pytest.raises(InvalidInputError, match=r"option of lstm is .transform_bias.: expected"):
        build_model(preset("jsb-depth-2", cell="lstm", transform_bias=-1.0))

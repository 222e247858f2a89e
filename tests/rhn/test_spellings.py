"""An option of a cell means the same network however it is spelled: as an option of the command, in
a file, or in Python.
"""

import json
from dataclasses import asdict

import pytest

from rhn.cells import CELLS, cell_options
from rhn.cli import main as cli
from rhn.presets import CHORALE_PRESETS, PRESETS, parameters, preset

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


def count(cell: str, n: int, depth: int, options: dict) -> int:
    """The parameters of a network of chorales, from the equations of its cell: 88 keys in and
    out.
    """
    squares, rows, biases = {
        "rhn": (2 * depth, 2, 2 * depth),
        "dt-rnn": (depth, 1, depth),
        "dts-rnn": (2 * depth - 1, 1, depth),
        "lstm": (4, 4, 4),
        "gru": (3, 3, 4),
    }.get(cell, (1, 1, 1))
    if options.get("coupled") is False:
        squares, rows, biases = 3 * depth, 3, 3 * depth
    if options.get("skip") == "last":
        squares = depth + min(1, depth - 1)
    return rows * n * 88 + squares * n * n + biases * n + (n + 1) * 88


def largest(cell: str, depth: int, options: dict) -> tuple[int, int]:
    """(Units, parameters) of the largest network of chorales within the budget of a depth."""
    layers = depth if cell in ("rhn", "dt-rnn", "dts-rnn") else 1
    units = max(n for n in range(1, 1200) if count(cell, n, layers, options) <= 150_000 * depth)
    return units, count(cell, units, layers, options)


@pytest.fixture
def spellings(tmp_path, capsys):
    """spellings(preset, cell, options): the configuration by every way to give them."""
    file = tmp_path / "mine.json"

    def printed(*words) -> dict:
        capsys.readouterr()
        assert cli.main(["train", *map(str, words), "--dry-run"]) == 0
        return json.loads(capsys.readouterr().out)

    def run(name: str, cell: str, options: dict) -> dict[str, dict]:
        words = [w for o, v in options.items() for w in ("--cell-option", f"{o}={v}")]
        entries = {"cell": cell, "cell_options": options}
        own = {} if PRESETS[name].values.get("cell", "rhn") == cell else {"cell": cell}
        chosen = {**own, "cell_options": options}
        found = {
            "preset": asdict(preset(name, **entries)),
            "command": printed(name, "--cell", cell, *words),
        }
        cell_words = ["--cell", cell] if own else []
        found["preset last"] = printed(*cell_words, *words, name)
        file.write_text(json.dumps({"preset": name, **chosen}))
        found["file with a preset"] = printed("--config", file)
        file.write_text(json.dumps(entries))
        found["preset and file"] = printed(name, "--config", file)
        file.write_text(json.dumps({"preset": name, **own}))
        found["file and option"] = printed("--config", file, *words)
        file.write_text(json.dumps(found["command"]))
        found["file as printed"] = printed("--config", file)
        return found

    return run


def test_the_table_of_options_is_complete():
    assert {*OPTIONS} == {*CELLS}
    for cell, options in OPTIONS.items():
        assert {*options} == {*cell_options(cell)} - {"transform_bias"}


@pytest.mark.parametrize("cell", OPTIONS)
def test_every_spelling_of_an_option_makes_the_largest_network_of_the_budget(
    cell, spellings, subtests
):
    for name in CHORALE_PRESETS:
        depth = int(name.rpartition("-")[2])
        if depth not in (2, 6):
            continue
        for option in ("", *OPTIONS[cell]):
            options = {option: OPTIONS[cell][option]} if option else {}
            with subtests.test(f"{name} {options}"):
                found = spellings(name, cell, options)
                assert all(config == found["preset"] for config in found.values())
                config = preset(name, cell=cell, cell_options=options)
                units, size = largest(cell, depth, options)
                assert (config.hidden_size, parameters(config)) == (units, size)
                if papers := PAPER.get((cell, option)):
                    assert config.hidden_size == papers[depth]


def test_the_network_of_the_paper_with_a_shortcut_to_the_last_layer_alone():
    config = preset("jsb-depth-6", cell="dts-rnn", cell_options={"skip": "last"})
    assert (config.hidden_size, parameters(config)) == (345, 896_053)


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in CHORALE_PRESETS])
def test_every_spelling_of_an_option_of_a_language_model_is_one_configuration(name, spellings):
    cell = preset(name).cell
    for option, value in OPTIONS[cell].items():
        found = spellings(name, cell, {option: value})
        assert all(config == found["preset"] for config in found.values())
        expected = asdict(preset(name))
        expected["cell_options"] |= {option: value}
        assert found["preset"] == expected


def test_the_budget_is_applied_after_everything_else():
    deep = preset("jsb-depth-6", depth=3)
    assert deep.hidden_size == max(n for n in range(400) if count("rhn", n, 3, {}) <= 900_000)
    assert preset("jsb-depth-6", hidden_size=7, cell="lstm").hidden_size == 7


def test_another_cell_starts_without_the_options_of_the_first():
    assert preset("ptb-torch7", cell="lstm", depth=1).cell_options == {}
    there_and_back = preset(preset("ptb-torch7"), cell="gru", depth=1)
    assert there_and_back.transform_bias is None and there_and_back.cell_options == {}


def test_a_transform_bias_is_one_value_however_it_is_written():
    field = preset("jsb-depth-2", transform_bias=-3.0)
    for value in (-3.0, "-3"):
        assert preset("jsb-depth-2", cell_options={"transform_bias": value}) == field

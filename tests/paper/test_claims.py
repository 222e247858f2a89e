"""The page on the paper: what is stored agrees with what the rows say, and with what the code
measures.
"""

import re
from pathlib import Path

import pytest

from paper import __main__ as page_on_paper
from paper import jacobians, layers, optimisation
from paper.claims import Claim, load_claims
from paper.settings_that_train import read_orders
from paper.values import read_values, text_of, write_values
from rhn.training.presets import PRESETS

STORED, CLAIMS = read_values(), load_claims()
ROWS = [claim for rows in CLAIMS.values() for claim in rows]
REACHED = {"yes", "in part", "no", "not measured"}
PAPER = {
    "figures": ["1", "2", "3", "4", "5(a)", "5(b)", "6"],
    "tables": ["1", "2", "3"],
    "equations": ["10", "11", "12", "13", "14", "15"],
}


def name_of(claim: Claim) -> str:
    return f"{claim.where}, {claim.words}"


@pytest.mark.parametrize("claim", ROWS, ids=name_of)
def test_the_stored_values_allow_what_a_row_says(claim):
    assert claim.broken(STORED) == {}
    assert claim.reached in REACHED


@pytest.mark.parametrize("claim", ROWS, ids=name_of)
def test_a_row_quotes_values_that_exist(claim):
    assert claim.values_in() <= STORED.keys()


@pytest.mark.parametrize("claim", ROWS, ids=name_of)
def test_a_row_with_values_has_an_allowance(claim):
    assert bool(claim.allowed) == bool(claim.values_in())


@pytest.mark.parametrize("section", PAPER)
def test_every_figure_table_and_equation_has_one_row(section):
    numbers = [claim.where.split()[1] for claim in CLAIMS[section]]
    assert numbers == PAPER[section]


@pytest.mark.parametrize(
    ("value", "is_broken"),
    [
        pytest.param(1.0, False, id="least"),
        pytest.param(2.0, False, id="most"),
        pytest.param(0.99, True, id="below"),
        pytest.param((2.01, 0.0, 3.0), True, id="above, with an interval around"),
        pytest.param((1.5, 0.0, 3.0), False, id="inside, with a wide interval"),
    ],
)
def test_a_value_outside_its_allowance_is_found(value, is_broken):
    claim = Claim("figure 0", "words", "{a}", "yes", "command", allowed={"a": (1.0, 2.0)})
    assert claim.broken({"a": value}) == ({"a": value} if is_broken else {})


def test_a_missing_value_is_a_dash_and_another_one_has_three_digits():
    claim = Claim("figure 0", "words", "{a}; {b}", "in part", "run", note="of {c}")
    line = claim.line({"a": (0.12345, 0.1, 1.0), "c": 60.0})
    assert line == "| figure 0 | words | - | 0.123 (0.1 to 1); - | in part | of 60 | `run` |"


def test_the_presets_of_the_tables_exist():
    text = " ".join(f"{claim.ours} {claim.note} {claim.command}" for claim in CLAIMS["tables"])
    named = set(re.findall(r"\b(?:ptb|enwik8|text8)-[\w-]+", text))
    assert len(named) >= 8 and named <= {*PRESETS}


def test_the_page_is_that_of_the_stored_values():
    assert page_on_paper.PAGE.read_text() == page_on_paper.page(STORED, read_orders())


def test_values_are_read_back(tmp_path: Path):
    values = {"count": 2000.0, "share": (56.712, 43.2, 69.4), "small": 0.0012345}
    write_values(values, tmp_path / "values.csv")
    found = read_values(tmp_path / "values.csv")
    assert found == {"count": 2000.0, "share": (56.7, 43.2, 69.4), "small": 0.00123}


def same(found, name: str) -> bool:
    """True for a stored value with the same text, up to rounding in another processor."""
    flat, stored = ((v if isinstance(v, tuple) else (v,)) for v in (found, STORED[name]))
    return stored == pytest.approx(flat, rel=0.02, abs=1e-3)


@pytest.mark.parametrize(
    "measure",
    [
        pytest.param(optimisation.figure_4, id="figure 4"),
        pytest.param(optimisation.figure_5a, id="figure 5(a)"),
        pytest.param(jacobians.movement, id="movement"),
        pytest.param(jacobians.equations_10_to_13, id="equations 10 to 13"),
        pytest.param(jacobians.rows, id="jacobians", marks=pytest.mark.slow),
        pytest.param(layers.rows, id="layers", marks=pytest.mark.slow),
    ],
)
def test_measured_values_are_stored(measure):
    found = measure()
    assert {name: text_of(v) for name, v in found.items() if not same(v, name)} == {}


def test_every_module_with_rows_is_found():
    names = {f"paper.{path.stem}" for path in Path(page_on_paper.__file__).parent.glob("*.py")}
    assert names - {"paper.__init__", "paper.__main__"} == set(page_on_paper.modules())

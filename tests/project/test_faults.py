"""Faults: which places of a function are changed, and whether a missing test shows."""

import subprocess

import faults
import pytest

SOURCE = '''
def mean_of_positive(values):
    """The mean."""
    kept = [value for value in values if value > 0 and value < 9]
    if not kept:
        raise ValueError(f"{len(values) + 1} values")
    return sum(kept) / len(kept)


def title(value) -> str:
    return "above 1" if value > 1 else "below"


def draw_points(values, size):
    return size * 2
'''
TEST = """
import pytest

from package.numbers import mean_of_positive


@pytest.mark.parametrize("values", [[1.0, 3.0]], ids=["|a - b|"])
def test_mean(values):
    assert mean_of_positive(values) == 2.0


@pytest.mark.parametrize("values", [[1.0, 3.0]], ids=["a - b"])
def test_that_fails(values):
    assert mean_of_positive(values) == 3.0
"""
CONFTEST = """
from package.numbers import mean_of_positive

assert mean_of_positive([1.0, 3.0]) < 3.0
"""
REFUSAL = """
import pytest

from package.numbers import mean_of_positive


def test_no_values():
    with pytest.raises(ValueError, match="2 values"):
        mean_of_positive([9.0])
"""


def test_each_place_of_a_function_that_computes_is_changed_alone():
    found = list(faults.faults_of(SOURCE, "numbers.py"))
    assert {(fault.before, fault.after) for fault in found} == {
        ("value > 0 and value < 9", "((value > 0) or (value < 9))"),
        ("value > 0 and value < 9", "((value > 0))"),
        ("value > 0 and value < 9", "((value < 9))"),
        ("value > 0 and value < 9", "True"),
        ("value > 0", "value >= 0"),
        ("value < 9", "value <= 9"),
        ("0", "1"),
        ("9", "10"),
        ("sum(kept) / len(kept)", "sum(kept) * len(kept)"),
        ("sum", "mean"),
    }
    for fault in found:
        lines = [line for line in SOURCE.splitlines() if line not in fault.source.splitlines()]
        assert len(lines) == 1 and fault.before in lines[0]


def test_the_same_seed_draws_the_same_faults(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "numbers.py").write_text(SOURCE)
    draw = lambda seed: list(faults.drawn_faults(tmp_path, "package", 5, seed))  # noqa: E731
    assert draw(3) == draw(3) != draw(4)


@pytest.mark.slow
def test_a_fault_that_no_test_catches_survives(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for path, text in {
        "package/__init__.py": "",
        "package/numbers.py": SOURCE,
        "tests/conftest.py": CONFTEST,
        "tests/package/test_numbers.py": TEST,
        faults.REFUSALS: REFUSAL,
        "tests/numbers/test_recorded.py": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a"]
        subprocess.run(["git", *identity, *words], check=True)
    assert faults.main("package", "10", "0") == 1
    rows = [row.split(maxsplit=2) for row in capsys.readouterr().out.splitlines()]
    found = {text: word for word, _, text in rows[:-1]}
    assert found["mean_of_positive: 0 -> 1"] == "caught"  # no test begins
    assert found["mean_of_positive: 9 -> 10"] == "caught"  # by the refusal
    assert found["mean_of_positive: value > 0 -> value >= 0"] == "SURVIVED"


def test_every_equivalent_fault_is_one_of_the_present_code():
    names = [row.partition(" | ")[0] for row in faults.EQUIVALENT.read_text().splitlines()]
    root = faults.EQUIVALENT.parents[1]
    known = {
        fault.name
        for path in {name.split()[0] for name in names}
        for fault in faults.faults_of((root / path).read_text(), path)
    }
    assert {*names} <= known

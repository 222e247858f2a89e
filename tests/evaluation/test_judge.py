"""The judge of `check` says what is right by owner or experiment; a stopped run goes on."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from evaluation.judge import (
    GRU,
    OPEN,
    PARTS,
    PARTS_OF_FACTS,
    RIGHT,
    WRONG,
    Judge,
    main,
    read,
    shown,
    table,
)
from trainability.changes import STARRABLE
from trainability.facts import FACTS, LOOP, NEXT, OF_Y, OTHERS, RANGE, SECOND, Fact

STORED = Path(__file__).resolve().parents[2] / "docs" / "results" / "check.csv"
TABLE = """set,number,part,replacement,errors,share,closes,note
fresh,701,as written,,1.0,0.00,no,
fresh,701,network,GRU of 64 units,0.3,0.75,no,
fresh,701,inputs,standardised,0.4,0.65,no,
"""
THREADS = """set,number,address,date,cause,part,symptom,reason
fresh,701,https://x,2020,a cause,order | targets,,
fresh,702,https://x,2020,a cause,data,,
"""


@pytest.fixture
def judge(tmp_path):
    for name, text in (("threads.csv", THREADS), ("parts.csv", TABLE)):
        (tmp_path / name).write_text(text)
    return Judge(tmp_path / "threads.csv", tmp_path / "parts.csv")


def test_every_row_that_can_have_a_star_has_a_part():
    assert set(PARTS) == set(STARRABLE)
    assert set(PARTS_OF_FACTS) <= set(FACTS)


@pytest.mark.parametrize(
    ("label", "verdict"),
    [
        pytest.param("shuffled", (RIGHT, ""), id="of the owner, though nobody measured it"),
        pytest.param(GRU, (RIGHT, "0.75"), id="right by experiment"),
        pytest.param("inputs standardised", (WRONG, "0.65"), id="wrong by experiment"),
        pytest.param("a tenth of the rate", (OPEN, ""), id="not measured"),
    ],
)
def test_the_verdict_on_a_star(judge, label, verdict):
    assert judge.judged(("fresh", "701"), label) == verdict


def test_the_stored_stars_have_their_stored_verdicts():
    judge, starred = Judge(), [row for row in read(STORED) if row["verdict"]]
    assert len(starred) == 61
    for row in starred:
        found = judge.judged((row["set"], row["number"]), row["first"])
        assert found == (row["verdict"], row["share"]), row["number"]


def test_the_part_data_takes_in_inputs_and_targets(judge):
    assert judge.is_owners(("fresh", "702"), {"targets"})
    assert not judge.is_owners(("fresh", "702"), {"network"})


def test_facts_that_name_a_part():
    def of(name, numbers, sound=None):
        return Fact(name, numbers, sound)

    def names(*facts, kind="numbers"):
        every = {name: of(name, None) for name in FACTS} | {f.name: f for f in facts}
        return shown(SimpleNamespace(facts=tuple(every.values()), kind=kind))

    assert names() == []
    assert names(of(OTHERS, (3,), (0,))) == [OTHERS]
    outside = of(RANGE, (0.0, 1.0)), of(OF_Y, (1.0, 5.0))
    assert names(*outside) == [RANGE] and names(*outside, kind="classes") == []
    assert names(of(LOOP, (2.0, 1.0))) == [LOOP] and names(of(LOOP, (1.2, 1.0))) == []


def test_the_counts_of_a_table():
    def row(**own):
        keys = "refused stars verdict helps seeds facts"
        return {"set": "later", "number": "804", **dict.fromkeys(keys.split(), "")} | own

    seeds = '{"none": [1.0, 1.0, 1.0], "a GRU of 64 units": [0.1, 0.2, 0.1]}'
    rows = [
        row(stars=GRU, verdict=RIGHT, helps="yes"),
        row(number="805", stars=GRU, verdict=WRONG, helps="no", facts=f"{NEXT} | {RANGE}"),
        row(number="807", refused="no"),
        row(set="later_healthy", number="quantiles", stars=GRU, seeds=seeds),
        row(set="later_healthy", number="reber", facts=RANGE),
        row(set="later_healthy", number="speech", facts=SECOND),
    ]
    lines = table(rows).splitlines()
    assert lines[0] == (
        "later: trainings: 3, refused: 1, with a star: 2, with a fact with a star: 1, "
        "first star right: 1, first star wrong: 1, fact or star of a right part: 1, "
        "always the GRU: right: 2, always the GRU: wrong: 1"
    )
    assert lines[1] == (
        "later_healthy: trainings: 3, refused: 0, with a star: 1, with a fact with a star: 1"
    )
    assert lines[2].endswith("none [1.0, 1.0, 1.0], a GRU of 64 units [0.1, 0.2, 0.1]")


def test_a_run_writes_a_row_at_once_and_goes_on(tmp_path, capsys):
    out = tmp_path / "rows.csv"
    words = ["run", str(out), "--set", "development", "--only", "21"]
    main(words)
    first = out.read_text()
    assert first.splitlines()[1].startswith("development,21,x has NaN in 170")
    main(words)
    assert out.read_text() == first
    main(["table", str(out)])
    assert "development: trainings: 1, refused: 1" in capsys.readouterr().out

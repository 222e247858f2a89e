"""The table of right parts: shares of the gap between as written and repaired."""

import json

import pytest

from evaluation.clock import count_steps, until_cut_off
from evaluation.parts import Thread, best_replacements, read, table_of
from evaluation.threads.development import DEVELOPMENT


def rows(**errors):
    """Rows of a thread by part: a list of errors, one a seed."""
    return [
        measured(part.replace("_", " "), seed, error)
        for part, values in errors.items()
        for seed, error in enumerate(values, 1)
    ]


def measured(part, seed, error):
    row = {"set": "fresh", "number": "701", "seed": seed, "part": part, "replacement": ""}
    row |= {"error": error, "steps": 9, "of": 9}
    row |= {"problem": "not finite"} if error is None else {}
    return row | ({"changes": ["network", "loss"]} if part == "repaired" else {})


def row_of(part, found):
    return next(row for row in table_of(found) if row["part"] == part)


def test_a_share_is_that_of_the_gap_between_means():
    found = rows(as_written=[0.9, 1.1], repaired=[0.1, 0.3], inputs=[0.3, 0.2], loss=[0.9, 0.9])
    # as written 0.95 (1.1 counts as 1), repaired 0.2: inputs close 0.7 of 0.75, the loss 0.05
    inputs, loss = (row_of(part, found) for part in ("inputs", "loss"))
    assert (inputs["share"], inputs["closes"]) == ("0.93", "yes")
    assert (loss["share"], loss["closes"]) == ("0.07", "no")


def test_an_error_that_is_not_finite_counts_as_one():
    found = rows(as_written=[None], repaired=[0.0], loss=[None])
    assert row_of("as written", found)["errors"] == "1.000"
    assert row_of("loss", found)["share"] == "0.00"


def test_nothing_is_said_where_the_repair_brings_little():
    found = rows(as_written=[0.5], repaired=[0.45], inputs=[0.0])
    assert (row_of("inputs", found)["share"], row_of("inputs", found)["closes"]) == ("", "")


def test_a_row_that_was_cut_off_says_only_that_it_closes():
    found = rows(as_written=[1.0], repaired=[0.0], inputs=[0.6], loss=[0.1])
    for row in found[2:]:
        row["cut off"] = True
    assert [row_of(part, found)["closes"] for part in ("inputs", "loss")] == ["", "yes"]


def test_the_repair_of_one_part_is_a_row_of_this_part():
    found = rows(as_written=[1.0], repaired=[0.2])
    found[1]["changes"] = ["network"]
    assert row_of("network", found)["closes"] == "yes"


def test_the_first_seed_chooses_among_several_replacements():
    found = rows(optimizer=[0.5, 0.1])
    other = rows(optimizer=[0.4, 0.9])
    for row in other:
        row["replacement"] = "Adam"
    assert best_replacements(found + other) == {"optimizer": "Adam"}


def test_training_ends_when_its_processor_time_is_over():
    def endless():
        while True:
            pass

    assert until_cut_off(endless, 0.1)
    assert not until_cut_off(lambda: None, 10)


def test_rows_of_a_thread_are_appended_once(tmp_path, capsys):
    out, measured = tmp_path / "rows.jsonl", []
    make = DEVELOPMENT[49]  # 20 examples, 40 steps

    def short(repaired, seed):
        training = make(repaired, seed)
        training.steps = min(training.steps, 60)
        return training

    for _ in range(2):
        Thread(out, measured, "development", "49", short, 1, 10.0).run(long=False)
    again = read(out)
    assert measured == again == [json.loads(line) for line in out.open()]
    keys = [(row["part"], row["replacement"]) for row in again]
    assert len(keys) == len(set(keys))
    assert {row["part"] for row in again} >= {"as written", "repaired", "optimizer", "network"}
    assert "length" not in {row["part"] for row in again}
    written = again[0]
    assert (written["steps"], written["of"]) == (40, 40)
    Thread(out, measured, "development", "49", short, 2, 10.0).run(
        long=False
    )  # the best of each part only
    second = [row for row in measured if row["seed"] == 2 and row["part"] == "optimizer"]
    assert [row["replacement"] for row in second] == [best_replacements(measured)["optimizer"]]


def test_steps_are_counted():
    training = DEVELOPMENT[49](False)
    count = count_steps(training)
    for _ in range(3):
        training.optimizer.step()
    assert count == [3]
    assert training.steps == pytest.approx(40)

"""The judge counts what is right by owner or experiment; the runner writes an answer a line."""

import json
import sys
import types

import pytest
from tables import for_each

from evaluation import __main__ as runner
from evaluation.clock import use_processor_time
from evaluation.judge import MEASURES, RightParts, misses, report, row_of

TABLE = """set,number,part,replacement,errors,share,closes,note
fresh,701,as written,,1.0,0.00,no,
fresh,701,network,GRU of 64 units,0.1,0.95,yes,
fresh,701,inputs,standardised,1.0,0.10,no,
fresh,701,optimizer,Adam 0.01,0.4,0.65,no,
fresh,701,loss,the usual one,0.9,0.10,,stopped at step 3 of 9
"""
THREADS = """set,number,address,date,cause,part,symptom,reason
fresh,701,https://x,2020,a cause,order | targets,,
"""


@pytest.fixture
def right(tmp_path):
    for name, text in (("threads.csv", THREADS), ("parts.csv", TABLE)):
        (tmp_path / name).write_text(text)
    return RightParts(tmp_path / "threads.csv", tmp_path / "parts.csv")


def thread(**said):
    return {"set": "fresh", "number": "701", "outcome": "does not learn", "cost": 8.0} | said


def sound(**said):
    return {"set": "healthy", "number": "a", "outcome": "learns", "cost": 1.0} | said


@for_each(
    ("part", "verdict"),
    [
        ("order", "right"),  # of the owner
        ("loop", "right"),  # another name of it
        ("data", "right"),  # takes in the targets
        ("network", "right"),  # by experiment
        ("inputs", "wrong"),
        ("optimizer", "open"),  # between half and 80 %
        ("loss", "open"),  # cut off
        ("length", "open"),  # not measured
    ],
)
def test_the_verdict_on_a_part_of_a_thread(right, part, verdict):
    assert right.verdict(thread(), part) == verdict


def test_every_part_of_a_healthy_training_is_wrong(right):
    assert right.verdict(sound(), "network") == "wrong"


def value(name, answers, right):
    return next(m for m in MEASURES if m.name.startswith(name)).text(answers, right)


def test_a_certain_answer_is_wrong_by_experiment_or_in_a_healthy_training(right):
    fact = {"name": "scale", "part": "inputs"}
    answers = [
        thread(faults=["inputs"], confirmed=["inputs"]),
        thread(faults=["inputs"]),
        thread(proven=[fact]),
        thread(facts=[fact]),
        thread(faults=["optimizer"], confirmed=["optimizer"]),
        sound(proven=[fact]),
        sound(),
    ]
    assert value("proven or confirmed", answers, right) == "3 of 7"


def test_healthy_trainings(right):
    answers = [
        sound(outcome="diverges"),
        sound(outcome="learns little", error=0.4, best=0.1),
        sound(outcome="learns little", error=0.4, best=0.3),
        sound(outcome="learns", faults=["network"], error=0.4, best=0.1),
        sound(outcome="learns", faults=["network"], error=0.4, best=0.03),
        sound(outcome="learns little"),
    ]
    assert value('healthy, called "does', answers, right) == "1 of 6"
    assert value('healthy, called "learns little"', answers, right) == "3 of 6"


def test_an_unfinished_training_has_no_fault(right):
    answers = [
        thread(steps=[50, 400]),
        thread(steps=[50, 400], outcome="cannot be told", faults=["network"]),
        thread(steps=[50, 400], outcome="cannot be told"),
        thread(steps=[400, 400], faults=["network"]),
        thread(steps=[2, 400], outcome="diverges", faults=["network"]),
        thread(),
    ]
    assert value("unfinished", answers, right) == "2 of 6"


def test_faults_help_and_what_is_enough(right):
    answers = [
        thread(faults=["network"], enough=["network", "inputs"]),
        thread(faults=["inputs"], enough=["optimizer"], cleared=["order", "network", "inputs"]),
        thread(enough=["network"]),
        thread(facts=[{"name": "sorted", "part": "order"}]),
        thread(),
    ]
    assert value("fault right", answers, right) == "1 of 2"
    assert value("threads with a fault", answers, right) == "2 of 5"
    assert value("threads with true help", answers, right) == "3 of 5"
    # 0.65 of the gap is not enough
    assert value("enough", answers, right) == "2 of 4"
    assert value("cleared", answers, right) == "1 of 3"


def test_a_row_of_an_answer_has_the_verdict_on_each_part(right):
    facts = [{"name": "one step", "part": "inputs"}]
    row = row_of(thread(faults=["network"], enough=["order", "inputs"], facts=facts), right)
    assert row["fault"] == "network (right)" and row["facts"] == "inputs (wrong)"
    assert row["enough"] == "order (right), inputs (wrong)"


def test_the_table_has_a_column_for_each_set_and_names_what_is_wrong(right):
    answers = [thread(faults=["inputs"], confirmed=["inputs"]), sound()]
    lines = report(answers, right).splitlines()
    assert lines[0].split("  ")[-3:] == ["fresh (1)", "healthy (1)", "all (2)"]
    assert lines[-1].split() == ["cost", "in", "trainings,", "others", "8.0", "8.0"]
    (line,) = misses(answers, right)
    assert line == "fresh 701 (does not learn): certain and wrong: inputs"


@pytest.fixture
def tool(monkeypatch):
    """A module with tools, and the trainings that they get."""
    module, seen = types.ModuleType("tool_of_a_stranger"), []

    def answer(training, losses, seconds=9.0):
        seen.append((training, losses, seconds))
        return {"outcome": "learns", "faults": ["network"]}

    def broken(training, losses):
        raise ValueError("no such axis")

    module.answer, module.broken, module.seen = answer, broken, seen
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(runner, "seconds_of", lambda training: 2.0)
    return module


def command(out, *words, tool="answer", name="development"):
    named = ["--set", name, "--tool", f"tool_of_a_stranger:{tool}", "--out", str(out)]
    runner.main([*named, *words])
    return [json.loads(line) for line in out.open()]


def test_a_tool_gets_a_training_without_its_fresh_examples(tool, tmp_path, capsys):
    (row,) = command(tmp_path / "a.jsonl", "--only", "49", "--seconds", "3")
    training, losses, seconds = tool.seen[0]
    assert (training.test, training.error, losses, seconds) == (None, None, [], 3.0)
    assert training.steps == 40
    assert (row["set"], row["number"], row["faults"]) == ("development", "49", ["network"])
    assert row["cost"] == pytest.approx(row["seconds"] / 2, abs=0.01)
    assert "development 49: learns | network" in capsys.readouterr().out


def test_the_runner_goes_on_with_what_is_missing(tool, tmp_path):
    command(tmp_path / "a.jsonl", "--only", "49")
    rows = command(tmp_path / "a.jsonl", "--only", "49", "19")
    assert [row["number"] for row in rows] == ["49", "19"]


def test_a_tool_that_raises_is_recorded(tool, tmp_path):
    (row,) = command(tmp_path / "a.jsonl", "--only", "49", tool="broken")
    assert row["outcome"] == "ValueError: no such axis"


@for_each(
    ("words", "message"),
    [
        (("--only", "50"), "development has no training 50"),
        (("--tool", "tool_of_a_stranger:nothing"), "expected package.module:function"),
        (("--tool", "no_such_package:f"), "No module named 'no_such_package'"),
    ],
)
def test_wrong_calls_end_before_the_work_begins(tool, tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        command(tmp_path / "a.jsonl", *words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_every_module_of_a_package_measures_processor_time(monkeypatch):
    import time

    package, part = types.ModuleType("clocked"), types.ModuleType("clocked.part")
    other = types.ModuleType("clocked_not")
    for module in (package, part, other):
        module.time = time
        monkeypatch.setitem(sys.modules, module.__name__, module)
    use_processor_time("clocked")
    assert package.time.monotonic is part.time.monotonic is time.process_time
    assert other.time is time

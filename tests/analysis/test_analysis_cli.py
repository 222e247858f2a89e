"""`rhn-analyze` as its users meet it."""

import csv
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import network

from analysis import lesion
from analysis.cli import main
from rhn.cells import RHN
from rhn.checkpoints import save_checkpoint
from rhn.chorales.evaluation import evaluate
from rhn.data import chorale, chorales
from rhn.models import PolyphonicModel


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint("best.safetensors", network(dtype=torch.float32))


def run(*args) -> int:
    return main([str(a) for a in args])


def result(capsys) -> dict:
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_gates_of_four_test_chorales_by_default(capsys):
    assert run("gates", "best.safetensors") == 0
    out = capsys.readouterr().out
    assert all(piece.name in out for piece in chorales().test[:4]) and out.endswith("figure: gates-best-test.png\n")
    assert Path("gates-best-test.png").stat().st_size > 10_000


def test_gates_of_chorales_by_place_and_name(capsys):
    words = ("--chorales", "0", "5", "bwv269", "--output", "gates.svg", "--save-data", "gates.csv", "--json")
    assert run("gates", "best.safetensors", *words) == 0
    found = result(capsys)
    pieces = [chorale(name) for name in ("test-0", "test-5", "bwv269")]
    assert set(found) == {"layers", "sequences"} and found["layers"] == 3
    assert [(s["name"], s["steps"]) for s in found["sequences"]] == [(p.name, len(p)) for p in pieces]
    with Path("gates.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert float(first["activity"]) == found["sequences"][0]["activity"][0][0] and Path("gates.svg").exists()


def test_the_unlesioned_loss_is_that_of_rhn_evaluate(capsys):
    assert run("lesion", "best.safetensors", "--json") == 0
    found = result(capsys)
    assert set(found) == {"mode", "split", "baseline", "layers"} and (found["mode"], found["split"]) == (
        "bias",
        "train",
    )
    model, pieces = network(dtype=torch.float32), chorales().train
    assert found["baseline"] == pytest.approx(evaluate(model, pieces).nll, rel=1e-13)
    for row in found["layers"]:
        assert set(row) == {"layer", "loss", "delta", "low", "high"}
        assert row["delta"] == row["loss"] - found["baseline"] and row["low"] <= row["delta"] <= row["high"]


def test_lesions_of_named_chorales_with_pairs_and_units(capsys):
    words = ("--chorales", "bwv269", "test-0", "--mode", "mean", "--pairs", "--units", "--save-data", "l.npz")
    assert run("lesion", "best.safetensors", *words) == 0
    out = capsys.readouterr().out
    assert "layers 1+2" in out and "unit" in out and "2 sequences" in out
    table = lesion(network(dtype=torch.float32), [chorale("bwv269"), chorale("test-0")], "mean", units=True)
    with np.load("l.npz") as arrays:
        assert arrays["units.loss"].tolist() == [row.loss for row in table.units]


def test_a_single_chorale_has_null_intervals(capsys):
    assert run("lesion", "best.safetensors", "--chorales", "bwv269", "--json") == 0
    assert {row["low"] for row in result(capsys)["layers"]} == {None}


def test_ungated_networks_are_carried_by_default(capsys):
    save_checkpoint("dts.safetensors", network("dts-rnn", dtype=torch.float32))
    assert run("lesion", "dts.safetensors", "--split", "valid", "--json") == 0
    assert result(capsys)["mode"] == "carry"
    assert run("lesion", "dts.safetensors", "--chorales", "0", "1", "--mode", "skip", "--json") == 0
    assert [row["layer"] for row in result(capsys)["layers"]] == [2, 3]


def test_the_original_chorales_can_be_read_instead(original_chorales, capsys):
    assert run("gates", "best.safetensors", "--data", original_chorales, "--chorales", "3", "--json") == 0
    assert result(capsys)["sequences"][0]["steps"] > 8


def test_the_cell_alone_has_gates(capsys):
    save_checkpoint("cell.safetensors", RHN(88, 6, 2))
    assert run("gates", "cell.safetensors", "--chorales", "0", "--json") == 0
    assert result(capsys)["layers"] == 2


@pytest.mark.parametrize(
    ("checkpoint", "title"),
    [
        ("runs/depth3/best.safetensors", "depth3: RHN"),
        ("runs/depth3/last.safetensors", "depth3: RHN"),
        ("runs/twins/seed-1/best.safetensors", "twins, seed-1: RHN"),
        ("runs/mine.safetensors", "mine: RHN"),
    ],
)
@pytest.mark.parametrize("command", ["gates", "lesion"])
def test_figures_are_titled_by_the_run_where_the_checkpoint_s_name_says_nothing(command, checkpoint, title):
    Path(checkpoint).parent.mkdir(parents=True)
    Path("best.safetensors").rename(checkpoint)
    assert run(command, checkpoint, "--chorales", "0", "--output", "figure.svg") == 0
    assert f"<!-- {title}, depth 3, 7 units -->" in Path("figure.svg").read_text()


def nan():
    model = network()
    with torch.no_grad():
        model.output.bias[0] = float("nan")
    save_checkpoint("bad.safetensors", model)


def truncated():
    Path("bad.safetensors").write_bytes(Path("best.safetensors").read_bytes()[:-100])


def lying():
    content = Path("best.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + size].replace(b'\\"hidden_size\\": 7', b'\\"hidden_size\\": 9')
    assert header != content[8 : 8 + size]
    Path("bad.safetensors").write_bytes(content[:8] + header + content[8 + size :])


def foreign():
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, "bad.safetensors")


def vocabulary():
    save_checkpoint("bad.safetensors", PolyphonicModel("rhn", hidden_size=4, input_size=50, output_size=50))


def outputs_only():
    save_checkpoint("bad.safetensors", PolyphonicModel("rhn", hidden_size=4, output_size=87))


def ungated():
    save_checkpoint("bad.safetensors", network("dt-rnn"))


def bare():
    save_checkpoint("bad.safetensors", RHN(88, 6, 2))


@pytest.mark.parametrize(
    ("args", "words", "prepare"),
    [
        (["gates", "nowhere.safetensors"], "there is no checkpoint at nowhere.safetensors", None),
        (["gates", "bad.safetensors"], "NaN", nan),
        (["lesion", "bad.safetensors"], "NaN", nan),
        (["gates", "bad.safetensors"], "truncated", truncated),
        (["lesion", "bad.safetensors"], "its header promises", lying),
        (["gates", "bad.safetensors"], "not written by this toolkit", foreign),
        (["gates", "bad.safetensors"], "a network of 50 inputs and 50 outputs, expected 88", vocabulary),
        (["lesion", "bad.safetensors"], "a network of 87 outputs, expected 88", outputs_only),
        (["gates", "bad.safetensors"], "has no transform gates", ungated),
        (["lesion", "bad.safetensors", "--mode", "bias"], "needs transform gates", ungated),
        (["lesion", "bad.safetensors"], "predicts nothing", bare),
        (["lesion", "best.safetensors", "--mode", "bais"], "did you mean 'bias'", None),
        (["lesion", "best.safetensors", "--seed", "-1"], "--seed must be 0 or more", None),
        (["gates", "best.safetensors", "--chorales", "bwv26"], "did you mean bwv2", None),
        (["gates", "best.safetensors", "--chorales", "500"], "no chorale 500", None),
        (["gates", "best.safetensors", "--split", "tset"], "--split", None),
        (["gates", "best.safetensors", "--output", "figure.bmp"], "expected a name ending in .png", None),
        (["lesion", "best.safetensors", "--save-data", "numbers.pkl"], "expected a name ending in .csv or .npz", None),
        (["gates", "best.safetensors", "--data", "nowhere.json"], "nowhere.json", None),
        (["gats", "best.safetensors"], "gats", None),
        ([], "", None),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_no_file(args, words, prepare, capsys, tmp_path):
    if prepare:
        prepare()
    before = set(tmp_path.iterdir())
    assert run(*args) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert not captured.out and set(tmp_path.iterdir()) == before


def test_as_a_process_results_go_to_stdout():
    command = [sys.executable, "-m", "analysis", "lesion", "best.safetensors", "--chorales", "0", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["mode"] == "bias" and done.stderr == ""


def test_the_command_starts_without_torch_and_matplotlib():
    code = (
        "import sys, analysis.cli; print([m for m in ('torch', 'matplotlib', 'music21', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as leaving:
        run("--help")
    assert leaving.value.code == 0 and "rhn-analyze lesion" in capsys.readouterr().out

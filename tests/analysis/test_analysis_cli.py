"""`rhn-analyze` as its users meet it."""

import csv
import html
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import WORDS, language_checkpoint, language_network, network, sentences

import rhn.cli.main
from analysis import GateActivity, LesionTable, gate_activity, lesion
from analysis.cli import main
from rhn.checkpoints import save
from rhn.data import chorale, chorales
from rhn.data.text import Vocabulary, read_text
from rhn.training.evaluation import evaluate_chorales


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(own_folder):
    save("best.safetensors", network(dtype=torch.float32))
    language_checkpoint("text.safetensors", language_network(dtype=torch.float32))
    Path("novel.txt").write_text(sentences(400))


def run(*args) -> int:
    return main([*map(str, args)])


def result(capsys) -> dict:
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_the_table_is_that_of_all_test_chorales(capsys):
    model, pieces = network(dtype=torch.float32), chorales().test
    for command, found in {
        "gates": gate_activity(model, pieces),
        "lesion": lesion(model, pieces),
    }.items():
        assert run(command, "best.safetensors") == 0
        out = capsys.readouterr().out
        named = replace(found, data="chorales", split="test")
        assert out == f"{named}\nfigure: {command}.png\n"
        assert Path(f"{command}.png").stat().st_size > 10_000


def test_gates_of_chorales_by_place_and_name(capsys):
    words = ("--chorale", "0", "5", "bwv269", "train-3", "--output", "gates.svg", "gates.csv")
    assert run("gates", "best.safetensors", *words, "--json") == 0
    found = result(capsys)
    pieces = [chorale(name) for name in ("test-0", "test-5", "bwv269", "train-3")]
    assert (found["names"], found["lengths"]) == ([p.name for p in pieces], list(map(len, pieces)))
    assert (found["split"], found["shown"]) == ("", 4) and Path("gates.svg").exists()
    with Path("gates.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert float(first["mean"]) == pytest.approx(np.mean(found["activity"][0]))


def test_the_unlesioned_loss_is_that_of_rhn_evaluate(capsys):
    assert run("lesion", "best.safetensors", "--json") == 0
    found = result(capsys)
    assert (found["mode"], found["split"]) == ("bias", "test")
    model, pieces = network(dtype=torch.float32), chorales().test
    # float32, summed in another order
    assert found["baseline"] == pytest.approx(evaluate_chorales(model, pieces).nll, rel=1e-7)
    assert found["label"] == ["1", "2", "3", "1", "1"]
    assert found["delta"][:3] == [loss - found["baseline"] for loss in found["loss"][:3]]
    assert all(
        low <= delta <= high
        for low, delta, high in zip(found["low"], found["delta"], found["high"], strict=True)
    )


def test_python_takes_a_file_or_a_folder_as_the_command_does(tmp_path):
    (folder := tmp_path / "run").mkdir()
    save(folder / "best.safetensors", network(dtype=torch.float32))
    model = network(dtype=torch.float32)
    for path in (str(folder), folder / "best.safetensors"):
        found = lesion(path, split="valid")
        assert found.loss.tolist() == lesion(model, chorales().valid).loss.tolist()
        assert found.split == "valid" and lesion(path, [chorale("bwv269")]).sequences == 1
    assert gate_activity(folder).names == tuple(piece.name for piece in chorales().test)
    found = gate_activity("text.safetensors", "novel.txt")
    assert set(found.lengths) == {60} and found.names[0] == "valid-0"
    assert lesion("text.safetensors", "novel.txt").split == "valid"


def test_lesions_of_named_chorales_with_pairs():
    words = ("--chorale", "bwv269", "test-0", "--mode", "carry", "--pairs", "--output", "l.npz")
    assert run("lesion", "best.safetensors", *words) == 0
    table = lesion(
        network(dtype=torch.float32), [chorale("bwv269"), chorale("test-0")], "carry", pairs=True
    )
    assert LesionTable.load("l.npz").loss.tolist() == table.loss.tolist()


def test_ungated_networks_are_carried_by_default(capsys):
    save("dts.safetensors", network("dts-rnn", dtype=torch.float32))
    assert run("lesion", "dts.safetensors", "--split", "valid", "--json") == 0
    assert result(capsys)["mode"] == "carry"


# ---- language models -----------------------------------------------------------------------------


def novel(split="valid") -> np.ndarray:
    return getattr(read_text("text", "novel.txt", vocabulary=WORDS), split)[:]


def test_gates_of_four_excerpts_of_the_validation_text_by_default(capsys):
    Path("long.txt").write_text(sentences(1500))
    words = ("--data", "long.txt", "--output", "g.png", "g.pdf", "g.npz")
    assert run("gates", "text.safetensors", *words) == 0
    out = capsys.readouterr().out
    assert out.endswith("figure: g.png\nfigure: g.pdf\nfile: g.npz\n")
    assert Path("g.png").stat().st_size > 10_000 and Path("g.pdf").read_bytes().startswith(b"%PDF")
    found = GateActivity.load("g.npz")
    assert found.lengths.tolist() == [60] * 4 and found.names[0] == "valid-0"
    assert (found.data, found.split, found.step) == ("long.txt", "valid", "token")


def test_lesions_of_the_beginning_of_a_text_cut_into_sequences(capsys):
    words = (
        "--length",
        "7",
        "--max-tokens",
        "40",
        "--split",
        "train",
        "--mode",
        "carry",
        "--output",
        "l.npz",
    )
    assert run("lesion", "text.safetensors", "--data", "novel.txt", *words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[3:6]] == ["train", "6", "40"]
    text = novel("train")
    parts = [text[start : min(start + 7, 40) + 1] for start in range(0, 40, 7)]
    table = lesion(language_network(dtype=torch.float32), parts, "carry")
    assert LesionTable.load("l.npz").loss.tolist() == table.loss.tolist()


def test_a_text_is_read_as_rhn_evaluate_reads_it(tmp_path, capsys):
    folder = tmp_path / "novels"
    folder.mkdir()
    for seed, split in enumerate(("train", "valid", "test")):
        (folder / f"{split}.txt").write_text(sentences(60, seed))
    language_checkpoint("ptb.safetensors", language_network(dtype=torch.float32), corpus="ptb")
    for text in (folder, "novel.txt"):
        assert run("lesion", "ptb.safetensors", "--data", text, "--length", "10000", "--json") == 0
        baseline = result(capsys)["baseline"]
        words = ["evaluate", "ptb.safetensors", "--data", str(text), "--split", "valid", "--json"]
        assert rhn.cli.main.main(words) == 0
        assert baseline == pytest.approx(result(capsys)["nll"], rel=1e-6)


def test_characters_and_bytes_are_read_as_they_are(capsys):
    for unit, symbols in (
        ("characters", tuple(sorted(set(sentences(400))))),
        ("bytes", tuple(range(256))),
    ):
        model = language_network("lstm", 1, V=len(symbols), dtype=torch.float32)
        language_checkpoint("own.safetensors", model, Vocabulary(unit, symbols))
        assert (
            run("gates", "own.safetensors", "--data", "novel.txt", "--length", "30", "--json") == 0
        )
        assert result(capsys)["lengths"] == [30] * 4
        assert run("lesion", "own.safetensors", "--data", "novel.txt", "--max-tokens", "300") == 0
        assert re.search(r"tokens\) +300\n", capsys.readouterr().out)


@pytest.mark.parametrize("old", [False, True])
def test_a_file_of_torch_save_is_never_called_damaged(capsys, old):
    torch.save(torch.nn.GRU(3, 4).state_dict(), "w.pt", _use_new_zipfile_serialization=not old)
    assert run("gates", "w.pt") == 2
    said = capsys.readouterr().err
    assert "w.pt is no complete .safetensors file" in said and "damaged" not in said


def test_the_report_has_the_figure_and_the_table_of_each_part(tmp_path, capsys):
    words = ["train", "jsb-depth-2", "--hidden-size", "4", "--epochs", "1", "--out", "run"]
    assert rhn.cli.main.main(words) == 0
    assert run("report", "run", "--split", "valid", "--output", "a.html") == 0
    page, model, pieces = Path("a.html").read_text(), rhn.load("run"), chorales().valid
    heads = re.findall("<h2>(.*)</h2>", page)
    assert heads == ["Losses of the training run", "Spectra, cells.0", "Gates", "Lesions"]
    assert page.count('src="data:image/png;base64,') == page.count("<pre>") == 4
    for found in (gate_activity(model, pieces), lesion(model, pieces, pairs=True)):
        assert html.escape(str(replace(found, data="chorales", split="valid"))) in page
    text = re.sub(r"<style>.*</style>|<pre>.*?</pre>|<[^>]*>", "", page, flags=re.DOTALL)
    assert [line for line in text.splitlines() if line] == ["run", "run", *heads]


def test_the_report_of_a_text_without_gates_has_no_part_about_them(capsys):
    language_checkpoint("plain.safetensors", language_network("dt-rnn", dtype=torch.float32))
    assert run("report", "plain.safetensors", "--data", "novel.txt") == 0
    heads = re.findall("<h2>(.*)</h2>", Path("report.html").read_text())
    assert heads == ["Spectra, cells.0", "Lesions"]

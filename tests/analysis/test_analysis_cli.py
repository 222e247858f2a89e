"""`rhn-analyze` as its users meet it."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.legend import Legend
from networks import WORDS, language_checkpoint, language_network, network, sentences

import rhn.cli.main
from analysis import LesionTable, gate_activity, lesion
from analysis.cli import main
from rhn.checkpoints import save
from rhn.data import chorale, chorales
from rhn.data.text import Vocabulary, read_text
from rhn.models import PolyphonicModel
from rhn.training.evaluation import evaluate_chorales

pytestmark = pytest.mark.usefixtures("unarranged")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(own_folder):
    save("best.safetensors", network(dtype=torch.float32))
    language_checkpoint("text.safetensors", language_network(dtype=torch.float32))
    Path("novel.txt").write_text(sentences(400))


def run(*args) -> int:
    return main([*map(str, args)])


def result(capsys) -> dict:
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_gates_are_those_of_all_test_chorales_and_two_are_drawn(capsys):
    assert run("gates", "best.safetensors") == 0
    out = capsys.readouterr().out
    found = gate_activity(network(dtype=torch.float32), chorales().test)
    assert f"Means over 77 sequences, {found.steps:,} frames; the first 2 are shown." in out
    assert f"  {found.mean_by_layer[0]:.3f}  " in out
    assert len([ax for ax in replace(found, shown=3).figure().axes if ax.lines]) == 3
    assert all(piece.name in out for piece in chorales().test[:2]) and re.search(
        r"figure: gates-\S+.png\n$", out
    )
    assert Path(out.split()[-1]).stat().st_size > 10_000


def test_one_chosen_chorale_is_one(capsys):
    for chosen, words in (("0",), "chosen chorale most"), (("0", "5"), "chosen chorales"):
        assert run("lesion", "best.safetensors", "--chorales", *chosen) == 0
        assert f"loss on the {words}" in capsys.readouterr().out


def test_gates_have_one_name_in_results_of_one_network():
    model, pieces = PolyphonicModel("lstm", hidden_size=4), chorales().test[:2]
    assert gate_activity(model, pieces).gate_name == "input gate"
    (legend,) = lesion(model, pieces).figure().findobj(Legend)
    assert legend.get_texts()[0].get_text() == "lesioned: input gates shut"


def test_gates_of_chorales_by_place_and_name(capsys):
    words = (
        "--chorales",
        "0",
        "5",
        "bwv269",
        "train-3",
        "--output",
        "gates.svg",
        "gates.csv",
        "--json",
    )
    assert run("gates", "best.safetensors", *words) == 0
    found = result(capsys)
    pieces = [chorale(name) for name in ("test-0", "test-5", "bwv269", "train-3")]
    assert (found["names"], found["lengths"]) == ([p.name for p in pieces], list(map(len, pieces)))
    with Path("gates.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert float(first["activity"]) == found["activity"][0][0] and Path("gates.svg").exists()


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
    words = ("--chorales", "bwv269", "test-0", "--mode", "carry", "--pairs", "--output", "l.npz")
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
    assert (
        run(
            "gates",
            "text.safetensors",
            "--data",
            "long.txt",
            "--output",
            "gates.csv",
            "g.png",
            "g.pdf",
        )
        == 0
    )
    out = capsys.readouterr().out
    assert out.endswith("figure: g.png\nfigure: g.pdf\nfile: gates.csv\n")
    assert Path("g.png").stat().st_size > 10_000 and Path("g.pdf").read_bytes().startswith(b"%PDF")
    with Path("gates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["sequence"] for row in rows}) == 4 and len(rows) == 4 * 60 * 3
    assert rows[0]["sequence"] == "valid-0"


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
    first, *others = capsys.readouterr().out.split("\n")
    layer = r"Skipping layer \d"
    assert re.match(
        f"({layer} (raises|lowers) the training loss by .* nats per token|"
        "No layer's lesion changes the training loss clearly)",
        first,
    )
    assert any(o.endswith("nats per token: 6 sequences, 40 predicted tokens.") for o in others)
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
        assert "300 predicted tokens" in capsys.readouterr().out


@pytest.mark.parametrize("old", [False, True])
def test_a_file_of_torch_save_is_never_called_damaged(capsys, old):
    torch.save(torch.nn.GRU(3, 4).state_dict(), "w.pt", _use_new_zipfile_serialization=not old)
    assert run("gates", "w.pt") == 2
    said = capsys.readouterr().err
    assert "w.pt is no complete .safetensors file" in said and "damaged" not in said

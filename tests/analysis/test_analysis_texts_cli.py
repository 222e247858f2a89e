"""`rhn-analyze` on language models, as its users meet it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import WORDS, language_checkpoint, language_network, network, sentences

import rhn.cli
from analysis import lesion
from analysis.cli import main
from rhn.checkpoints import save_checkpoint
from rhn.data.text import Vocabulary, read_text
from rhn.language.evaluation import score

PTB = Path(__file__).resolve().parents[3] / "shared" / "data" / "ptb"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    language_checkpoint("best.safetensors", language_network(dtype=torch.float32))
    Path("novel.txt").write_text(sentences(400))


def run(*args) -> int:
    return main([str(a) for a in args])


def result(capsys) -> dict:
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def novel(split="valid") -> np.ndarray:
    return getattr(read_text("text", "novel.txt", vocabulary=WORDS), split)[:]


def test_gates_of_four_excerpts_of_the_validation_text_by_default(capsys):
    Path("long.txt").write_text(sentences(1500))
    assert run("gates", "best.safetensors", "--data", "long.txt", "--save-data", "gates.csv") == 0
    out = capsys.readouterr().out
    assert "mean change a token" in out and out.endswith("figure: gates-best-valid.png\n")
    assert Path("gates-best-valid.png").stat().st_size > 10_000
    with Path("gates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["sequence"] for row in rows}) == 4 and len(rows) == 4 * 60 * 3
    assert rows[0]["sequence"] == "valid-0"


def test_gates_where_excerpts_are_named(capsys):
    words = ("--excerpts", "5", "40", "--length", "12", "--split", "test", "--json")
    assert run("gates", "best.safetensors", "--data", "novel.txt", *words) == 0
    found = result(capsys)
    assert [(s["name"], s["steps"]) for s in found["sequences"]] == [("test-5", 12), ("test-40", 12)]
    assert Path("gates-best-test-5-40.png").exists()


def test_the_unlesioned_loss_of_one_sequence_is_that_of_rhn_evaluate(capsys):
    assert run("lesion", "best.safetensors", "--data", "novel.txt", "--length", "10000", "--json") == 0
    found, model = result(capsys), language_network(dtype=torch.float32)
    text = read_text("text", "novel.txt", vocabulary=WORDS).valid
    assert set(found) == {"mode", "split", "baseline", "layers"} and found["split"] == "valid"
    assert found["baseline"] == pytest.approx(score(model, text).nll, rel=1e-6)


def test_lesions_of_the_beginning_of_a_text_cut_into_sequences(capsys):
    words = ("--length", "7", "--max-tokens", "40", "--split", "train", "--mode", "mean", "--save-data", "l.npz")
    assert run("lesion", "best.safetensors", "--data", "novel.txt", *words) == 0
    assert "lesions (mean) on train: 6 sequences, 40 predicted tokens, nats a token" in capsys.readouterr().out
    text = novel("train")
    parts = [text[start : min(start + 7, 40) + 1] for start in range(0, 40, 7)]
    table = lesion(language_network(dtype=torch.float32), parts, "mean")
    with np.load("l.npz") as arrays:
        assert arrays["layers.loss"].tolist() == [row.loss for row in table.layers]


def test_the_corpus_that_a_network_was_trained_on_is_read_from_its_folder(tmp_path, capsys):
    folder = tmp_path / "penn"
    folder.mkdir()
    for seed, split in enumerate(("train", "valid", "test")):
        (folder / f"ptb.{split}.txt").write_text(sentences(60, seed))
    vocabulary = read_text("ptb", folder).vocabulary
    language_checkpoint("ptb.safetensors", language_network(V=len(vocabulary)), vocabulary, "ptb")
    for text in (folder, "novel.txt"):
        assert run("gates", "ptb.safetensors", "--data", text, "--length", "5", "--json") == 0
        assert result(capsys)["sequences"][0]["name"] == "valid-0"


def test_a_text_is_read_as_rhn_evaluate_reads_it(tmp_path, capsys):
    folder = tmp_path / "novels"
    folder.mkdir()
    for seed, split in enumerate(("train", "valid", "test")):
        (folder / f"{split}.txt").write_text(sentences(60, seed))
    language_checkpoint("ptb.safetensors", language_network(dtype=torch.float32), corpus="ptb")
    for text in (folder, "novel.txt"):
        assert run("lesion", "ptb.safetensors", "--data", text, "--length", "10000", "--json") == 0
        baseline = result(capsys)["baseline"]
        assert rhn.cli.main(["evaluate", "ptb.safetensors", "--data", str(text), "--split", "valid", "--json"]) == 0
        assert baseline == pytest.approx(result(capsys)["nll"], rel=1e-6)


def test_characters_and_bytes_are_read_as_they_are(capsys):
    for unit, symbols in (("characters", tuple(sorted(set(sentences(400))))), ("bytes", tuple(range(256)))):
        model = language_network("lstm", 1, V=len(symbols), dtype=torch.float32)
        language_checkpoint("own.safetensors", model, Vocabulary(unit, symbols))
        assert run("gates", "own.safetensors", "--data", "novel.txt", "--length", "30", "--json") == 0
        assert [s["steps"] for s in result(capsys)["sequences"]] == [30] * 4
        assert run("lesion", "own.safetensors", "--data", "novel.txt", "--max-tokens", "300") == 0
        assert "300 predicted tokens" in capsys.readouterr().out


def test_gates_and_lesions_on_the_penn_treebank(capsys):
    if not (PTB / "ptb.valid.txt").exists():
        pytest.skip(f"the Penn Treebank is not at {PTB}")
    vocabulary = read_text("ptb", PTB).vocabulary
    model = language_network(V=len(vocabulary), dtype=torch.float32)
    language_checkpoint("ptb.safetensors", model, vocabulary, "ptb")
    assert run("gates", "ptb.safetensors", "--data", PTB, "--output", "gates.svg", "--save-data", "gates.npz") == 0
    with np.load("gates.npz") as arrays:
        assert arrays["sequence0.symbols"][:4].tolist() == ["consumers", "may", "want", "to"]
    capsys.readouterr()
    assert run("lesion", "ptb.safetensors", "--data", PTB, "--max-tokens", "1000") == 0
    assert "5 sequences, 1000 predicted tokens" in capsys.readouterr().out


def chorales():
    save_checkpoint("chorales.safetensors", network(dtype=torch.float32))


def nameless():
    save_checkpoint("bad.safetensors", language_network())


def other_vocabulary():
    language_checkpoint("bad.safetensors", language_network(V=5))


def characters():
    symbols = tuple("abc")
    language_checkpoint("bad.safetensors", language_network(V=3), Vocabulary("characters", symbols))


def published():
    language_checkpoint("bad.safetensors", language_network(), corpus="text8")


def latin():
    Path("latin.txt").write_bytes("Straße ".encode("latin-1") * 100)


NOVEL = ["--data", "novel.txt"]


@pytest.mark.parametrize(
    ("args", "words", "prepare"),
    [
        (["gates", "best.safetensors"], "trained on a text of your own: say where a text is, --data", None),
        (["lesion", "best.safetensors", "--data", "nowhere.txt"], "nowhere.txt: no such file", None),
        (["lesion", "best.safetensors", "--data", "old.pickle"], "old.pickle is for chorales", None),
        (["gates", "best.safetensors", *NOVEL, "--chorales", "bwv269"], "--chorales is for chorales", None),
        (["gates", "chorales.safetensors", "--excerpts", "3"], "--excerpts is for texts", chorales),
        (["gates", "chorales.safetensors", "--length", "3"], "--length is for texts", chorales),
        (["lesion", "chorales.safetensors", "--max-tokens", "9"], "--max-tokens is for texts", chorales),
        (["lesion", "chorales.safetensors", *NOVEL], "novel.txt is a text", chorales),
        (["gates", "chorales.safetensors", "--data", "."], "is a text", chorales),
        (["gates", "best.safetensors", *NOVEL, "--length", "0"], "--length must be at least 1, got 0", None),
        (["lesion", "best.safetensors", *NOVEL, "--max-tokens", "-1"], "--max-tokens must be at least 1", None),
        (["gates", "best.safetensors", *NOVEL, "--excerpts", "99999"], "there is no token 99999 in the split", None),
        (["lesion", "best.safetensors", *NOVEL, "--mode", "skip"], "needs shortcuts", None),
        (["gates", "bad.safetensors", *NOVEL], "bad.safetensors does not say how it was trained", nameless),
        (["gates", "bad.safetensors", *NOVEL], "a vocabulary of 11 symbols, its model has 5", other_vocabulary),
        (["gates", "bad.safetensors", *NOVEL], "not in the vocabulary", characters),
        (["gates", "bad.safetensors"], "`rhn data get text8` fetches it", published),
        (["gates", "best.safetensors", "--data", "latin.txt"], "is not UTF-8", latin),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_no_figure(args, words, prepare, capsys, tmp_path):
    if prepare:
        prepare()
    before = set(tmp_path.iterdir())
    assert run(*args) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert not captured.out and set(tmp_path.iterdir()) == before

"""`gersgorin-plot` on language models running along a text, and on cells of stacked networks."""

import copy
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from gersgorin.cli import main
from gersgorin.jacobian import temporal_jacobian, trajectory
from gersgorin.plots import draw_run
from gersgorin.record import SpectrumRecord
from gersgorin.subject import READ, first_tokens
from rhn.cells import RHN
from rhn.checkpoints import save_checkpoint
from rhn.data import chorale
from rhn.data.text import Vocabulary
from rhn.errors import DataError
from rhn.language.build import build_model
from rhn.language.config import LanguageConfig
from rhn.models import LanguageModel, PolyphonicModel

WORDS = Vocabulary("words", ("the", "<eos>", "cat", "dog", "sees", "<unk>"))
CONFIG = LanguageConfig(corpus="text", cell="rhn", hidden_size=6, depth=2, seed=3, init="uniform:0.4")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*args) -> int:
    return main([str(a) for a in args])


def language_model(layers: int = 1) -> LanguageModel:
    """A small model in language.safetensors as `rhn train` writes it, and a text in novel.txt."""
    model = (
        build_model(CONFIG, len(WORDS))
        if layers == 1
        else LanguageModel("lstm", vocabulary_size=len(WORDS), hidden_size=6, layers=layers, init="uniform:0.4")
    )
    save_checkpoint("language.safetensors", model, train=asdict(CONFIG), vocabulary=WORDS.to_json())
    Path("novel.txt").write_text("the cat sees the dog\nthe dog sees the bird\n" * 20)
    return model


def spectral_radii(cell, x) -> list[float]:
    """Along a run over inputs (T, m), in float64."""
    states = trajectory(cell, x)[:-1]
    return torch.linalg.eigvals(temporal_jacobian(cell, x, states)).abs().amax(-1).tolist()


def test_a_language_model_runs_along_a_text(capsys):
    model = language_model().double()
    assert run("--checkpoint", "language.safetensors", "--text", "novel.txt", "--steps", "7", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["cell"], result["depth"], result["chorale"]) == ("rhn", 2, "novel.txt")
    assert result["figure"] == "gersgorin-language-novel.png" and Path(result["figure"]).stat().st_size > 10_000
    x = model.embedding[[0, 2, 4, 0, 3, 1, 0]]  # the cat sees the dog <eos> the
    assert [s["spectral_radius"] for s in result["steps"]] == pytest.approx(spectral_radii(model.cells[0], x))


def test_a_figure_of_a_text_says_so(capsys):
    language_model()
    words = ("--checkpoint", "language.safetensors", "--text", "novel.txt", "--steps", "4", "--output", "text.svg")
    assert run(*words, "--save-data", "text.npz") == 0
    assert "text novel.txt, 4 steps" in capsys.readouterr().out
    record = SpectrumRecord.load("text.npz")
    assert record.reads == "text"
    labels = [ax.get_xlabel() for ax in draw_run(record).get_axes()]
    assert "time step (tokens)" in labels and "time step (quarter notes)" not in labels


def test_a_text_is_read_for_a_hundred_tokens_unless_it_is_shorter(capsys):
    language_model()
    for text, steps in (("the cat " * 90, 100), ("the cat sees", 3)):
        Path("novel.txt").write_text(text)
        assert run("--checkpoint", "language.safetensors", "--text", "novel.txt", "--json") == 0
        assert len(json.loads(capsys.readouterr().out)["steps"]) == steps


def test_of_stacked_cells_one_is_chosen(capsys):
    model = language_model(layers=2).double()
    tokens = torch.tensor([0, 2, 4, 0])
    below, _ = model.cells[0](model.embedding[tokens])
    for layer, x in (((), model.embedding[tokens]), (("--layer", "2"), below)):
        words = ("--checkpoint", "language.safetensors", "--text", "novel.txt", "--steps", "4", "--json")
        assert run(*words, *layer) == 0
        found = [s["spectral_radius"] for s in json.loads(capsys.readouterr().out)["steps"]]
        assert found == pytest.approx(spectral_radii(model.cells[1 if layer else 0], x.detach()))


def test_the_second_of_stacked_cells_over_chorales_sees_the_outputs_of_the_first(capsys):
    model = PolyphonicModel("rhn", hidden_size=6, depth=2, layers=2, init="uniform:0.4", dtype=torch.float64)
    save_checkpoint("stacked.safetensors", model)
    assert run("--checkpoint", "stacked.safetensors", "--layer", "2", "--steps", "5", "--json") == 0
    found = [s["spectral_radius"] for s in json.loads(capsys.readouterr().out)["steps"]]
    below, _ = model.cells[0](torch.as_tensor(chorale("bwv269"))[:5].double())
    assert found == pytest.approx(spectral_radii(model.cells[1], below.detach()))


def test_a_trained_language_model_stands_beside_its_own_first_weights(capsys):
    born = language_model()
    trained = copy.deepcopy(born)
    with torch.no_grad():
        trained.cells[0].weight_hh += 0.5
    words = ("--text", "novel.txt", "--steps", "5", "--json")
    assert run("--checkpoint", "language.safetensors", *words) == 0
    alone = json.loads(capsys.readouterr().out)["steps"]
    save_checkpoint("trained.safetensors", trained, train=asdict(CONFIG), vocabulary=WORDS.to_json())
    assert run("--checkpoint", "trained.safetensors", "--compare-init", *words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["compare"][0]["steps"] == alone != result["steps"]


def test_only_the_beginning_of_a_long_text_is_read_and_no_character_is_cut(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("a" + "é" * READ)  # the last byte read is the first of two
    ids = first_tokens(path, Vocabulary("characters", ("a", "é")), READ)
    assert len(ids) == READ // 2 and ids[:3].tolist() == [0, 1, 1]
    path.write_bytes(b"a\xe9")
    with pytest.raises(DataError, match="cannot be read as a text"):
        first_tokens(path, WORDS, 1)
    assert first_tokens(path, Vocabulary("bytes", (97, 0xE9)), 9).tolist() == [0, 1]


def chorale_checkpoint():
    save_checkpoint("chorales.safetensors", RHN(88, 6))


def empty_text():
    language_model()
    Path("novel.txt").write_text("")


LANGUAGE = ["--checkpoint", "language.safetensors"]
NOVEL = [*LANGUAGE, "--text", "novel.txt"]


@pytest.mark.parametrize(
    ("args", "words", "prepare"),
    [
        (LANGUAGE, "holds a language model, which reads a text: add --text FILE", language_model),
        (["--text", "novel.txt"], "a new cell is none", language_model),
        (["--checkpoint", "chorales.safetensors", "--text", "novel.txt"], "holds none", chorale_checkpoint),
        ([*NOVEL, "--chorale", "bwv66.6"], "--chorale is for chorales", language_model),
        ([*NOVEL, "--compare", "rnn"], "--compare is for chorales", language_model),
        ([*NOVEL, "--data", "old.json"], "--data is for chorales", language_model),
        ([*NOVEL, "--layer", "2"], "has 1 stacked cell(s), expected 1 to 1", language_model),
        ([*NOVEL, "--layer", "0"], "expected 1 to 1", language_model),
        (["--layer", "1"], "--layer is for --checkpoint", None),
        ([*NOVEL, "--steps", "5000"], "it has 240 tokens", language_model),
        ([*LANGUAGE, "--text", "nowhere.txt"], "nowhere.txt cannot be read", language_model),
        (NOVEL, "holds no tokens", empty_text),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_no_figure(args, words, prepare, capsys, tmp_path):
    if prepare:
        prepare()
    assert run(*args) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert not captured.out and not list(tmp_path.glob("*.png"))

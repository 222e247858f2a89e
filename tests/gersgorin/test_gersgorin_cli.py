"""`gersgorin-plot` as its users meet it: in process for most, as a real process where that is the
point.
"""

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from gersgorin.analyses.spectra import Spectra
from gersgorin.cli.analysis import main
from gersgorin.cli.main import main as gersgorin
from gersgorin.cli.trained import READ, first_tokens
from gersgorin.figures import draw_run
from gersgorin.run.jacobians import temporal_jacobian, trajectory
from rhn.checkpoints import save_checkpoint
from rhn.data import chorale
from rhn.data.text import Vocabulary
from rhn.errors import DataError
from rhn.models import PolyphonicModel
from rhn.training.config import LanguageConfig
from rhn.training.ensemble import build_model, weights_generator

SMALL = ["--hidden-size", "6", "--steps", "5"]
WORDS = Vocabulary("words", ("the", "<eos>", "cat", "dog", "sees", "<unk>"))
CONFIG = LanguageConfig(
    corpus="text", cell="rhn", hidden_size=6, depth=2, seed=3, init="uniform:0.4"
)
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "own-cell.md"
BROKEN = """
class Failing(MinimalCell):
    def gates(self, x, s):
        raise ValueError("not today")

class Unbuilt(MinimalCell):
    def reset_parameters(self, generator):
        raise KeyError("weight")
"""


pytestmark = pytest.mark.usefixtures("own_folder")
WITHOUT_LAYOUT = pytest.mark.usefixtures("unarranged")


@pytest.fixture
def results(capsys):
    """Runs the command with --json; what it prints."""

    def read(*args) -> dict:
        assert run(*args, "--json") == 0
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    return read


def run(*args) -> int:
    return main([*map(str, args)])


def radii(result: dict) -> list[float]:
    return [step["spectral_radius"] for step in result["steps"]]


def language_model(layers: int = 1):
    """A small model in language.safetensors as `rhn train` writes it, and a text in novel.txt."""
    model = build_model(replace(CONFIG, layers=layers), len(WORDS))
    save_checkpoint("language.safetensors", model, train=asdict(CONFIG), vocabulary=WORDS.to_json())
    Path("novel.txt").write_text("the cat sees the dog\nthe dog sees the bird\n" * 20)
    return model


LANGUAGE = ["--checkpoint", "language.safetensors"]
NOVEL = [*LANGUAGE, "--input", "novel.txt"]


def expected_radii(cell, x) -> list[float]:
    """Along a run over inputs (T, m), in float64."""
    A = temporal_jacobian(cell, x, trajectory(cell, x)[:-1])
    return pytest.approx(torch.linalg.eigvals(A).abs().amax(-1).tolist())


@WITHOUT_LAYOUT
def test_the_default_run_writes_a_figure_and_says_where(tmp_path, capsys):
    assert run("--hidden-size", "4", "--steps", "1", "--output", "one.png") == 0
    assert "The gradient of this RHN" in capsys.readouterr().out
    assert run("--cell", "rhn", "--depth", "5") == 0
    out = capsys.readouterr().out
    assert (tmp_path / "gersgorin-rhn-depth5-bwv269.png").stat().st_size > 10_000
    assert out.rstrip().endswith("figure: gersgorin-rhn-depth5-bwv269.png")
    assert (
        out.startswith("The gradient of this RHN halves every 1.22 steps.\n")
        and "spectral radius" in out
    )


@WITHOUT_LAYOUT
@pytest.mark.parametrize("cell", ["rhn", "gru", "torch.nn:LSTM"])
def test_every_kind_of_cell_prints_its_numbers(cell, results):
    result = results("--cell", cell, *SMALL)
    assert set(result) == {
        "cell",
        "depth",
        "hidden_size",
        "sequence",
        "unit",
        "discs",
        "figure",
        "steps",
    }
    assert result["cell"] == cell and [s["step"] for s in result["steps"]] == [0, 1, 2, 3, 4]


def test_the_original_chorales_can_be_read_instead(original_chorales, results):
    assert len(results("--data", original_chorales, "--chorale", "test-0", *SMALL)["steps"]) == 5


@WITHOUT_LAYOUT
def test_output_names_a_figure_and_numbers(tmp_path):
    files = ["run.pdf", "numbers.npz", "numbers.json"]
    assert run(*SMALL, "--output", *files) == 0
    assert {path.name for path in tmp_path.iterdir()} == {*files}
    assert Spectra.load("numbers.npz").eigenvalues.shape == (5, 6)
    assert (
        len(json.loads(Path("numbers.json").read_text(), parse_constant=pytest.fail)["norm"]) == 5
    )


@WITHOUT_LAYOUT
def test_the_guide_s_cell_new_and_trained(tmp_path, results, capsys):
    blocks = re.findall(r"```python[^\n]*\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    code = next(block for block in blocks if "class MinimalCell" in block)
    (tmp_path / "own_cell_to_plot.py").write_text(code + BROKEN)
    mine = "own_cell_to_plot:MinimalCell"
    result = results("--cell", mine, *SMALL)
    assert result["cell"] == mine and result["steps"][0]["norm_bound"] is None
    train = {"seed": 3, "cell": mine, "depth": 1}
    model = PolyphonicModel(mine, hidden_size=6, depth=1, generator=weights_generator(3, mine, 1))
    with torch.no_grad():
        model.cells[0].weight += 0.1
    save_checkpoint("mine.safetensors", model, train=train)
    save_checkpoint("alone.safetensors", model.cells[0])
    trained = results("--checkpoint", "mine.safetensors", "--cell", mine, "--steps", "5")
    x = torch.as_tensor(chorale("bwv269"))[:5].double()
    assert radii(trained) == expected_radii(model.double().cells[0], x) != radii(result)
    assert radii(
        results("--checkpoint", "alone.safetensors", "--cell", mine, "--steps", "5")
    ) == radii(trained)
    for words, said in {
        ("--cell", "own_cell_to_plot:Yours"): "cannot load the cell",
        ("--cell", "own_cell_to_plot:Failing"): "ValueError: not today",
        ("--cell", "own_cell_to_plot:Unbuilt"): "cannot build own_cell_to_plot:Unbuilt",
        ("--checkpoint", "mine.safetensors"): f"add --cell {mine}",
        ("--checkpoint", "alone.safetensors"): "add --cell package.module:MinimalCell",
        ("--checkpoint", "mine.safetensors", "--cell", "rhn"): f"give --cell {mine}",
    }.items():
        assert run(*words, "--steps", "5") == 2
        err = capsys.readouterr().err
        sentence, *frames = err.splitlines()
        assert (
            said in sentence
            and sentence.startswith("error: ")
            and all("own_cell_to_plot.py" in f for f in frames)
        )


@WITHOUT_LAYOUT
def test_a_language_model_runs_along_a_text_and_its_figure_says_so(results):
    model = language_model().double()
    result = results(*NOVEL, "--steps", "7", "--output", "text.png", "text.npz")
    assert (result["cell"], result["depth"], result["sequence"]) == ("rhn", 2, "novel.txt")
    assert result["figure"] == "text.png" and Path("text.png").stat().st_size > 10_000
    x = model.embedding[[0, 2, 4, 0, 3, 1, 0]]  # the cat sees the dog <eos> the
    assert radii(result) == expected_radii(model.cells[0], x)
    record = Spectra.load("text.npz")
    assert record.along == "text novel.txt"
    labels = [ax.get_xlabel() for ax in draw_run(record).get_axes()]
    assert "time step (tokens)" in labels and "time step (quarter notes)" not in labels


@WITHOUT_LAYOUT
def test_a_text_is_read_for_a_hundred_tokens_unless_it_is_shorter(results):
    language_model()
    for text, steps in (("the cat " * 90, 100), ("the cat sees", 3)):
        Path("novel.txt").write_text(text)
        assert len(results(*NOVEL)["steps"]) == steps


def test_only_the_beginning_of_a_long_text_is_read_and_no_character_is_cut(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("a" + "é" * READ)  # the last byte read is the first of two
    ids = first_tokens(path, Vocabulary("characters", ("a", "é")), READ)
    assert len(ids) == READ // 2 and ids[:3].tolist() == [0, 1, 1]
    path.write_bytes(b"a\xe9")
    with pytest.raises(DataError, match="cannot be read as a text"):
        first_tokens(path, WORDS, 1)
    assert first_tokens(path, Vocabulary("bytes", (97, 0xE9)), 9).tolist() == [0, 1]


def test_as_a_process_results_go_to_stdout():
    command = [sys.executable, "-m", "gersgorin", "plot", "--json", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["cell"] == "rhn" and "error" not in done.stderr


def test_a_seed_of_new_weights_is_refused_beside_trained_ones(own_folder, capsys):
    save_checkpoint("c.safetensors", PolyphonicModel("rnn", hidden_size=4))
    assert main(["--checkpoint", "c.safetensors", "--seed", "3"]) == 2
    assert "--seed is for new weights" in capsys.readouterr().err


def keep(figure: Figure, file: Path, kept: list) -> None:
    Path(file).write_bytes(b"kept")
    kept.append(figure)


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        ("plot", 0.3),
        ("products", None),
        ("compare rnn,lstm", 0.3),
        ("compare rnn --over sequences --sequences 2", None),
    ],
)
def test_a_command_draws_the_step_and_the_limit_that_are_asked(words, limits, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: keep(figure, file, figures))
    asked = ["--hidden-size", "4", "--steps", "6", "--draw-step", "2", "--limit", "0.3"]
    assert gersgorin([*words.split(), *asked]) == 0
    (figure,) = figures
    first = figure.axes[0]
    if limits:
        assert limits <= first.get_xlim()[1] < 1.3 * limits  # as wide as its panel
        assert "tep 2" in figure.get_supxlabel() + first.get_title("left")
    else:
        marks = [line.get_xdata()[0] for line in first.lines if len(set(line.get_xdata())) == 1]
        assert 2 in marks
    assert [path.name for path in Path().glob("*step2-limit0.3*.png")]


def test_influence_offers_no_options_of_a_cell(capsys):
    gersgorin(["influence", "--help"])
    shown = capsys.readouterr().out
    assert "--batch-axis" in shown and "--state-size" in shown
    for option in ("--gates", "--layer"):
        assert option not in shown


STEPS_OF_TWO_MATRICES = """
import torch

UP = torch.tensor([[0.0, 2.0], [0.0, 0.0]])


def turns(x, s):
    return (x * UP + (1 - x) * UP.T) @ s


def made():
    return turns


def nameless():
    return lambda x, s: turns(x, s)
"""


@pytest.mark.parametrize(
    ("name", "title"), [("turns", "turns"), ("made", "turns"), ("nameless", "f(x, s)")]
)
@WITHOUT_LAYOUT
def test_a_module_or_what_its_factory_returns_may_be_a_step(
    name, title, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("turning.py").write_text(STEPS_OF_TWO_MATRICES)
    np.savetxt("flags.csv", [1, 0] * 10)
    words = ["--module", f"turning:{name}", "--state-size", "2", "--input", "flags.csv"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert f"The gradient of {title} doubles every step." in shown
    assert "Over 20 steps the 2-norm of the product of all Jacobians is 1.049e+06." in shown


def test_names_in_a_strangers_file_change_no_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = PolyphonicModel("rnn", hidden_size=3)
    save_checkpoint("a.safetensors", model, train={"seed": "\x1b[31m7\x07"})
    assert gersgorin(["products", "--checkpoint", "a.safetensors", "--steps", "4"]) == 0
    shown = capsys.readouterr()
    assert "seed \\x1b[31m7\\x07" in shown.out
    assert not set(map(chr, range(32))) - {"\n"} & {*shown.out, *shown.err}

"""`gersgorin-plot` as its users meet it: in process for most, as a real process where that is the point."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gersgorin.cli import main
from rhn.cells import CELLS, RHN
from rhn.checkpoints import save_checkpoint
from rhn.engine.seeds import weights_generator
from rhn.models import PolyphonicModel

SMALL = ["--hidden-size", "6", "--steps", "5"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*args) -> int:
    return main([str(a) for a in args])


def test_the_default_run_writes_a_figure_and_says_where(tmp_path, capsys):
    assert run("--cell", "rhn", "--depth", "5", "--steps", "7") == 0
    out = capsys.readouterr().out
    assert (tmp_path / "gersgorin-rhn-depth5-bwv269.png").stat().st_size > 10_000
    assert out.rstrip().endswith("figure: gersgorin-rhn-depth5-bwv269.png")
    assert "spectral radius" in out and "half-life" in out and "Over 7 steps" in out


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_of_the_registry_prints_its_numbers(cell, capsys):
    assert run("--cell", cell, "--json", *SMALL) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert set(result) == {"cell", "depth", "hidden_size", "chorale", "discs", "figure", "steps"}
    assert result["cell"] == cell and [s["step"] for s in result["steps"]] == [0, 1, 2, 3, 4]
    for step in result["steps"]:
        assert step["spectral_radius"] <= step["norm"] * (1 + 1e-9) <= step["norm_bound"] * (1 + 2e-9)
        assert step["looseness"] == pytest.approx(step["reach"] / step["spectral_radius"]) and step["looseness"] >= 1
        assert step["eigenvalue_condition"] >= 1 and step["rightmost_disc"] <= step["reach"]
        assert 0 <= step["discs_inside_unit_circle"] <= 1


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(capsys):
    outputs = []
    for seed in (0, 0, 1):
        assert run("--json", "--seed", seed, *SMALL) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_compare_draws_one_figure_and_lists_the_others(capsys):
    assert run("--cell", "rhn", "--depth", "2", "--compare", "rnn,lstm", "--json", *SMALL) == 0
    result = json.loads(capsys.readouterr().out)
    assert [r["cell"] for r in result["compare"]] == ["rnn", "lstm"] and [r["depth"] for r in result["compare"]] == [
        1,
        1,
    ]
    assert Path(result["figure"]).exists()


def test_save_data_keeps_complex_eigenvalues_without_pickle():
    assert run("--save-data", "numbers.npz", *SMALL) == 0
    with np.load("numbers.npz", allow_pickle=False) as arrays:
        assert arrays["eigenvalues"].shape == (5, 6) and np.iscomplexobj(arrays["eigenvalues"])


def test_a_checkpoint_is_drawn_and_its_metadata_is_not_overruled(capsys):
    save_checkpoint("own.safetensors", RHN(88, 6, 3))
    assert run("--checkpoint", "own.safetensors", "--steps", "5", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["cell"], result["depth"], result["hidden_size"]) == ("rhn", 3, 6)
    assert run("--checkpoint", "own.safetensors", "--depth", "4") == 2
    assert "--depth cannot be given with --checkpoint" in capsys.readouterr().err


def test_a_trained_network_stands_beside_its_own_first_weights(capsys):
    config = {"seed": 3, "cell": "rhn", "depth": 2}
    born = PolyphonicModel("rhn", hidden_size=6, depth=2, generator=weights_generator(3, "rhn", 2))
    trained = copy.deepcopy(born)
    with torch.no_grad():
        trained.cells[0].weight_hh += 0.5
    save_checkpoint("trained.safetensors", trained, train=config)
    save_checkpoint("born.safetensors", born)
    assert run("--checkpoint", "trained.safetensors", "--compare-init", "--steps", "5", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert run("--checkpoint", "born.safetensors", "--steps", "5", "--json", "--output", "born.png") == 0
    assert result["compare"][0]["steps"] == json.loads(capsys.readouterr().out)["steps"] != result["steps"]
    assert run("--compare-init") == 2
    assert "--compare-init is for --checkpoint" in capsys.readouterr().err


def test_the_original_chorales_can_be_read_instead(original_chorales, capsys):
    assert run("--data", original_chorales, "--chorale", "test-0", "--json", *SMALL) == 0
    assert len(json.loads(capsys.readouterr().out)["steps"]) == 5


def test_animate_writes_the_moving_spectrum(tmp_path):
    assert run("--animate", "--output", "still.svg", "--hidden-size", "4", "--steps", "3") == 0
    assert [p.suffix for p in tmp_path.glob("still.*") if p.suffix in (".gif", ".mp4")]


def test_a_cell_of_ones_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_cell_to_plot.py").write_text(
        "import torch\n"
        "from rhn.cells import Cell\n"
        "class Mine(Cell):\n"
        "    def __init__(self, input_size, hidden_size, depth=1, *, generator=None, device=None, dtype=None):\n"
        "        super().__init__(input_size, hidden_size, depth)\n"
        "        self.w = torch.nn.Parameter(torch.empty(hidden_size, hidden_size, device=device, dtype=dtype))\n"
        "        self.reset_parameters(generator)\n"
        "    def step(self, x, s):\n"
        "        return torch.tanh(s @ self.w.T + x.mean(-1, keepdim=True))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert run("--cell", "own_cell_to_plot:Mine", "--json", *SMALL) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["cell"] == "own_cell_to_plot:Mine" and result["steps"][0]["norm_bound"] is None
    assert run("--cell", "own_cell_to_plot:Yours") == 2


def test_every_compared_cell_keeps_its_numbers(tmp_path):
    assert run("--cell", "rnn", "--compare", "rnn,rnn", "--save-data", "d.npz", *SMALL) == 0
    assert {p.name for p in tmp_path.glob("*.npz")} == {"d.npz", "d-2.npz", "d-3.npz"}


def test_one_step_alone_can_be_drawn(capsys):
    assert run("--hidden-size", "4", "--steps", "1") == 0
    assert "Over 1 step " in capsys.readouterr().out


class Bomb:
    def __reduce__(self):
        return Path("exploded").touch, ()


def nan_checkpoint():
    cell = RHN(88, 6)
    with torch.no_grad():
        cell.bias[0, 0] = float("nan")
    save_checkpoint("nan.safetensors", cell)


def truncated_checkpoint():
    whole = save_checkpoint("whole.safetensors", RHN(88, 6)).read_bytes()
    Path("truncated.safetensors").write_bytes(whole[:-100])


def bomb():
    Path("bomb.pickle").write_bytes(pickle.dumps(Bomb()))


@pytest.mark.parametrize(
    ("args", "words", "prepare"),
    [
        (["--cell", "rhm"], "did you mean 'rhn'", None),
        (["--depth", "0"], "depth must be a whole number of at least 1, got 0", None),
        (["--cell", "lstm", "--depth", "3"], "LSTM has no recurrence depth", None),
        (["--hidden-size", "0"], "hidden_size must be a whole number of at least 1", None),
        (["--hidden-size", "200000"], "GiB are available", None),
        (["--hidden-size", "1000000000000"], "cannot build rhn", None),
        (["--depth", "two"], "--depth", None),
        (["--dept", "2"], "perhaps you meant --depth", None),
        (["--chorale", "bwv26"], "did you mean bwv2", None),
        (["--steps", "100000"], "it has 85 frames", None),
        (["--steps", "0"], "--steps must be at least 1", None),
        (["--init", "normal"], "expected gaussian:STD", None),
        (["--cell", "gru", "--transform-bias", "1"], "for cells with transform gates", None),
        (["--output", "missing/figure.png"], "the folder missing does not exist", None),
        (["--output", "figure.bmp"], "expected a name ending in .png", None),
        (["--save-data", "numbers.pkl"], "expected a name ending in .npz", None),
        (["--checkpoint", "nowhere.safetensors"], "there is no checkpoint at", None),
        (["--checkpoint", "nan.safetensors"], "NaN", nan_checkpoint),
        (["--checkpoint", "truncated.safetensors"], "truncated", truncated_checkpoint),
        (["--data", "bomb.pickle"], "bomb.pickle", bomb),
        (["--compare", "rnn,foo"], "unknown cell 'foo'", None),
        (["--cell", ""], "unknown cell ''", None),
        (["--depth", "2.5"], "--depth expects a whole number, got '2.5'", None),
        (["--init", "uniform:1e308"], "expected gaussian:STD", None),
        (["--seed", "99999999999999999999"], "--seed must be", None),
        (
            ["--animate", "--output", "an.png"],
            "it is a folder",
            lambda: [Path(f"an.{s}").mkdir() for s in ("gif", "mp4")],
        ),
        (["--compare", "rnn", "--save-data", "d.npz"], "it is a folder", lambda: Path("d-2.npz").mkdir()),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_no_figure(args, words, prepare, capsys, tmp_path):
    if prepare:
        prepare()
    assert run(*args) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert not captured.out and not list(tmp_path.glob("*.png")) and not (tmp_path / "exploded").exists()


def test_an_unwritable_output_is_refused_before_the_work(monkeypatch, capsys, tmp_path):
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr("rhn.data.chorale", lambda *_: pytest.fail("work was begun"), raising=False)
    assert run("--output", "folder.png") == 2
    assert "it is a folder" in capsys.readouterr().err


def test_as_a_process_results_go_to_stdout_and_errors_to_stderr():
    command = [sys.executable, "-m", "gersgorin", "--json", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["cell"] == "rhn" and done.stderr == ""
    failed = subprocess.run([*command, "--cell", "nope"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2 and failed.stdout == "" and "Traceback" not in failed.stderr


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as leaving:
        run("--help")
    assert leaving.value.code == 0 and "gersgorin-plot --cell rhn --depth 5" in capsys.readouterr().out

"""`rhn-analyze` as its users meet it: each command gives what the Python call gives."""

import csv
import html
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import help_of
from networks import WORDS, language_checkpoint, language_network, network, sentences

import gersgorin
from analysis import GateActivity, LesionTable, gate_activity, lesion, refinement
from analysis.lesion_modes import MODES
from analysis.report import _parts, report_page
from rhn.checkpoints import read, save
from rhn.data import chorale, chorales
from rhn.data.text import read_text

MUSIC, PROSE = network(dtype=torch.float32), language_network(dtype=torch.float32)
TEXTS = {"data", "split", "names", "shown", "symbols"}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(own_folder):
    save("best.safetensors", MUSIC)
    language_checkpoint("text.safetensors", PROSE)
    Path("novel.txt").write_text(sentences(400))


def novel(split: str) -> np.ndarray:
    return getattr(read_text("text", "novel.txt", vocabulary=WORDS), split)[:]


LINES = {
    "gates best.safetensors --chorale 0 bwv269 train-3": lambda: gate_activity(
        MUSIC, [chorale(name) for name in ("test-0", "bwv269", "train-3")]
    ),
    "gates text.safetensors --data novel.txt --length 30": lambda: gate_activity(
        PROSE, [novel("valid")[len(novel("valid")) * k // 4 :][:30] for k in range(4)]
    ),
    "lesion best.safetensors --split valid": lambda: lesion(MUSIC, chorales().valid),
    "lesion best.safetensors --chorale bwv269 test-0 --mode carry --pairs": lambda: lesion(
        MUSIC, [chorale(name) for name in ("bwv269", "test-0")], "carry", pairs=True
    ),
    "lesion text.safetensors --data novel.txt --length 7 --max-tokens 40 --split train": lambda: (
        lesion(PROSE, [novel("train")[k : min(k + 7, 40) + 1] for k in range(0, 40, 7)])
    ),
    "refine best.safetensors --split valid": lambda: refinement(MUSIC, chorales().valid),
    "refine text.safetensors --data novel.txt --length 7 --max-tokens 40 --split train": lambda: (
        refinement(PROSE, [novel("train")[k : min(k + 7, 40) + 1] for k in range(0, 40, 7)])
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_a_command_gives_what_the_python_call_gives(line, answer):
    found = answer(f"rhn-analyze {line} --output a.npz")
    wanted = json.loads(json.dumps(LINES[line]().to_dict()))
    assert {**found, **dict.fromkeys(TEXTS)} == {**wanted, **dict.fromkeys(TEXTS)}


def test_each_mode_of_a_lesion_stands_in_the_help_and_has_a_row_on_the_page():
    text = " ".join(help_of("rhn-analyze", "lesion").split())
    page = (Path(__file__).resolve().parents[2] / LesionTable.page).read_text()
    assert f"[choices: {', '.join(MODES)}]" in text
    for name, mode in MODES.items():
        assert f" {name}: {mode.meaning}" in text
        assert f"\n| `{name}`" in page


def test_chosen_chorales_are_all_shown_with_their_names():
    found = gate_activity("best.safetensors", chorales=("0", "bwv269", "train-3"))
    assert found.names == tuple(chorale(name).name for name in ("test-0", "bwv269", "train-3"))
    assert found.shown == 3


def test_files_hold_what_is_printed(command):
    files = "--output g.pdf g.npz --csv g.csv"
    printed = command(f"rhn-analyze gates text.safetensors --data novel.txt {files}")
    found = GateActivity.load("g.npz")
    assert (found.data, found.split, found.step) == ("novel.txt", "valid", "token")
    assert found.lengths[0] == 60 and found.names[0] == "valid-0"
    files = "file: g.csv\nfigure: g.pdf\nfile: g.npz\n"
    assert printed.out == f"{found}\n{files}"
    assert Path("g.pdf").read_bytes().startswith(b"%PDF")
    with Path("g.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["mean"]) == found.mean_by_layer[0]


def test_the_kind_of_the_figure_of_gates_is_curves_or_a_map(command, monkeypatch):
    drawn = []
    monkeypatch.setattr(GateActivity, "figure", lambda found, **how: drawn.append(how["kind"]))
    monkeypatch.setattr("gersgorin.cli.outputs.save_figure", lambda path, draw, size: draw())
    for words in ("", "--kind map"):
        assert command(f"rhn-analyze gates best.safetensors --chorale 0 {words}").code == 0
    assert drawn == ["curves", "map"]


def write_chorales(path: str) -> None:
    """Two pieces in each split."""
    piece = [[50, 54], [52], [57, 62]]
    lengths = {"train": (4, 5), "valid": (2, 3), "test": (3, 2)}
    splits = {split: [piece * times for times in lengths[split]] for split in lengths}
    Path(path).write_text(json.dumps(splits))


def test_the_report_has_the_figure_and_the_table_of_each_part(command):
    """The parts of two seeds have the name of the seed; the losses are those of both."""
    write_chorales("mine.json")
    train = "rhn train jsb-depth-2 --hidden-size 4 --epochs 1 --data mine.json --seeds 2 --out run"
    assert command(train).code == 0
    _, two = networks = [read(f"run/seed-{seed}") for seed in (0, 1)]
    assert command(f"rhn-analyze report {two.path} --split valid --output a.html").code == 0
    page, valid = Path("a.html").read_text(), chorales("mine.json").valid
    heads = ["Spectra, cells.0", "Gates", "Lesions"]
    losses = "Losses of the training run"
    assert re.findall("<h2>(.*)</h2>", page) == [losses, *heads]
    assert page.count('src="data:image/png;base64,') == page.count("<pre>") == 4
    model, x = two.model(), torch.from_numpy(np.array(valid[0])).double()
    about = {"data": valid[0].name, "unit": "quarter notes"}
    spectra = gersgorin.spectra(gersgorin.open_run(model, x, layer="cells.0", **about))
    layers = gate_activity(model, valid), lesion(model, valid, pairs=True)
    layers = [replace(found, data="mine.json", split="valid") for found in layers]
    for found in (spectra, *layers):
        assert html.escape(str(found)) in page
    how = {"data": None, "split": "", "cell": None, "device": None}
    parts = [(heading, table) for heading, table, _ in _parts(Path("run"), networks, **how)]
    of_seeds = [f"{head}, seed-{seed}" for seed in (0, 1) for head in heads]
    assert [heading for heading, _ in parts] == [losses, *of_seeds]
    assert parts[0][1].count("seed-") == 2


@pytest.mark.slow
def test_the_report_has_the_spectra_of_the_first_sequence_of_its_split(command):
    write_chorales("mine.json")
    checksum, path = chorales("mine.json").checksum, str(Path("mine.json").absolute())
    save("run.safetensors", MUSIC, data={"checksum": checksum, "path": path})
    for words, split in (("--data mine.json", "test"), ("--split valid", "valid")):
        line = f"rhn-analyze report run.safetensors {words} --output a.html"
        assert command(line).code == 0
        page, pieces = Path("a.html").read_text(), getattr(chorales("mine.json"), split)
        x, about = torch.from_numpy(np.array(pieces[0])).double(), {"data": pieces[0].name}
        run = gersgorin.open_run(MUSIC, x, layer="cells.0", unit="quarter notes", **about)
        lesions = lesion(MUSIC, pieces, pairs=True)
        for found in (gersgorin.spectra(run), replace(lesions, data="mine.json", split=split)):
            assert html.escape(str(found)) in page


def test_the_report_runs_on_the_device_that_is_given(monkeypatch):
    """The first move of the network, here to a device without memory."""

    def moved(module, device):
        raise InterruptedError(device)

    monkeypatch.setattr(torch.nn.Module, "to", moved)
    for device, wanted in (("meta", "meta"), (None, "cpu")):
        with pytest.raises(InterruptedError, match=f"^{wanted}$"):
            report_page("best.safetensors", device=device)


def test_the_report_of_a_text_without_gates_has_no_part_about_them(command):
    language_checkpoint("plain.safetensors", language_network("rnn", 1, dtype=torch.float32))
    assert command("rhn-analyze report plain.safetensors --data novel.txt").code == 0
    page = Path("report.html").read_text()
    assert "novel.txt valid" in page
    assert re.findall("<h2>(.*)</h2>", page) == ["Spectra, cells.0", "Lesions"]


@pytest.mark.parametrize(
    "line",
    [
        "optim-study run --data missing.json --out novel.txt",
        "optim-study run --data missing.json --out run",
        "rhn-analyze lesion missing --csv nowhere/a.csv",
        "rhn-analyze report missing --output novel.txt/a.html",
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(line, refused):
    Path("run/swarm.png").mkdir(parents=True, exist_ok=True)
    before = sorted(map(str, Path().rglob("*")))
    refused(line, says="cannot write ")
    assert sorted(map(str, Path().rglob("*"))) == before

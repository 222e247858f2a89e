"""An output that cannot be written is refused before the computation, by every command."""

from pathlib import Path

import pytest

import analysis.cli
import optim_study.cli
import rhn.cli.main
from rhn.checkpoints import save
from rhn.models import PolyphonicModel

MAIN = {
    "rhn": rhn.cli.main.main,
    "optim-study": optim_study.cli.main,
    "rhn-analyze": analysis.cli.main,
}
LONG = "a" * 245  # a file may have this name, but not the temporary one beside it
WORK = (
    "rhn.training.sampling.sample_chorale",
    "rhn.plotting.curves.read_curves",
    "optim_study.runner.chorales_of_study",
    "optim_study.cli._rows_of",
    "analysis.gates.opened",
    "analysis.lesions.opened",
    "analysis.report.read",
)


@pytest.fixture(autouse=True)
def _nothing_is_computed(own_folder, monkeypatch):
    def compute(*_, **__):
        raise AssertionError("the computation has begun")

    for place in WORK:
        monkeypatch.setattr(place, compute)
    save("model.safetensors", PolyphonicModel("rnn", hidden_size=3))
    Path("file").write_text("")
    Path("run/swarm.png").mkdir(parents=True)
    Path("run/journal.log").write_text("")


@pytest.mark.parametrize(
    "command",
    [
        "rhn sample model.safetensors --output nowhere/a.mid",
        f"rhn sample model.safetensors --output {LONG}.mid",
        f"rhn report run --output {LONG}.png",
        "rhn report run --output run/swarm.png",
        "optim-study run --out file",
        "optim-study run --out /dev/null/run",
        "optim-study run --out run",
        f"optim-study plot run --output {LONG}.svg",
        f"rhn-analyze gates model.safetensors --output {LONG}.png",
        f"rhn-analyze lesion model.safetensors --output {LONG}.csv",
        "rhn-analyze lesion model.safetensors --output file/a.npz",
        "rhn-analyze report model.safetensors --output file/a.html",
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(command, capsys):
    before = sorted(map(str, Path().rglob("*")))
    name, *words = command.split()
    assert MAIN[name](words) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("error: cannot write ") and sentence.count("\n") == 1
    assert sorted(map(str, Path().rglob("*"))) == before

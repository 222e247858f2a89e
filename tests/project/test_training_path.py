"""The files between `rhn train` and the change of a weight are those that CONTRIBUTING lists, and they are few."""

import re
import sys
import traceback
from pathlib import Path

from rhn import kernels
from rhn.cli import main as cli
from rhn.training.optimizers import SGD

ROOT = Path(__file__).resolve().parents[2]
MOST = 14


def files_on_the_way() -> list[str]:
    """The files of rhn that have called one another when this function is called, outermost first."""
    names = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(sys._getframe(2))]
    ours = [str(Path(name).relative_to(ROOT)) for name in names[::-1] if Path(name).is_relative_to(ROOT / "rhn")]
    return list(dict.fromkeys(ours))


def test_the_path_of_a_training_is_the_listed_one(tmp_path, monkeypatch):
    found: dict[str, list[str]] = {}

    def followed(name, function):
        def call(*args, **options):
            if "update" not in found:
                found[name] = files_on_the_way()
            return function(*args, **options)

        return call

    monkeypatch.setattr(kernels, "highway", followed("recurrence", kernels.highway))
    monkeypatch.setattr(SGD, "update", followed("update", SGD.update))
    data = tmp_path / "pieces.json"
    chords = [[60, 64, 67], [60, 65, 69], [62, 67, 71]]
    data.write_text(str({split: [chords] for split in ("train", "valid", "test")}).replace("'", '"'))
    words = ["train", "jsb-depth-2", "--hidden-size", "3", "--epochs", "1", "--data", data, "--out", tmp_path / "run"]
    assert cli.main(list(map(str, words))) == 0
    on_the_way = list(dict.fromkeys(found["recurrence"] + found["update"]))
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## The path of a training")[2].partition("\n## ")[0]
    assert re.findall(r"^\d+\. `([^`]*)`", section, re.MULTILINE) == on_the_way
    assert len(on_the_way) <= MOST

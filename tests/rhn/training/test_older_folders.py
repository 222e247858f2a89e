"""Run folders that version 0.2 began go on to the numbers that it would have come to."""

import json
import shutil
from pathlib import Path

import pytest

from rhn.training.config import ChoraleConfig, LanguageConfig
from rhn.training.run_folder import train
from tests.rhn.pieces import shortest_chorales
from tests.rhn.texts import small_corpus

FOLDERS = Path(__file__).with_name("version_0_2")
ENTRIES = ("data", "text", "seeds", "device", "path")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", ["chorales", "text"])
def test_a_folder_of_version_0_2_goes_on(name, tmp_path):
    folder = Path(shutil.copytree(FOLDERS / name, tmp_path / "run"))
    entries = json.loads((folder / "config.json").read_text())
    fields = {key: value for key, value in entries.items() if key not in ENTRIES}
    if name == "text":
        results = train(LanguageConfig(**fields), small_corpus(40), folder, seeds=entries["seeds"])
    else:
        results = train(ChoraleConfig(**fields | {"epochs": 5}), shortest_chorales(3), folder)
    assert all(result.finished for result in results)
    for expected in folder.rglob("expected.jsonl"):
        found, wanted = lines(expected.with_name("metrics.jsonl")), lines(expected)
        assert (
            len(found)
            == len(wanted)
            > len(lines(FOLDERS / name / expected.relative_to(folder).with_name("metrics.jsonl")))
        )
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-6)  # the fixtures come from another processor

"""Run folders of earlier versions are read, and go on as a new training does.

`older/` holds two epochs of one small training by each version, 1 to 5 kB a file:

    rhn train enwik8-10x1000 --corpus text --data novel.txt --depth 2 --hidden-size 6 --epochs 2
        --batch-size 4 --window 7 --tied --out VERSION
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tables import for_each

from rhn.checkpoints import read_metadata
from rhn.cli.main import main
from rhn.errors import DamagedError
from rhn.training.state import read_state

OLDER = Path(__file__).with_name("older")
NOVEL = OLDER / "novel.txt"
VERSIONS = ("0.4.0", "0.5.0")
TRAINING = (
    "train enwik8-10x1000 --corpus text --depth 2 --hidden-size 6 --batch-size 4 --window 7 --tied"
)


def losses(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@for_each("version", VERSIONS)
def test_a_checkpoint_has_the_loss_that_its_version_wrote(version, capsys):
    folder = OLDER / version
    assert read_metadata(folder / "best.safetensors")["versions"]["rhn"] == version
    words = ["evaluate", str(folder), "--data", str(NOVEL)]
    assert main([*words, "--split", "valid", "--batch-size", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["bits_per_character"]
    assert found == pytest.approx(losses(folder)[-1]["valid_bits_per_character"], rel=1e-5)


def trained(folder: Path) -> Path:
    """The folder, trained to the third epoch."""
    words = [*TRAINING.split(), "--data", str(NOVEL), "--epochs", "3", "--out", str(folder)]
    assert main(words) == 0
    assert len(losses(folder)) == 3
    return folder


def test_a_training_goes_on_as_if_it_had_never_stopped(subtests, tmp_path):
    whole = trained(tmp_path / "whole")
    expected, _ = read_state(whole / "state.safetensors")
    for version in VERSIONS:
        with subtests.test(version):
            begun = trained(shutil.copytree(OLDER / version, tmp_path / version))
            for of_begun, of_whole in zip(losses(begun), losses(whole), strict=True):
                # another machine wrote its beginning
                assert of_begun == pytest.approx(of_whole, rel=1e-4)
            state, _ = read_state(begun / "state.safetensors")
            for name, array in expected.items():
                np.testing.assert_allclose(state[name], array, rtol=1e-3, atol=1e-5)


@for_each("version", VERSIONS)
def test_a_flipped_bit_of_a_state_is_found(version, tmp_path):
    content = bytearray((OLDER / version / "state.safetensors").read_bytes())
    content[-3] ^= 4
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(DamagedError, match="its checksum differs"):
        read_state(tmp_path / "s")

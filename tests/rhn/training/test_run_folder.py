"""A training's folder: of one configuration, and a full disk is told."""

import resource

import pytest
from tables import for_each

from rhn.errors import OutputError
from rhn.presets import preset
from rhn.training.run import train_in_folder, write_lines
from tests.rhn.pieces import shortest_chorales


# none for the lines given, a part of a line, a part of the next line
@for_each("room", [0, 20, 40])
def test_a_full_disk_is_an_output_error_with_the_reason(tmp_path, room):
    """A limit on the file's size stands for the full disk."""
    path, before, error = (
        tmp_path / "metrics.jsonl",
        resource.getrlimit(resource.RLIMIT_FSIZE),
        None,
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        for epochs in range(1, 9):
            write_lines(path, [{"epoch": epoch} for epoch in range(epochs)])
    except OutputError as caught:
        error = str(caught)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error == f"cannot write {path}: File too large"


def test_a_disk_that_is_full_in_a_training_run_says_how_to_continue(tmp_path):
    config = preset("jsb-depth-1", hidden_size=3, epochs=2)
    corpus, whole = shortest_chorales(4), resource.getrlimit(resource.RLIMIT_FSIZE)
    train_in_folder(config, corpus, tmp_path / "run", max_minutes=0)
    saved = (tmp_path / "run" / "state.safetensors").read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, whole[1]))
    try:
        with pytest.raises(OutputError, match="File too large; fix that and run the same command"):
            train_in_folder(config, corpus, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == saved
    assert train_in_folder(config, corpus, tmp_path / "run")[0].finished

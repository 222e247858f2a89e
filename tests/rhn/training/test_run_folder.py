"""A full disk during a training run is an error, and what was saved is kept."""

import resource

import pytest

from rhn.errors import OutputError
from rhn.presets import preset
from rhn.training.run import train
from tests.rhn.pieces import shortest_chorales


def test_a_disk_that_is_full_in_a_training_run_is_an_error_and_the_run_goes_on_later(tmp_path):
    """A limit on the file's size stands for the full disk."""
    config = preset("jsb-depth-1", hidden_size=3, epochs=2)
    corpus, whole = shortest_chorales(4), resource.getrlimit(resource.RLIMIT_FSIZE)
    train(config, corpus, out=tmp_path, max_minutes=0)
    saved = (tmp_path / "state.safetensors").read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, whole[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*: File too large$"):
            train(config, corpus, out=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
    assert (tmp_path / "state.safetensors").read_bytes() == saved
    assert train(config, corpus, out=tmp_path)[0].finished

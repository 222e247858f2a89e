"""The example of the package runs, and a checkpoint knows its weights before training."""

import textwrap

import pytest
from texts import SMALL, small_corpus

import rhn
from rhn.errors import CheckpointError


def test_the_example_of_the_package_runs(own_folder, capsys):
    before, names = rhn.__doc__.partition("    import rhn"), {}
    exec(textwrap.dedent("".join(before[1:]).rpartition("\n\n")[0]), names)
    assert capsys.readouterr().out.endswith(" nats per frame\n")
    assert names["outputs"].shape[1:] == (16,) and names["frames"].shape == (8, 88)


def test_the_first_weights_are_those_of_the_seed(tmp_path):
    data, how = small_corpus(), {"batch_size": SMALL.batch_size}
    (result,) = rhn.train(SMALL, data, out=tmp_path / "run", epochs=1)
    first, last = rhn.load(tmp_path / "run", before_training=True), rhn.load(result.checkpoint)
    losses = [rhn.evaluate(model, data, "valid", **how).nll for model in (first, last)]
    assert losses[1] == pytest.approx(result.valid_nll) and losses[0] > losses[1]
    copy = rhn.save(tmp_path / "copy.safetensors", last)
    assert rhn.load(copy).config() == last.config()
    with pytest.raises(CheckpointError, match="names no training run"):
        rhn.load(copy, before_training=True)

"""The names of `import rhn` are few and exist, and texts go through the same calls as chorales."""

import textwrap

import pytest
from texts import SMALL, small_corpus

import rhn
from rhn.errors import CheckpointError, InvalidInputError


def test_the_example_of_the_package_runs(own_folder, capsys):
    before, names = rhn.__doc__.partition("    import rhn"), {}
    exec(textwrap.dedent("".join(before[1:]).rpartition("\n\n")[0]), names)
    assert capsys.readouterr().out.endswith(" nats per frame\n")
    assert names["outputs"].shape[1:] == (16,) and names["frames"].shape == (8, 88)


def test_a_text_is_trained_on_evaluated_and_continued_by_the_same_calls(tmp_path):
    data = small_corpus()
    (result,) = rhn.train(
        SMALL, data, out=tmp_path / "run", cell="gru", depth=1, transform_bias=None, epochs=1
    )
    model = rhn.load(result.checkpoint)
    assert rhn.evaluate(model, data, "valid", batch_size=SMALL.batch_size).nll == pytest.approx(
        result.valid_nll
    )
    copy = rhn.save(tmp_path / "copy.safetensors", model)
    assert rhn.load(copy).config() == model.config()
    first = rhn.load(result.checkpoint, before_training=True)
    assert rhn.evaluate(first, data, "valid", batch_size=SMALL.batch_size).nll > result.valid_nll
    with pytest.raises(CheckpointError, match="names no training run"):
        rhn.load(copy, before_training=True)
    assert rhn.sample(model, data.vocabulary, prompt="the cat", length=3).startswith("the cat")
    with pytest.raises(InvalidInputError, match="vocabulary"):
        rhn.sample(model)

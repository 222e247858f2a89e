"""`rhn evaluate`, `rhn sample` and `rhn generate` have the numbers of the Python calls."""

import math

import pytest
from tables import for_each

import rhn
from rhn.checkpoints import read
from rhn.data import chorales, read_text
from rhn.training.monte_carlo import monte_carlo_score
from rhn.training.sampling import write_chorale
from rhn.training.trained import text_of
from tests.rhn.texts import metrics


def test_a_folder_stands_for_its_best_weights_and_its_data(task, trained, answer):
    folder = trained(task)
    found = answer("rhn evaluate", folder)
    assert answer("rhn evaluate", folder / "best.safetensors") == found
    assert answer(f"rhn evaluate {folder} --data {task.data}") == found


@for_each("split", ["train", "valid", "test"])
def test_chorales_are_evaluated_as_in_python_and_in_training(split, music, trained, answer):
    found, data = answer(f"rhn evaluate {trained(music)} --split {split}"), chorales(music.data)
    assert found["nll"] == rhn.evaluate(rhn.load(trained(music)), data, split).nll
    pieces = getattr(data, split)
    assert (found["split"], found["frames"]) == (split, sum(map(len, pieces)) - len(pieces))
    if split != "test":
        best = min(metrics(trained(music)), key=lambda line: line["valid_nll"])
        assert found["nll"] == best[f"{split}_nll"]


@for_each(
    "options",
    [{}, {"batch_size": 4}, {"temperature": 0.5}, {"mc": 3, "seed": 2}, {"max_tokens": 60}],
)
def test_a_text_is_evaluated_as_in_python(options, prose, trained, answer):
    run, data = trained(prose), read_text("text", prose.data).valid
    words = [f"--{name.replace('_', '-')} {value}" for name, value in options.items()]
    found = answer(f"rhn evaluate {run} --split valid {' '.join(words)}")
    config, model = text_of(read(run))[0], rhn.load(run)
    how = {name: options[name] for name in ("batch_size", "temperature") if name in options}
    data = data[: options.get("max_tokens")]
    if "mc" in options:
        more = {"dropout": config.dropout, "window": config.window}
        wanted = monte_carlo_score(model, data, samples=3, seed=2, **more)
    else:
        wanted = rhn.training.evaluation.score(model, data, **how)
    assert (found["nll"], found["tokens"]) == (wanted.nll, wanted.predicted)
    assert wanted.predicted == len(data) - options.get("batch_size", 1)
    assert found["perplexity"] == pytest.approx(math.exp(wanted.nll))
    if how == {"batch_size": 4}:  # as in training
        best = min(line["valid_perplexity"] for line in metrics(run))
        assert found["perplexity"] == pytest.approx(best, rel=1e-6)


def test_characters_are_measured_in_bits(prose, tmp_path, command, answer):
    line = f"rhn train ptb-depth-1 --corpus text --unit characters --data {prose.data} --epochs 1"
    line += f" --hidden-size 6 --set window=8 --batch-size 4 --out {tmp_path}"
    assert command(line).code == 0
    found = answer("rhn evaluate", tmp_path)
    assert found["bits_per_character"] == pytest.approx(found["nll"] / math.log(2))
    assert "valid_bits_per_character" in metrics(tmp_path)[0]


def test_a_sampled_chorale_is_that_of_python(music, trained, tmp_path, command):
    line = f"rhn sample {trained(music)} --length 2 --temperature 0.8 --seed 3 --output"
    assert command(line, tmp_path / "ours.mid").code == 0
    frames = rhn.sample(rhn.load(trained(music)), bars=2, temperature=0.8, seed=3)
    wanted = write_chorale(frames, tmp_path / "theirs.mid").read_bytes()
    assert (tmp_path / "ours.mid").read_bytes() == wanted


def test_a_generated_text_is_that_of_python(prose, trained, command):
    how = {"prompt": "the cat", "length": 12, "temperature": 2.0, "top_k": 4}
    line = f"rhn generate {trained(prose)} --prompt 'the cat' --length 12 --temperature 2 --top-k 4"
    model, vocabulary = rhn.load(trained(prose)), text_of(read(trained(prose)))[1]
    texts = [command(f"{line} --seed {seed}").out for seed in (3, 4)]
    assert texts == [rhn.sample(model, vocabulary, seed=s, **how) + "\n" for s in (3, 4)]
    assert texts[0] != texts[1]

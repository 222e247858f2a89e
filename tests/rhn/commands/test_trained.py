"""`rhn evaluate`, `rhn sample` and `rhn generate`: a folder means its best weights, and each method
says which it was.
"""

import math

import pytest
from test_trainings import metrics

from rhn.cli import main as cli
from rhn.data import chorales


def test_a_folder_means_its_best_weights_and_its_data_is_known(
    task, trained, answer, refused, tmp_path
):
    folder = trained(task)
    found = answer("evaluate", folder, "--json")
    for words in ([folder / "best.safetensors"], [folder, "--data", task.data]):
        assert answer("evaluate", *words, "--json") == found
    for empty in (tmp_path, folder.parent):
        refused(["evaluate", empty], "best.safetensors does not exist")


def test_a_model_of_chorales_is_evaluated_at_full_precision(music, trained, answer):
    last = min(metrics(trained(music)), key=lambda line: line["valid_nll"])
    for split in ("train", "valid"):
        found = answer("evaluate", trained(music), "--split", split, "--json")
        assert list(found) == ["nll", "split", "frames"]
        assert (found["nll"], found["split"]) == (last[f"{split}_nll"], split)
    pieces = chorales(music.data).valid
    assert found["frames"] == sum(map(len, pieces)) - len(pieces)


def test_evaluation_gives_the_validation_perplexity_of_the_training(prose, trained, answer):
    best = min(line["valid_perplexity"] for line in metrics(trained(prose)))
    rows = answer("evaluate", trained(prose), "--split", "valid", "--batch-size", 4, "--json")
    assert rows["perplexity"] == pytest.approx(best, rel=1e-6)
    whole = answer("evaluate", trained(prose), "--split", "valid", "--json")
    assert list(whole) == ["nll", "perplexity", "split", "tokens"]
    assert (
        whole["perplexity"] == pytest.approx(math.exp(whole["nll"]))
        and whole["tokens"] == 40 * 6 - 1
    )


def test_characters_are_measured_in_bits(small_text, tmp_path, answer):
    command = [
        "train",
        "ptb-depth-1",
        "--corpus",
        "text",
        "--unit",
        "characters",
        "--data",
        small_text,
        "--out",
        tmp_path,
        "--epochs",
        1,
    ]
    assert (
        cli.main(
            list(map(str, [*command, "--hidden-size", 6, "--set", "window=8", "--batch-size", 4]))
        )
        == 0
    )
    found = answer("evaluate", tmp_path, "--json")
    assert list(found) == ["nll", "bits_per_character", "split", "tokens"]
    assert found["bits_per_character"] == pytest.approx(found["nll"] / math.log(2))
    assert "valid_bits_per_character" in metrics(tmp_path)[0]


def test_each_way_of_evaluating_says_which_it_was(prose, trained, answer):
    def found(*options):
        return answer("evaluate", trained(prose), "--json", "--max-tokens", 60, *options)

    plain, mc = found(), found("--mc", 3)
    assert plain["tokens"] == 59 and "samples" not in plain
    assert (mc["samples"], mc["tokens"]) == (3, 59)
    assert mc == found("--mc", 3, "--seed", 0) != found("--mc", 3, "--seed", 2)
    colder = found("--temperature", 0.5)
    assert colder["temperature"] == 0.5 and len({plain["nll"], mc["nll"], colder["nll"]}) == 3


def test_a_chorale_is_sampled_into_a_file(music, trained, tmp_path, capsys):
    output = tmp_path / "chorale.mid"
    command = ["sample", str(trained(music)), "--output", str(output), "--length", "2"]
    assert cli.main([*command, "--temperature", "0.8", "--seed", "3"]) == 0
    assert str(output) in capsys.readouterr().out
    assert output.read_bytes().startswith(b"MThd")


def test_generated_text_is_a_function_of_the_seed(prose, trained, capsys):
    run = str(trained(prose))

    def generated(*options):
        capsys.readouterr()
        assert cli.main(["generate", run, "--length", "12", *options]) == 0
        return capsys.readouterr().out

    first = generated("--prompt", "the cat", "--seed", "3")
    assert first.startswith("the cat")
    assert (
        generated("--prompt", "the cat", "--seed", "3")
        == first
        != generated("--prompt", "the cat", "--seed", "4")
    )
    assert generated("--top-k", "1", "--seed", "1") == generated("--top-k", "1", "--seed", "2")

"""The `rhn` command on texts: train, stop, go on, evaluate, generate; bad input gets one sentence."""

import dataclasses
import importlib.util
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from texts import sentences

from rhn import cli
from rhn.data.text import read_text
from rhn.engine.state import read_state, write_state
from rhn.language import monte_carlo, progress
from rhn.language.dynamic import dynamic_score
from rhn.language.trained import load_text_model
from rhn.presets import PRESETS, preset

PTB = Path(__file__).resolve().parents[3] / "shared" / "data" / "ptb"
TINY = ("--hidden-size", "6", "--depth", "2", "--batch-size", "4", "--window", "8", "--epochs", "3")
TINY += ("--drop-input", "0.2", "--drop-output", "0.2", "--learning-rate", "0.1")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A folder of three files of sentences."""
    folder = tmp_path_factory.mktemp("text")
    for seed, (split, count) in enumerate({"train": 160, "valid": 40, "test": 40}.items()):
        (folder / f"{split}.txt").write_text(sentences(count, seed))
    return str(folder)


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("language") / "run"
    assert cli.main(["train", "ptb-sota", "--words", "--data", text, "--out", str(folder), *TINY]) == 0
    return folder


@pytest.fixture
def train(text, tmp_path):
    """train(*options) in a folder of its own -> (exit code, folder)."""

    def run(*options, name="out", preset="ptb-sota"):
        folder = tmp_path / name
        return cli.main([preset and "train", preset, "--words", "--data", text, "--out", str(folder), *TINY, *options])

    return run


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(one, other):
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for name in ("best.safetensors", "last.safetensors", "state.safetensors"):
        ours, theirs = load_file(one / name), load_file(other / name)
        assert ours.keys() == theirs.keys()
        assert all(ours[key].equal(theirs[key]) for key in ours), name


def evaluate(capsys, checkpoint, text, *options):
    capsys.readouterr()
    assert cli.main(["evaluate", str(checkpoint), "--data", text, "--json", *map(str, options)]) == 0
    return json.loads(capsys.readouterr().out)


def test_training_says_what_it_came_to_and_what_to_do_next(text, tmp_path, capsys):
    command = ["train", "ptb-sota", "--words", "--data", text, "--out", str(tmp_path / "run"), *TINY]
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert f"next: rhn evaluate {tmp_path / 'run'} --split test\n" in said.out
    assert [line.split()[:2] for line in said.err.splitlines()] == [["epoch", f"{k}/3"] for k in (1, 2, 3)]
    assert cli.main([*command, "--json"]) == 0
    found, lines = json.loads(capsys.readouterr().out), metrics(tmp_path / "run")
    best = min(lines, key=lambda line: line["valid_perplexity"])
    assert found["best_epoch"] == best["epoch"]
    assert (found["valid_perplexity"], found["train_perplexity"]) == (
        best["valid_perplexity"],
        best["train_perplexity"],
    )
    assert (found["epochs"], found["finished"], found["diverged"]) == (3, True, None)


def test_evaluation_gives_the_validation_perplexity_of_the_training(trained, text, capsys):
    best = min(line["valid_perplexity"] for line in metrics(trained))
    rows = evaluate(capsys, trained / "best.safetensors", text, "--split", "valid", "--batch-size", 4)
    assert rows["perplexity"] == pytest.approx(best, rel=1e-6)
    whole = evaluate(capsys, trained / "best.safetensors", text, "--split", "valid")
    assert list(whole) == ["nll", "perplexity", "split", "tokens"]
    assert whole["perplexity"] == pytest.approx(math.exp(whole["nll"]))
    assert whole["tokens"] == 40 * 6 - 1


def test_characters_are_measured_in_bits(text, tmp_path, capsys):
    folder = tmp_path / "characters"
    assert cli.main(["train", "ptb-depth-1", "--characters", "--data", text, "--out", str(folder), *TINY]) == 0
    found = evaluate(capsys, folder / "best.safetensors", text)
    assert list(found) == ["nll", "bits_per_character", "split", "tokens"]
    assert found["bits_per_character"] == pytest.approx(found["nll"] / math.log(2))
    assert "valid_bits_per_character" in metrics(folder)[0]


def test_each_way_of_evaluating_says_which_it_was(trained, text, capsys):
    checkpoint, short = trained / "best.safetensors", ("--max-tokens", 60)
    plain = evaluate(capsys, checkpoint, text, *short)
    assert plain["tokens"] == 59
    mc = evaluate(capsys, checkpoint, text, *short, "--mc", 3, "--seed", 1)
    assert (mc["method"], mc["samples"], mc["tokens"]) == ("mc", 3, 59)
    assert mc != evaluate(capsys, checkpoint, text, *short, "--mc", 3, "--seed", 2)
    assert mc == evaluate(capsys, checkpoint, text, *short, "--mc", 3, "--seed", 1)
    official = evaluate(capsys, checkpoint, text, *short, "--mc-official", 3)
    assert (official["method"], official["samples"]) == ("mc-official", 3)
    dynamic = evaluate(capsys, checkpoint, text, *short, "--dynamic")
    assert dynamic["method"] == "dynamic"
    assert len({result["nll"] for result in (plain, mc, official, dynamic)}) == 4


def test_dynamic_evaluation_learns_its_rates_from_what_was_trained_on(train, text, tmp_path, capsys):
    assert train("--max-tokens", "200", "--epochs", "1") == 0
    checkpoint = tmp_path / "out" / "best.safetensors"
    trained, corpus = load_text_model(checkpoint), read_text("text", text, max_tokens=200)
    wanted = dynamic_score(trained.model, corpus.test.head(60), corpus.train)
    found = evaluate(capsys, checkpoint, text, "--dynamic", "--max-tokens", 60)
    assert found["nll"] == pytest.approx(wanted.nll, rel=1e-6)
    whole = dynamic_score(trained.model, corpus.test.head(60), read_text("text", text).train)
    assert found["nll"] != pytest.approx(whole.nll, rel=1e-6)


def test_official_samples_that_are_all_rejected_name_the_option_to_use(trained, text, monkeypatch, capsys):
    monkeypatch.setattr(monte_carlo, "ACCEPTED", 1.0)  # no perplexity is below
    options = ["--data", text, "--max-tokens", "9", "--mc-official", "120"]
    assert_refused(capsys, ["evaluate", str(trained / "best.safetensors"), *options], "with --mc 120")


def test_the_best_temperature_is_no_worse_than_1_on_the_validation_text(trained, text, capsys):
    checkpoint = trained / "best.safetensors"
    found = evaluate(capsys, checkpoint, text, "--split", "valid", "--temperature", "auto")
    assert 0.8 <= found["temperature"] <= 1.2
    assert found["nll"] <= evaluate(capsys, checkpoint, text, "--split", "valid")["nll"]
    given = evaluate(capsys, checkpoint, text, "--split", "valid", "--temperature", found["temperature"])
    assert given == found


def test_time_that_runs_out_is_no_failure_and_resume_goes_on_to_the_same_bits(trained, train, tmp_path, capsys):
    assert train("--max-minutes", "0") == 0
    said = capsys.readouterr().out
    assert f"rhn resume {tmp_path / 'out'} goes on" in said
    assert metrics(tmp_path / "out") == []
    for _ in range(3):  # a window each
        assert cli.main(["resume", str(tmp_path / "out"), "--max-minutes", "0"]) == 0
    assert cli.main(["resume", str(tmp_path / "out")]) == 0  # it knows where the text was
    assert_same_run(tmp_path / "out", trained)


def test_a_killed_training_goes_on_to_the_same_numbers(text, tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    options = ["train", "ptb-sota", "--words", "--data", text, *TINY, "--epochs", "12", "--out"]
    command = [*options, str(folder)]
    assert cli.main([*options, str(whole)]) == 0
    for lines in (2, 6):
        process = subprocess.Popen([sys.executable, "-m", "rhn", *command], stderr=subprocess.DEVNULL)
        wait_for_lines(folder / "metrics.jsonl", lines, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert cli.main(["resume", str(folder)]) == 0
    assert_same_run(folder, whole)


def test_a_training_killed_before_its_first_window_knows_where_its_text_is(text, tmp_path):
    command = ["train", "ptb-sota", "--words", "--data", ".", "--out", str(tmp_path / "run"), *TINY]
    process = subprocess.Popen([sys.executable, "-m", "rhn", *command], stderr=subprocess.DEVNULL, cwd=text)
    wait_for_lines(tmp_path / "run" / "config.json", 1, process)
    process.kill()
    process.wait()
    assert cli.main(["resume", str(tmp_path / "run")]) == 0
    assert len(metrics(tmp_path / "run")) == 3


def test_data_that_was_moved_is_said_once(train, text, tmp_path, capsys):
    moved = shutil.copytree(text, tmp_path / "moved")
    assert train("--max-minutes", "0") == 0
    config = tmp_path / "out" / "config.json"
    config.write_text(config.read_text().replace(str(text), str(tmp_path / "gone")))
    assert_refused(capsys, ["resume", str(tmp_path / "out")], f"{tmp_path / 'gone'}: no such file or folder")
    assert cli.main(["resume", str(tmp_path / "out"), "--data", str(moved), "--max-minutes", "0"]) == 0
    assert cli.main(["resume", str(tmp_path / "out")]) == 0
    config.write_text(config.read_text().replace(f'"{moved}"', "3"))
    assert_refused(capsys, ["resume", str(tmp_path / "out")], "does not say where the data is: give --data")


def test_ctrl_c_saves_and_says_how_to_go_on(text, tmp_path):
    words = ["train", "ptb-sota", "--words", "--data", text, "--out", str(tmp_path), *TINY, "--epochs", "100000"]
    process = subprocess.Popen([sys.executable, "-m", "rhn", *words], stderr=subprocess.PIPE, text=True)
    wait_for_lines(tmp_path / "metrics.jsonl", 2, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"saved; rhn resume {tmp_path} goes on" in said
    assert "Traceback" not in said


def wait_for_lines(path, count, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.002)


def test_a_finished_training_goes_on_for_more_epochs(train, tmp_path):
    assert train("--epochs", "2") == 0
    assert cli.main(["resume", str(tmp_path / "out"), "--epochs", "3"]) == 0
    assert train(name="whole") == 0
    assert_same_run(tmp_path / "out", tmp_path / "whole")


def test_seeds_side_by_side_have_the_numbers_that_each_has_alone(trained, train, tmp_path, capsys):
    assert train("--seeds", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)["seeds"]
    assert [row["seed"] for row in found] == [0, 1]
    assert train("--seed", "1", name="alone") == 0
    for place, alone in ((0, trained), (1, tmp_path / "alone")):
        folder = tmp_path / "out" / f"seed-{place}"
        assert found[place]["checkpoint"] == str(folder / "best.safetensors")
        assert (folder / "last.safetensors").exists()
        for ours, theirs in zip(metrics(folder), metrics(alone), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)
    assert metrics(tmp_path / "out" / "seed-0") != metrics(tmp_path / "out" / "seed-1")


def test_the_configuration_is_printed_with_what_differs_from_the_preset(capsys):
    assert cli.main(["train", "ptb-sota", "--learning-rate", "0.5", "--print-config"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == dataclasses.asdict(preset("ptb-sota")) | {"learning_rate": 0.5}
    assert said.err.splitlines() == ["learning_rate is 0.5, the preset's is 0.2", "parameters: 23482400"]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("options", [(), ("--hidden-size", "7", "--seed", "3", "--transform-bias", "None")])
def test_what_print_config_prints_config_reads(name, options, tmp_path, capsys):
    if options and preset(name).transform_bias is not None:
        options = options[:-2]
    assert cli.main(["train", name, *options, "--print-config"]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "config.json").write_text(printed)
    assert cli.main(["train", "--config", str(tmp_path / "config.json"), "--print-config"]) == 0
    assert capsys.readouterr().out == printed
    given = {"hidden_size": 7, "seed": 3} if options else {}
    assert json.loads(printed) == dataclasses.asdict(dataclasses.replace(preset(name), **given))


def test_the_parameters_of_a_text_of_one_s_own_are_counted_with_its_vocabulary(text, capsys):
    size = ("--hidden-size", "5")
    command = ["train", "ptb-depth-1", "--words", *size, "--print-config"]
    assert cli.main(command) == 0
    assert "parameters: as many as the text of --data makes" in capsys.readouterr().err
    assert cli.main([*command, "--data", text]) == 0
    words = 9 * (5 + 5 + 1) + 2 * 5 * (5 + 5 + 1)  # 8 words and <eos>: embedding, output, its bias; H and T
    assert f"parameters: {words}\n" in capsys.readouterr().err


def test_a_terminal_shows_speed_loss_and_time_left(train, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PAUSE", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    assert train() == 0
    said = capsys.readouterr().err
    for word in ("epoch 3/3", "tokens/s", "perplexity", "gradient norm", "learning rate 0.1", "valid", "left"):
        assert word in said
    assert "nan" not in said


def test_a_data_set_is_shown_by_the_same_command(text, capsys):
    assert cli.main(["data", "show", "text", "--data", text, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"][0]["found"] == 160 * 6


def test_a_cell_without_gates_drops_the_preset_s_transform_bias(capsys):
    for cell, bias in (("lstm", None), ("rhn", -2.0)):
        assert cli.main(["train", "ptb-depth-1", "--cell", cell, "--print-config"]) == 0
        assert json.loads(capsys.readouterr().out)["transform_bias"] == bias


def test_a_configuration_file_stands_for_a_preset_or_on_top_of_one(trained, tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"preset": "ptb-depth-5", "hidden_size": 50, "cell": "dt-rnn", "drop_input": 0}))
    shown = configuration(capsys, "--config", file, "--layers", "2")
    assert (shown["depth"], shown["hidden_size"], shown["layers"], shown["window"]) == (5, 50, 2, 35)
    assert (shown["cell"], shown["transform_bias"], shown["drop_input"]) == ("dt-rnn", None, 0)
    again = configuration(capsys, "--config", trained / "config.json")
    kept = json.loads((trained / "config.json").read_text())
    assert {name: kept[name] for name in again if name != "parameters"} == {k: v for k, v in again.items() if k in kept}


def configuration(capsys, *words):
    assert cli.main(["train", *map(str, words), "--print-config"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is no configuration"),
        ('{"preset": "ptb-soto"}', "did you mean 'ptb-sota'"),
        ('{"preset": "ptb-sota", "hidden_sise": 3}', "did you mean 'hidden_size'"),
        ('{"preset": "ptb-sota", "hidden_size": "3"}', 'hidden_size is "3", expected a whole number'),
        ('{"preset": "ptb-sota", "tied": 1}', "tied is 1, expected True or False"),
        ('{"preset": "ptb-sota", "depth": 0}', "depth is 0, expected 1 or more"),
        ('{"corpus": "brown"}', "corpus is brown, expected one of ptb"),
        ('{"cell": "rhn"}', "is not a whole configuration"),
    ],
)
def test_a_configuration_file_that_cannot_be_used_is_refused(content, message, tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text(content)
    assert_refused(capsys, ["train", "--config", str(file), "--print-config"], message)


def assert_refused(capsys, words, message):
    capsys.readouterr()
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert message in said.err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train ptb-soto --out OUT", "did you mean 'ptb-sota'"),
        ("train ptb-sota", "--out DIR is missing"),
        ("train ptb-sota --out OUT --learning-rate -1", "learning_rate is -1.0, expected a number above 0"),
        ("train ptb-sota --out OUT --hidden-siz 3", "perhaps you meant --hidden-size"),
        ("train ptb-sota --out OUT --data missing", "missing: no such file or folder, expected ptb"),
        ("train ptb-sota --out OUT --data TEXT", "for a text of your own add --words or --characters"),
        ("train ptb-sota --out OUT --data FILE", "train.txt is none of ptb.train.txt, ptb.valid.txt, ptb.test.txt"),
        ("train enwik8-5x1500 --out OUT --data FILE", "add --words or --characters"),
        ("train ptb-sota --out FILE --data TEXT --words", "train.txt is no folder"),
        ("train ptb-sota --out EMPTY", "--out expects a path, got ''"),
        ("train --config EMPTY --out OUT", "--config expects a path, got ''"),
        ("resume EMPTY", "DIR expects a path, got ''"),
        ("train ptb-sota --out OUT --corpus enwik8 --words", "--words is for a text of your own, and --corpus enwik8"),
        ("train ptb-sota --out OUT --unit characters --words", "--words and --unit characters contradict one another"),
        ("train ptb-sota --out OUT --unit characters", "--unit is for a text of your own, and ptb is none"),
        ("train ptb-sota --out OUT --patience 3", "--patience is for chorales, and this trains a language model"),
        (
            "train ptb-sota --out OUT --temperature 3",
            "--temperature is no option here, but of rhn evaluate and rhn generate and",
        ),
        ("train ptb-sota --out OUT --seed 9223372036854775807 --seeds 2", "the seed is 9223372036854775808"),
        ("train ptb-sota --out OUT --data missing --words", "missing: no such file or folder"),
        ("train ptb-sota --out OUT --data TEXT --words --characters", "exclude one another"),
        ("train ptb-sota --out OUT --data TEXT --words --max-tokens 30", "do not fill 20 rows of 36"),
        ("train ptb-sota --out OUT --data TEXT --words --hidden-size 5 --cell lstm", "no recurrence depth"),
        ("train ptb-depth-1 --out OUT --data TEXT --words --cell lstm --transform-bias -2", "transform_bias"),
        ("train ptb-sota --out OUT --data TEXT --words --seeds 0", "--seeds is 0, expected 1 or more"),
        ("train ptb-sota --out OUT --data TEXT --words --threads 0", "0 threads were asked for, expected 1 to"),
        (
            "train ptb-sota --out OUT --data TEXT --words --threads 100000",
            "100000 threads were asked for, expected 1 to",
        ),
        ("train ptb-sota --out OUT --data TEXT --words --max-minutes -1", "--max-minutes is -1.0, expected 0 or more"),
        ("train ptb-depth-1 --out RUN --data TEXT --words --hidden-size 9", "holds another training"),
        ("resume OUT", "holds no training"),
        ("resume RUN --data OTHER", "holds another training: text is"),
        ("evaluate CHECKPOINT --data OTHER", "'an', number 0 of the text's words, is not in the vocabulary of 9 words"),
        ("evaluate ALONE", "was trained on a text of your own: say where a text is, --data"),
        ("evaluate CHECKPOINT --data TEXT --temperature abc", "--temperature expects a number or 'auto', got 'abc'"),
        ("evaluate CHECKPOINT --data TEXT --temperature 1e-320", "1e-320 takes the logits beyond any number"),
        ("evaluate CHECKPOINT --data TEXT --seed -1", "the seed is -1, expected a whole number from 0"),
        ("evaluate CHECKPOINT --data missing", "missing: no such file or folder"),
        ("evaluate CHECKPOINT --data TEXT --temperature 0", "temperature is 0.0, expected a number above 0"),
        ("evaluate CHECKPOINT --data TEXT --mc 2 --temperature auto", "fitted to the network without dropout"),
        ("evaluate CHECKPOINT --data TEXT --mc 2 --dynamic", "--mc and --dynamic exclude one another"),
        ("evaluate CHECKPOINT --data TEXT --mc 0", "--mc is 0, expected 1 or more"),
        ("evaluate CHECKPOINT --data TEXT --dynamic --temperature 1.1", "--dynamic has no temperature"),
        ("evaluate CHECKPOINT --data TEXT --max-tokens 1", "--max-tokens is 1, expected 2 or more"),
        ("evaluate CHECKPOINT --data TEXT --batch-size 1000", "do not make 1000 rows"),
        ("sample CHECKPOINT --output OUT.mid", "holds a language model (rhn generate), expected a model of chorales"),
        ("generate missing.safetensors", "there is no checkpoint at missing.safetensors"),
        ("generate CHECKPOINT --temperature 0", "temperature"),
        ("generate CHECKPOINT --length 0", "length"),
        ("generate CHECKPOINT --seed -1", "the seed is -1, expected a whole number from 0"),
        ("generate CHECKPOINT --seed 99999999999999999999", "the seed is 99999999999999999999, expected"),
    ],
)
def test_bad_input_about_texts_gets_one_sentence_and_exit_code_2(command, message, trained, text, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        (other / f"{split}.txt").write_text("an entirely different text\n" * 100)
    places = {"CHECKPOINT": str(trained / "best.safetensors"), "RUN": str(trained), "TEXT": text, "OTHER": str(other)}
    places["ALONE"] = shutil.copy(trained / "best.safetensors", tmp_path)
    places |= {"FILE": str(Path(text) / "train.txt"), "EMPTY": ""}
    words = [places.get(word, word.replace("OUT", str(tmp_path / "out"))) for word in command.split()]
    assert_refused(capsys, words, message)
    assert not (tmp_path / "out").exists()


def test_a_diverged_training_names_the_step_and_the_last_good_checkpoint(train, tmp_path, capsys):
    assert train("--learning-rate", "1e30") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "not finite at step" in said and "no epoch was finished before" in said
    good = tmp_path / "late"
    options = ("--lr-decay", "1", "--decay-after", "0")
    assert train("--epochs", "1", *options, name="late") == 0
    spoil_weights(good / "state.safetensors")
    capsys.readouterr()
    assert cli.main(["resume", str(good), "--epochs", "2"]) == 2
    assert f"the last good weights are in {good / 'best.safetensors'}" in capsys.readouterr().err


def spoil_weights(path):
    """Put an infinity into a saved state."""
    arrays, metadata = read_state(path)
    arrays["weights.output_bias"][..., 0] = math.inf
    write_state(path, arrays, metadata)


def test_generated_text_is_a_function_of_the_seed(trained, capsys):
    def generated(*options):
        capsys.readouterr()
        assert cli.main(["generate", str(trained / "best.safetensors"), *options]) == 0
        return capsys.readouterr().out

    first = generated("--prompt", "the cat", "--length", "12", "--seed", "3")
    assert first.startswith("the cat")
    assert generated("--prompt", "the cat", "--length", "12", "--seed", "3") == first
    assert generated("--prompt", "the cat", "--length", "12", "--seed", "4") != first
    greedy = [generated("--length", "12", "--top-k", "1", "--seed", seed) for seed in ("1", "2")]
    assert greedy[0] == greedy[1]


def test_a_checkpoint_without_its_vocabulary_is_refused(trained, tmp_path, capsys):
    from rhn.checkpoints import load_checkpoint, save_checkpoint

    bare = save_checkpoint(tmp_path / "bare.safetensors", load_checkpoint(trained / "best.safetensors"))
    assert_refused(capsys, ["generate", str(bare)], "does not say how it was trained")


def test_a_cell_of_the_user_s_own_reads_text(train, text, tmp_path, monkeypatch, capsys):
    (tmp_path / "textcells.py").write_text("from rhn.cells import GRU\n\n\nclass Mine(GRU):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert train("--cell", "textcells:Mine", "--depth", "1") == 0
    checkpoint = str(tmp_path / "out" / "best.safetensors")
    assert_refused(capsys, ["evaluate", checkpoint, "--data", text], "add --cell textcells:Mine to import it")
    assert cli.main(["evaluate", checkpoint, "--data", text, "--cell", "textcells:Mine"]) == 0


def test_tensorboard_events_are_written_or_the_package_is_named(train, tmp_path, capsys):
    if importlib.util.find_spec("tensorboard") is None:
        assert train("--tensorboard") == 2
        assert "pip install 'rhn-toolkit[tensorboard]'" in capsys.readouterr().err
    else:
        assert train("--tensorboard") == 0
        assert list((tmp_path / "out" / "tensorboard").rglob("events.*"))


def test_penn_treebank_is_trained_and_evaluated(tmp_path, capsys):
    if not PTB.exists():
        pytest.skip(f"Penn Treebank is not at {PTB}")
    command = ["train", "ptb-depth-2", "--data", str(PTB), "--out", str(tmp_path), "--max-tokens", "2000"]
    assert cli.main([*command, "--hidden-size", "8", "--epochs", "1"]) == 0
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        assert file.get_slice("embedding").get_shape() == [10_000, 8]
    found = evaluate(capsys, tmp_path / "best.safetensors", str(PTB), "--max-tokens", 500)
    assert found["tokens"] == 499
    assert found["perplexity"] < 10_000  # less than guessing

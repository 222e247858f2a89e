"""The `rhn` command on real chorales: train, kill, go on, evaluate, sample; bad input gets one sentence."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rhn import cli
from rhn.data import chorales
from rhn.data.corpus import LOWEST_PITCH, SPLITS
from rhn.presets import preset

TINY = ("--hidden-size", "4", "--init-std", "0.1", "--epochs", "5", "--patience", "5")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file of the shortest chorales: 33 to train on, 3 and 3."""
    corpus, path = chorales(progress=False), tmp_path_factory.mktemp("data") / "short.json"
    short = {s: sorted(getattr(corpus, s), key=len)[: 33 if s == "train" else 3] for s in SPLITS}
    pitches = {s: [[(np.flatnonzero(f) + LOWEST_PITCH).tolist() for f in p] for p in ps] for s, ps in short.items()}
    path.write_text(json.dumps(pitches))
    return str(path)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert cli.main(["train", "jsb-depth-2", "--out", str(folder), "--data", data, *TINY]) == 0
    return folder


def rhn(*args, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "rhn", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for_lines(path, count, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.002)


def test_a_trained_model_is_evaluated_at_full_precision(trained, data, capsys):
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    for split in ("train", "valid"):
        checkpoint = str(trained / "best.safetensors")
        assert cli.main(["evaluate", checkpoint, "--split", split, "--data", data, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert list(found) == ["nll", "split", "frames"]
        assert (found["nll"], found["split"]) == (last[f"{split}_nll"], split)
    pieces = chorales(data).valid
    assert found["frames"] == sum(map(len, pieces)) - len(pieces)


def test_results_go_to_stdout_and_nothing_else_is_said(trained, data, capsys):
    command = ["train", "jsb-depth-2", "--out", str(trained), "--data", data, *TINY]
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert "test" in said.out
    assert str(trained / "best.safetensors") in said.out
    assert said.err == ""
    assert cli.main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 5


def test_a_killed_training_goes_on_to_the_same_bits(data, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = ("train", "jsb-depth-2", "--data", data, *TINY, "--epochs", "40", "--patience", "40", "--out")
    assert cli.main([*command, str(whole)]) == 0
    for lines in (3, 15):
        process = rhn(*command, killed)
        wait_for_lines(killed / "metrics.jsonl", lines, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert cli.main([*command, str(killed)]) == 0
    for name in ("metrics.jsonl", "best.safetensors", "state.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_ctrl_c_saves_and_ends_with_130(data, tmp_path):
    process = rhn(
        "train", "jsb-depth-1", "--data", data, *TINY, "--epochs", 10000, "--patience", 10000, "--out", tmp_path
    )
    wait_for_lines(tmp_path / "metrics.jsonl", 3, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"rhn resume {tmp_path} goes on" in errors
    assert "Traceback" not in errors
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert f"stopped after epoch {len(lines) - 1}," in errors


def test_a_folder_means_its_best_weights_and_its_data_is_known(trained, data, tmp_path, capsys):
    assert cli.main(["evaluate", str(trained / "best.safetensors"), "--data", data, "--json"]) == 0
    wanted = capsys.readouterr().out
    for folder in (trained, trained / "best.safetensors"):
        assert cli.main(["evaluate", str(folder), "--json"]) == 0
        assert capsys.readouterr().out == wanted
    assert cli.main(["evaluate", str(tmp_path)]) == 2
    assert "holds no best.safetensors" in capsys.readouterr().err
    assert cli.main(["evaluate", str(trained.parent)]) == 2
    assert f"holds several networks: give one of them, such as {trained}" in capsys.readouterr().err


CANARY = "from pathlib import Path\n\nPath({!r}).touch()\n"


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """The current folder, whose modules write a file `ran` where they are imported."""
    (tmp_path / "here").mkdir()
    for name in ("evil", "torch", "msvcrt", "yaml", "optuna", "music21", "rich"):
        (tmp_path / "here" / f"{name}.py").write_text(CANARY.format(str(tmp_path / "ran")) + "def cell(): ...\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    return tmp_path / "ran"


@pytest.mark.parametrize(
    "base", [{"preset": "jsb-depth-1"}, {"preset": "ptb-depth-1"}, {"seeds": [0], "corpus": "ptb"}]
)
def test_a_file_never_decides_what_is_imported(base, hostile, capsys):
    Path("config.json").write_text(json.dumps(base | {"cell": "evil:cell"}))
    for words in (["resume", "."], ["train", "--config", "config.json", "--out", "out"], ["report", "."]):
        assert cli.main(words) == 2
        assert not hostile.exists(), words
    assert cli.main(["resume", "."]) == 2
    assert (
        "names a cell of the user's own: add --cell evil:cell to import it" in capsys.readouterr().err.splitlines()[-1]
    )
    cli.main(["train", "--config", "config.json", "--cell", "evil:cell", "--print-config"])
    assert hostile.exists(), "the canary sings where it is named"


@pytest.mark.parametrize(
    "program", [["-P", "-c", "from rhn.cli import main; main()"], ["-m", "rhn"]], ids=["script", "-m"]
)
def test_no_module_of_the_current_folder_is_imported(program, hostile):
    for words in (
        ["presets"],
        ["train", "jsb-depth-1", "--print-config"],
        ["evaluate", "missing"],
        ["data", "show", "jsb"],
    ):
        run = subprocess.run([sys.executable, *program, *words], capture_output=True, text=True)
        assert "Traceback" not in run.stderr and not hostile.exists(), (words, run.stderr)


@pytest.mark.parametrize("suffix", ["mid", "musicxml"])
def test_a_chorale_is_sampled_into_a_file(suffix, trained, tmp_path, capsys):
    output = tmp_path / f"chorale.{suffix}"
    command = ["sample", str(trained / "best.safetensors"), "--output", str(output), "--bars", "2"]
    assert cli.main([*command, "--temperature", "0.8", "--seed", "3"]) == 0
    assert str(output) in capsys.readouterr().out
    assert output.read_bytes()[:5] in (b"MThd\0", b"<?xml")


@pytest.mark.parametrize("name", ["jsb-depth-6", "ptb-sota"])
def test_every_field_of_a_configuration_is_an_option_with_the_preset_s_value(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", name, "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for field, value in dataclasses.asdict(preset(name)).items():
        option = f"--{field.replace('_', '-')}\\b"
        assert re.search(rf"{option}.*?\(default: {re.escape(str(value))}\)", shown), field


@pytest.mark.parametrize(("flag", "tied"), [("--tied", "true"), ("--no-tied", "false")])
def test_a_flag_can_be_given_whatever_the_preset_says(flag, tied, capsys):
    for name in ("ptb-sota", "ptb-depth-10"):
        assert cli.main(["train", name, flag, "--print-config"]) == 0
        assert f'"tied": {tied}' in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--words"], ["--print-config", "--no-tied"], ["--tied", "--window=9"]])
def test_the_preset_may_stand_after_flags(flags, capsys):
    assert cli.main(["train", *flags, "ptb-sota", "--hidden-size", "8", "--print-config"]) == 0
    assert json.loads(capsys.readouterr().out)["hidden_size"] == 8


def test_the_name_of_a_preset_may_be_an_options_value(capsys):
    assert cli.main(["train", "--out", "ptb-sota", "ptb-depth-3", "--print-config"]) == 0
    assert json.loads(capsys.readouterr().out)["depth"] == 3


@pytest.mark.parametrize("command", ["train ptb-sota", "evaluate", "generate", "resume"])
def test_help_shows_one_default_an_option(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([*command.split(), "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "(default: " in shown
    assert not re.search(r"\(default: [^()]*\)\.? \(default", shown)
    assert command.startswith("train") or "None" not in shown


def test_the_preset_may_stand_after_options(data, tmp_path):
    assert cli.main(["train", "--out", str(tmp_path), "--data", data, "jsb-depth-2", *TINY, "--epochs", "1"]) == 0
    assert json.loads((tmp_path / "config.json").read_text())["epochs"] == 1


def test_a_stopped_training_on_chorales_is_resumed_by_its_folder(data, tmp_path, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = ("train", "jsb-depth-1", "--data", data, *TINY, "--epochs", "40", "--patience", "40", "--out")
    assert cli.main([*command, str(whole)]) == 0
    process = rhn(*command, killed)
    wait_for_lines(killed / "metrics.jsonl", 4, process)
    process.kill()
    process.communicate()
    assert cli.main(["resume", str(killed)]) == 0
    for name in ("config.json", "metrics.jsonl", "best.safetensors", "state.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert cli.main(["resume", str(killed), "--threads", "1"]) == 2
    assert "--threads is for language models" in capsys.readouterr().err


def test_time_that_runs_out_is_no_failure_and_more_epochs_can_be_asked_for(trained, data, tmp_path, capsys):
    command = ["train", "jsb-depth-2", "--out", str(tmp_path), "--data", data, *TINY, "--epochs", "2"]
    assert cli.main([*command, "--max-minutes", "0"]) == 0
    assert f"rhn resume {tmp_path} goes on" in capsys.readouterr().out
    assert cli.main(["resume", str(tmp_path), "--epochs", "5"]) == 0
    for name in ("config.json", "metrics.jsonl", "best.safetensors"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes(), name


def test_what_a_study_made_is_not_overwritten(trained, data, tmp_path, capsys):
    study = tmp_path / "study" / "rhn-depth1"
    study.mkdir(parents=True)
    best = Path(shutil.copy(trained / "best.safetensors", study))
    assert cli.main(["train", "jsb-depth-2", "--out", str(study), "--data", data, *TINY]) == 2
    assert "best.safetensors but no config.json of a training" in capsys.readouterr().err
    assert best.read_bytes() == (trained / "best.safetensors").read_bytes() and list(study.iterdir()) == [best]


def test_a_training_killed_before_its_first_epoch_knows_where_its_data_is(data, tmp_path):
    command = ("train", "jsb-depth-1", *TINY, "--out", tmp_path / "run", "--data", os.path.relpath(data, tmp_path))
    process = rhn(*command, cwd=tmp_path)
    wait_for_lines(tmp_path / "run" / "config.json", 1, process)
    process.kill()
    process.communicate()
    assert cli.main(["resume", str(tmp_path / "run")]) == 0  # from another folder
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 6


def test_another_cell_gets_the_preset_s_budget(data, tmp_path):
    command = ["train", "jsb-depth-1", "--cell", "gru", "--out", str(tmp_path), "--data", data, "--epochs", "1"]
    assert cli.main([*command, "--hidden-size", "3"]) == 0
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["cell"], config["transform_bias"], config["hidden_size"]) == ("gru", None, 3)


def test_a_cell_of_the_user_s_own_trains_and_is_evaluated(data, tmp_path, monkeypatch, capsys):
    (tmp_path / "mycells.py").write_text("from rhn.cells import GRU\n\n\nclass Mine(GRU):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    command = ["train", "jsb-depth-1", "--cell", "mycells:Mine", "--out", str(tmp_path / "run"), "--data", data]
    assert cli.main([*command, *TINY]) == 0
    for again in ("evaluate", "resume"):
        assert cli.main([again, str(tmp_path / "run")]) == 2
        assert "cell of the user's own: add --cell mycells:Mine to import it" in capsys.readouterr().err
        assert cli.main([again, str(tmp_path / "run"), "--cell", "mycells:Mine"]) == 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train jsb-dept-6 --out OUT", "did you mean 'jsb-depth-6'"),
        ("train jsb-depth-1 --out OUT --learning-rate -1", "learning_rate is -1.0, expected a number above 0"),
        ("train jsb-depth-1 --out OUT --cell rrn", "unknown cell 'rrn'"),
        ("train jsb-depth-1 --out OUT --cell gru --transform-bias -1", "transform_bias"),
        ("train jsb-depth-2 --out OUT --cell lstm", "no recurrence depth"),
        ("train jsb-depth-1 --out OUT --data missing.json", "missing.json: no such file"),
        ("train jsb-depth-1 --out /dev/null/run --epochs 1 --hidden-size 1", "cannot write"),
        ("train jsb-depth-1", "--out DIR is missing"),
        ("train", "begins with a preset"),
        ("train --out OUT", "begins with a preset"),
        ("train jsb-depth-1 --hidden-siz 3 --out OUT", "perhaps you meant --hidden-size"),
        ("train jsb-depth-1 --out OUT --epochs many", "--epochs expects a whole number, got 'many'"),
        ("train jsb-depth-1 --out OUT --learning-rate fast", "--learning-rate expects a number, got 'fast'"),
        ("train jsb-depth-1 --out OUT --config missing.json", "missing.json cannot be read"),
        ("evaluate missing.safetensors", "there is no checkpoint at missing.safetensors"),
        ("evaluate CHECKPOINT --split tests", "--split expects one of 'train', 'valid', 'test', got 'tests'"),
        ("sample CHECKPOINT --output chorale.wav", r".mid or .musicxml"),
        ("sample CHECKPOINT --output OUT/missing/c.mid", "does not exist"),
        ("sample CHECKPOINT --output OUT.mid --temperature 0", "temperature must be above 0"),
        ("evaluate CHECKPOINT --mc 10", "--mc is for language models"),
        ("evaluate CHECKPOINT --dynamic", "--dynamic is for language models"),
        ("evaluate CHECKPOINT --mc 0", "--mc is for language models"),
        ("evaluate CHECKPOINT --temperature 0", "--temperature is for language models"),
        ("evaluate CHECKPOINT --seed 3", "--seed is for language models"),
        ("train jsb-depth-2 --words --out OUT", "--words is for language models, and this trains a model of chorales"),
        ("sample CHECKPOINT --output OUT.mid --seed -1", "the seed is -1, expected a whole number from 0"),
        ("sample CHECKPOINT", "rhn sample needs --output FILE (see rhn sample --help)"),
        ("resume", "rhn resume needs DIR (see rhn resume --help)"),
        ("evaluate CHECKPOINT more", "'more' is one word too many (see rhn evaluate --help)"),
        ("data show foo", "no text is called 'foo', expected one of ptb, enwik8, text8, text"),
        ("generate CHECKPOINT", "holds a model of chorales (rhn sample), expected a language model"),
        ("resume OUT", "holds no training"),
        ("compose", "'compose' is no command, expected one of train, resume, evaluate,"),
        ("", "a command is missing, expected one of train, resume, evaluate,"),
        ("data", "a command is missing, expected one of get, show (see rhn data --help)"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(command, message, trained, data, tmp_path, capsys):
    checkpoint = str(trained / "best.safetensors")
    words = [w.replace("CHECKPOINT", checkpoint).replace("OUT", str(tmp_path / "out")) for w in command.split()]
    if words[:1] == ["train"] and "--data" not in words:
        words += ["--data", data]
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err


def test_help_is_printed_without_loading_torch():
    code = "import sys, rhn.cli\ntry: rhn.cli.main(['train', '--help'])\nfinally: assert 'torch' not in sys.modules"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"COLUMNS": "100"}
    )
    assert run.returncode == 0, run.stderr
    assert "--out DIR" in run.stdout
    assert "ptb-sota" in run.stdout

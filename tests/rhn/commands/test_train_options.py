"""What `rhn train` starts from: presets, files and options; `--dry-run` and `--help` show
it.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from tables import for_each

from rhn.cli import main as cli
from rhn.presets import preset


@pytest.fixture
def configuration(answer):
    """configuration(*words) that `rhn train` would use."""
    return lambda *words: answer("train", *words, "--dry-run")


def shown(capsys, *words) -> str:
    assert cli.main([*words, "--help"]) == 0
    return " ".join(capsys.readouterr().out.split())


@for_each(
    "start_and_end", ["ptb-depth-1 ptb-torch7", "ptb-sota ptb-modern", "jsb-depth-1 jsb-depth-4"]
)
def test_set_gives_every_field(start_and_end, configuration):
    start, end = start_and_end.split()
    wanted = asdict(preset(end))
    texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in wanted.items()}
    words = [word for name, text in texts.items() for word in ("--set", f"{name}={text}")]
    assert configuration(start, *words) == wanted != configuration(start)


def test_what_print_config_prints_config_reads(tmp_path, capsys):
    for name in ("ptb-torch7", "jsb-depth-4"):
        for options, given in (
            ((), {}),
            (("--hidden-size", "7", "--seed", "3"), {"hidden_size": 7, "seed": 3}),
        ):
            assert cli.main(["train", name, *options, "--dry-run"]) == 0
            printed = capsys.readouterr().out
            assert json.loads(printed) == asdict(replace(preset(name), **given))
            (tmp_path / "config.json").write_text(printed)
            assert cli.main(["train", "--config", str(tmp_path / "config.json"), "--dry-run"]) == 0
            assert capsys.readouterr().out == printed


@for_each(
    ("words", "entries"),
    [
        ("ptb-sota --set tied=true", {"tied": True}),
        ("ptb-sota --set tied=false", {"tied": False}),
        (
            "--set tied=true --out ptb-sota ptb-depth-3 --hidden_size 8",
            {"depth": 3, "hidden_size": 8, "tied": True},
        ),
        ("ptb-torch7", {"cell_options": {"gate_constant": -4.0}, "transform_bias": None}),
        ("enwik8-torch7", {"cell_options": {"gate_constant": -4.0}, "transform_bias": None}),
        (
            "ptb-torch7 --cell-option gate_constant=0 --cell-option coupled=false",
            {"cell_options": {"gate_constant": 0.0, "coupled": False}},
        ),
        (
            "ptb-torch7 --cell-option activation=relu",
            {"cell_options": {"gate_constant": -4.0, "activation": "relu"}},
        ),
        ("ptb-torch7 --cell lstm --depth 1", {"cell_options": {}}),
        ("jsb-depth-4 --cell dts-rnn --cell-option skip=last", {"cell_options": {"skip": "last"}}),
    ],
)
def test_options_stand_on_top_of_the_preset_wherever_it_stands(words, entries, configuration):
    assert configuration(*words.split()).items() >= entries.items()


def test_a_configuration_file_stands_for_a_preset_or_on_top_of_one(
    task, trained, tmp_path, configuration
):
    file = tmp_path / "mine.json"
    file.write_text(
        json.dumps({"preset": "ptb-depth-5", "hidden_size": 50, "cell": "dt-rnn", "drop_input": 0})
    )
    found = configuration("--config", file, "--layers", "2")
    assert (found["depth"], found["hidden_size"], found["layers"], found["window"]) == (
        5,
        50,
        2,
        35,
    )
    assert (found["cell"], found["transform_bias"], found["drop_input"]) == ("dt-rnn", None, 0)
    kept = json.loads((trained(task) / "config.json").read_text())
    assert configuration("--config", trained(task) / "config.json").items() <= kept.items()


def test_help_is_printed_without_loading_torch():
    code = (
        "import sys, rhn.cli.main\ntry: rhn.cli.main.main(['train', '--help'])\nfinally: "
        "assert 'torch' not in sys.modules"
    )
    environment = os.environ | {"COLUMNS": "100"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    assert "--out PATH: " in run.stdout and "--set NAME=VALUE" in run.stdout

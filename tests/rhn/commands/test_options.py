"""What a user types becomes the values of a command, or of the example of the package."""

import json
import re
import subprocess
import sys
import textwrap
from dataclasses import asdict

import pytest
from commands import all_commands, help_of

import rhn.cli.main
from rhn.training.configure import preset

MOST = 80


def test_all_commands_together_have_few_different_options():
    names = {
        name for call in all_commands() for name in re.findall(r"--[a-z][a-z0-9-]*", help_of(*call))
    }
    assert len(all_commands()) == 40 and len(names) <= MOST, (all_commands(), sorted(names))


@pytest.mark.parametrize(
    ("start", "end"),
    [("ptb-depth-1", "ptb-torch7"), ("ptb-sota", "ptb-gru"), ("jsb-depth-1", "jsb-depth-4")],
)
def test_set_and_config_give_every_field(start, end, answer, tmp_path):
    wanted = asdict(preset(end))
    texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in wanted.items()}
    words = [word for name, text in texts.items() for word in ("--set", f"{name}={text}")]
    usual, found = asdict(preset(start)), answer("rhn train --dry-run", start, *words)
    assert found == wanted != usual
    changes = {name: value for name, value in wanted.items() if value != usual.get(name)}
    (tmp_path / "config.json").write_text(json.dumps({"preset": start} | changes))
    assert answer("rhn train --dry-run --config", tmp_path / "config.json") == found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["--seed", "1.5"], "1.5", id="half a number"),
        pytest.param(["--seed", "3.0"], "3.0", id="a whole number with a point"),
        pytest.param(["--seed", "1" + "0" * 18], "1000000000000000000", id="19 digits"),
        pytest.param(["--out", ""], "", id="an empty path"),
    ],
)
def test_a_word_that_is_no_whole_number_or_path_is_refused(words, says, command):
    found = command("rhn train jsb-depth-1 --dry-run", *words)
    assert found.code == 2 and "Invalid value" in found.err and says in found.err
    assert found.err.endswith("(see rhn train --help)\n")
    assert command("rhn train jsb-depth-1 --dry-run --seed", "1" + "0" * 17).code == 0


def test_a_configuration_may_name_a_cell_of_torch(answer, tmp_path):
    path = tmp_path / "config.json"
    for cell in ("torch.nn:LSTM", "lstm"):
        path.write_text(json.dumps({"preset": "jsb-depth-1", "cell": cell}))
        assert answer("rhn train --dry-run --config", path)["cell"] == cell


def test_an_unknown_cell_in_a_configuration_is_refused_by_its_name(refused, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"preset": "jsb-depth-1", "cell": "leaky"}))
    refused("rhn train --dry-run --config", path, says="cell is 'leaky': expected rnn, ")


def test_help_is_printed_without_loading_torch():
    code = "import sys, rhn.cli.main\ntry: rhn.cli.main.main(['train', '--help'])\n"
    code += "finally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--set NAME=VALUE" in done.stdout, done.stderr


def test_a_command_without_given_words_reads_those_of_its_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rhn", "presets"])
    rhn.cli.main.main()
    assert "jsb-depth-1" in capsys.readouterr().out


def test_the_example_of_the_package_runs(own_folder, capsys):
    before, names = rhn.__doc__.partition("    import rhn"), {}
    exec(textwrap.dedent("".join(before[1:]).rpartition("\n\n")[0]), names)
    assert capsys.readouterr().out.endswith(" nats per frame\n")
    assert names["outputs"].shape[1:] == (16,) and names["frames"].shape == (8, 88)

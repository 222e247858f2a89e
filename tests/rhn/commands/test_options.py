"""What a user types becomes the values of a command, or one sentence."""

import json
import re
import subprocess
import sys
from dataclasses import asdict, field
from pathlib import Path

import pytest
import torch
from helps import SUBCOMMANDS, help_of
from tables import for_each

from rhn.data import read_text
from rhn.errors import InvalidInputError
from rhn.kernels import compiled
from rhn.presets import preset
from rhn.utils.command_line import Fraction, command_class, command_line, run_read

MOST = 75


def commands_in(*words: str) -> list[tuple[str, ...]]:
    """The subcommands that the help of a command lists, with its own words."""
    _, _, listed = help_of(*words).partition("\nCommands:\n")
    return [(*words, name) for name in re.findall(r"^  ([a-z][a-z-]+): ", listed, re.MULTILINE)]


def test_all_commands_together_have_few_different_options():
    calls = [call for name in SUBCOMMANDS for call in [(name,), *commands_in(name)]]
    calls += commands_in("rhn", "data")
    names = {name for call in calls for name in re.findall(r"--[a-z][a-z0-9-]*", help_of(*call))}
    assert len(calls) == 36 and len(names) <= MOST, (calls, sorted(names))


@command_class
class Draw:
    """Draw."""

    name: str = field(default="a", kw_only=False)
    share: Fraction = 0.5
    steps: int = 3
    output: Path = Path("a.png")


@for_each(
    ("words", "reason"),
    [
        ("", "a command is missing, expected one of draw"),
        ("draw --share 1", 'Invalid value "1.0" for --share. Must be < 1.'),
        ("draw --steps 1.5", 'for --steps: unable to convert "1.5" into int'),
        ("draw --output=", 'for --output: unable to convert "" into Path'),
        ("draw --stepps 1", "Unknown option: --stepps. Did you mean --steps?"),
        ("draw --name b", "Unknown option: --name"),
    ],
)
def test_a_command_is_not_run_with_words_that_cannot_be_read(words, reason):
    drawn, tool = [], command_line("tool", "A tool.")
    tool.command(Draw, name="draw")
    run_read(tool, ["draw", "b", "--steps", "4"], drawn.append)
    assert drawn == [Draw("b", steps=4)]
    with pytest.raises(InvalidInputError) as refused:
        run_read(tool, words.split(), drawn.append)
    assert reason in str(refused.value) and len(drawn) == 1


@for_each(
    ("start", "end"),
    [("ptb-depth-1", "ptb-torch7"), ("ptb-sota", "ptb-modern"), ("jsb-depth-1", "jsb-depth-4")],
)
def test_set_gives_every_field_and_config_reads_what_was_printed(start, end, answer, tmp_path):
    wanted = asdict(preset(end))
    texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in wanted.items()}
    words = [word for name, text in texts.items() for word in ("--set", f"{name}={text}")]
    found = answer("rhn train --dry-run", start, *words)
    assert found == wanted != asdict(preset(start))
    (tmp_path / "config.json").write_text(json.dumps(found))
    assert answer("rhn train --dry-run --config", tmp_path / "config.json") == found


def test_help_is_printed_without_loading_torch():
    code = "import sys, rhn.cli.main\ntry: rhn.cli.main.main(['train', '--help'])\n"
    code += "finally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--set NAME=VALUE" in done.stdout, done.stderr


@for_each("unit", ["words", "characters"])
def test_data_are_shown_with_their_counts(unit, tmp_path, answer, command):
    path = tmp_path / "novel.txt"
    path.write_text("it was a dark and stormy night\n" * 40)
    line, text = (
        f"rhn data show text --unit {unit} --data {path}",
        read_text("text", path, unit=unit),
    )
    counts = {"train": len(text.train), "valid": len(text.valid), "test": len(text.test)}
    counts |= {"vocabulary": len({*path.read_text()} if unit == "characters" else text.vocabulary)}
    found = answer(line)
    assert (found["unit"], found["found"], found["published"]) == (unit, counts, {})
    assert found["checksum"] == text.checksum
    rows = [row.split() for row in command(line).out.splitlines()[3:]]
    assert rows == [[name, str(n), "-"] for name, n in counts.items()]


def test_versions_devices_and_kernels_are_shown(answer, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    found = answer("rhn info")
    assert found["versions"]["torch"] == torch.__version__ and [*found["devices"]] == ["cpu"]
    assert found["compiled_kernels"] == (compiled.library() is not None)

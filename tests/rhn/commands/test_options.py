"""What a user types becomes the values of a command."""

import json
import re
import subprocess
import sys
from dataclasses import asdict

import torch
from helps import SUBCOMMANDS, help_of
from tables import for_each

from rhn.data import read_text
from rhn.kernels import compiled
from rhn.presets import preset

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


@for_each(
    ("start", "end"),
    [("ptb-depth-1", "ptb-torch7"), ("ptb-sota", "ptb-modern"), ("jsb-depth-1", "jsb-depth-4")],
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


def test_help_is_printed_without_loading_torch():
    code = "import sys, rhn.cli.main\ntry: rhn.cli.main.main(['train', '--help'])\n"
    code += "finally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--set NAME=VALUE" in done.stdout, done.stderr


def test_data_are_shown_with_their_counts(tmp_path, answer):
    path = tmp_path / "novel.txt"
    path.write_text("it was a dark and stormy night\n" * 40)
    found = answer(f"rhn data show text --unit characters --data {path}")
    text = read_text("text", path, unit="characters")
    counts = {split: len(getattr(text, split)) for split in ("train", "valid", "test")}
    assert found["found"] == counts | {"vocabulary": len({*path.read_text()})}
    assert (found["published"], found["checksum"]) == ({}, text.checksum)


def test_versions_devices_and_kernels_are_shown(answer, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    found = answer("rhn info")
    assert found["versions"]["torch"] == torch.__version__ and [*found["devices"]] == ["cpu"]
    assert found["compiled_kernels"] == (compiled.library() is not None)

"""The help of each command: names and texts in two columns, as wide as the terminal."""

import itertools
import os
import pty
import re
import subprocess
import sys
import termios

import pytest
from cases import others_slow
from commands import MAINS, all_commands, help_of

TEXTS_FROM = 30  # characters before the column of texts
MANY_OPTIONS = [
    ("gersgorin",),
    ("gersgorin", "compare"),
    ("gersgorin", "plot"),
    ("rhn", "train"),
    ("rhn-analyze", "lesion"),
    ("optim-study", "run"),
    ("trainability", "check"),
]
WIDTHS = 60, 80, 100, 160
WIDE = 100_000


@pytest.fixture
def lines_of(monkeypatch):
    """lines_of(words, width) -> the lines of a help without those of examples."""

    def read(words: tuple[str, ...], width: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        text = help_of.__wrapped__(*words)
        return re.sub(r"^examples:\n(  .*\n)+", "", text, flags=re.MULTILINE).splitlines()

    return read


def texts_of(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Each name of the panels with the lines of its text."""
    rows = []
    for line in lines:
        if not line.startswith("  "):
            continue
        assert line[TEXTS_FROM - 2 : TEXTS_FROM].strip() == "", line
        name, text = line[:TEXTS_FROM].strip(), line[TEXTS_FROM:]
        if name:
            rows.append((name, [text]))
        else:
            rows[-1][1].append(text)
    return rows


@pytest.mark.parametrize("width", others_slow(WIDTHS, 80))
def test_a_text_is_wrapped_once_and_no_line_is_wider_than_the_terminal(width, lines_of):
    for words in MANY_OPTIONS:
        lines = lines_of(words, width)
        assert max(map(len, lines)) <= width, words
        whole = {name: text for name, (text,) in texts_of(lines_of(words, WIDE))}
        for name, texts in texts_of(lines):
            assert " ".join(texts) == whole[name], (words, name)
            for line, following in itertools.pairwise(texts):
                first, *_ = following.split()
                assert TEXTS_FROM + len(f"{line} {first}") > width, (words, name)


def test_every_command_and_option_has_a_text(lines_of):
    for words in all_commands():
        rows = texts_of(lines_of(words, WIDE))
        assert [name for name, (text,) in rows if not text] == [], words


def in_terminal(line: list[str], width: int) -> str:
    """What a command prints in a terminal of this width."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, width))
    usual = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.Popen(line, stdout=theirs, env=usual | {"TERM": "xterm"})
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 1 << 16):
            parts.append(part)
    except OSError:  # the end, on Linux
        pass
    finally:
        os.close(ours)
        assert done.wait() == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


@pytest.mark.parametrize("width", others_slow(WIDTHS, 80))
def test_a_terminal_and_a_pipe_have_the_same_help(width):
    line = [sys.executable, "-m", "rhn", "train", "--help"]
    environment = os.environ | {"COLUMNS": str(width)}
    piped = subprocess.run(line, capture_output=True, text=True, env=environment, check=True)
    assert in_terminal(line, width) == piped.stdout
    assert width - 15 < max(map(len, piped.stdout.splitlines())) <= width


@pytest.mark.parametrize("name", sorted(MAINS.keys() - {"gersgorin-plot"}))
def test_a_command_without_words_prints_its_help(name, command):
    found = command(name)
    assert found.code == 0 and found.out == help_of(name)


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param("rhn-analyze gates CHECKPOINT [OPTIONS]", id="an option takes several files"),
        pytest.param("optim-study plot [ARGS] [OPTIONS]", id="several positional arguments"),
        pytest.param("trainability watch [OPTIONS] SCRIPT [ARGS]", id="options before a script"),
    ],
)
def test_the_usage_has_the_order_in_which_all_words_are_read(usage, lines_of):
    words = tuple(word for word in usage.split() if word.islower() or "-" in word)
    assert lines_of(words, WIDE)[0] == f"Usage: {usage}"

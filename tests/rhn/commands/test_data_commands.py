"""`rhn data show`: what it prints, beside what is published."""

import json

import pytest

from rhn.command import run_command
from rhn.commands.data import Show
from rhn.data.text import read_text


@pytest.fixture
def novel(tmp_path):
    path = tmp_path / "novel.txt"
    path.write_text("it was a dark and stormy night\n" * 40)
    return path


def output(command, capsys):
    assert run_command(command.run) == 0
    return capsys.readouterr()


def refusal(command, capsys):
    assert run_command(command.run) == 2
    return capsys.readouterr().err


def test_a_text_is_shown_with_its_counts_and_its_beginning(novel, capsys):
    shown = json.loads(output(Show(name="text", data=novel, json=True), capsys).out)
    counts = {"train": 288, "valid": 16, "test": 16, "vocabulary": 8}
    assert {row["what"]: row["found"] for row in shown["counts"]} == counts
    assert shown["beginning"].startswith("it was a dark and stormy night\nit was")
    assert shown["checksum"] == read_text("text", novel).checksum
    printed = output(Show(name="text", data=novel, words=True), capsys)
    assert all(f"{row['what']:<12}{row['found']:>12,}" in printed.out for row in shown["counts"])
    assert repr(shown["beginning"]) in printed.out and shown["checksum"] in printed.out and printed.err == ""


def test_a_text_is_shown_as_characters_where_that_is_asked(novel, capsys):
    shown = json.loads(output(Show(name="text", data=novel, characters=True, json=True), capsys).out)
    assert shown["unit"] == "characters" and shown["counts"][-1]["found"] == len(set(novel.read_text()))


def test_a_text_that_is_not_the_published_one_gets_a_warning(tmp_path, capsys):
    (tmp_path / "text8").write_bytes(b"abc " * 100)
    printed = output(Show(name="text8", data=tmp_path), capsys)
    assert printed.out.count("differs") == 4 and "90,000,000" in printed.out
    assert "warning: not the published text8: train, valid, test, vocabulary" in printed.err


def test_the_original_chorales_have_their_published_counts(original_chorales, capsys):
    printed = output(Show(name="jsb", data=original_chorales), capsys)
    assert "differs" not in printed.out and printed.err == ""
    assert [line.split()[1] for line in printed.out.splitlines()[3:6]] == ["229", "76", "77"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "ptb", "characters": True}, "ptb has its own unit"),
        ({"name": "text", "words": True, "characters": True}, "exclude one another"),
        ({"name": "text"}, "needs its path"),
    ],
)
def test_show_refuses_options_that_do_not_go_together(options, sentence, capsys):
    assert sentence in refusal(Show(**options), capsys)

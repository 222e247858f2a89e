"""`rhn data show`: what it prints, beside what is published."""

import pytest

from rhn.cli import main as cli
from rhn.data.text import read_text


@pytest.fixture
def novel(tmp_path):
    path = tmp_path / "novel.txt"
    path.write_text("it was a dark and stormy night\n" * 40)
    return path


@pytest.fixture
def printed(capsys):
    """printed(*words): (stdout, stderr) of `rhn data show`."""

    def run(*words):
        assert cli.main(["data", "show", *map(str, words)]) == 0
        return capsys.readouterr()

    return run


def test_a_text_is_shown_with_its_counts_and_its_beginning(novel, answer, printed):
    shown = answer("data", "show", "text", "--data", novel, "--json")
    counts = {"train": 288, "valid": 16, "test": 16, "vocabulary": 8}
    assert {row["what"]: row["found"] for row in shown["counts"]} == counts
    assert shown["beginning"].startswith("it was a dark and stormy night\nit was")
    assert shown["checksum"] == read_text("text", novel).checksum
    out, err = printed("text", "--data", novel, "--unit", "words")
    rows = [line.split()[:2] for line in out.splitlines()[3:7]]
    assert rows == [[row["what"], f"{row['found']:,}"] for row in shown["counts"]]
    assert repr(shown["beginning"]) in out and shown["checksum"] in out and err == ""
    shown = answer("data", "show", "text", "--data", novel, "--unit", "characters", "--json")
    assert shown["unit"] == "characters" and shown["counts"][-1]["found"] == len(
        set(novel.read_text())
    )


def test_a_text_that_is_not_the_published_one_gets_a_warning(tmp_path, printed):
    (tmp_path / "text8").write_bytes(b"abc " * 100)
    out, err = printed("text8", "--data", tmp_path)
    assert out.count("differs") == 4 and "90,000,000" in out
    assert "warning: not the published text8: train, valid, test, vocabulary" in err

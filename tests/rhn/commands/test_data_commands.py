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


def test_a_text_is_shown_with_its_counts(novel, answer, printed):
    shown = answer("data", "show", "text", "--data", novel, "--json")
    assert shown["found"] == {"train": 288, "valid": 16, "test": 16, "vocabulary": 8}
    assert shown["checksum"] == read_text("text", novel).checksum and shown["published"] == {}
    out, err = printed("text", "--data", novel, "--unit", "words")
    rows = [line.split() for line in out.splitlines()[3:]]
    assert rows == [[what, str(n), "-"] for what, n in shown["found"].items()]
    assert shown["checksum"] in out and err == ""
    shown = answer("data", "show", "text", "--data", novel, "--unit", "characters", "--json")
    assert shown["unit"] == "characters"
    assert shown["found"]["vocabulary"] == len(set(novel.read_text()))


def test_a_published_text_is_shown_beside_the_published_counts(tmp_path, printed):
    (tmp_path / "text8").write_bytes(b"abc " * 100)
    out, err = printed("text8", "--data", tmp_path)
    assert out.splitlines()[3].split() == ["train", "360", "90000000"] and err == ""

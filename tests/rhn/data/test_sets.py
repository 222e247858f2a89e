"""The published data sets: one record each, from which everything else about a set follows."""

import hashlib
import json

import pytest

from rhn.cli import main as cli
from rhn.data.sets import CHORALES, TEXT_SETS, PublishedFile, TextSet, compare

SPLITS = ("train", "valid", "test")
LINE = "the cat sees the dog\n"


def published(folder, name, content):
    """A published file whose address is a place on this machine."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    address, digest = (folder / name).as_uri(), hashlib.sha256(content).hexdigest()
    return PublishedFile(name=name, addresses=(address,), checksum=f"sha256:{digest}")


def in_three_files(folder):
    lines = {"train": 200, "valid": 40, "test": 40}
    files = tuple(published(folder, f"tiny-{split}.txt", (LINE * n).encode()) for split, n in lines.items())
    counts = {split: 6 * n for split, n in lines.items()} | {"vocabulary": 5}
    splits = {split: f"tiny-{split}.txt" for split in SPLITS}
    return TextSet(name="tiny", files=files, counts=counts, unit="words", splits=splits)


def in_one_file(folder):
    content = (LINE * 100).encode()
    counts = {"train": 1890, "valid": 105, "test": 105, "vocabulary": len(set(content))}
    return TextSet(name="tiny", files=(published(folder, "tiny", content),), counts=counts, unit="bytes")


@pytest.mark.parametrize("make", [in_three_files, in_one_file])
def test_a_text_of_ones_own_with_a_record_is_fetched_shown_trained_on_and_evaluated(
    make, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    tiny = make(tmp_path / "published")
    monkeypatch.setitem(TEXT_SETS, "tiny", tiny)

    def said(*words):
        assert cli.main([str(word) for word in words]) == 0
        return capsys.readouterr()

    assert f"--data {tmp_path / 'share/rhn/tiny'}" in said("data", "get", "tiny").out
    shown = said("data", "show", "tiny", "--json")
    rows = json.loads(shown.out)["counts"]
    assert {row["what"]: row["found"] for row in rows} == tiny.counts
    assert all(row["same"] for row in rows) and "warning" not in shown.err
    small = {"corpus": "tiny", "hidden_size": 5, "epochs": 1, "batch_size": 4, "window": 5, "init": "uniform:0.1"}
    (tmp_path / "small.json").write_text(json.dumps(small))
    said("train", "--config", tmp_path / "small.json", "--out", tmp_path / "run")
    assert said("evaluate", tmp_path / "run" / "best.safetensors", "--json").out.startswith("{")


def test_every_record_is_complete():
    for name, record in TEXT_SETS.items():
        assert record.name == name and record.unit in ("words", "characters", "bytes")
        assert set(record.counts) == {*SPLITS, "vocabulary"}
        assert record.splits is None or set(record.splits.values()) == {file.name for file in record.files}
    for file in (file for record in (*TEXT_SETS.values(), CHORALES) for file in record.files):
        algorithm, _, digest = file.checksum.partition(":")
        assert file.addresses and len(digest) == 2 * hashlib.new(algorithm).digest_size


def test_counts_agree_with_what_is_published_or_say_that_they_do_not():
    rows = compare({"train": 360, "test": 21, "vocabulary": 4}, {"train": 360, "test": 20})
    assert [(row["what"], row["published"], row["same"]) for row in rows] == [
        ("train", 360, True),
        ("test", 20, False),
        ("vocabulary", None, True),
    ]

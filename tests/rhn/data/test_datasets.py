"""Published data sets: downloads from a local server that are verified, kept, and never half
there.
"""

import functools
import hashlib
import http.server
import stat
import threading
from collections import Counter
from dataclasses import replace

import pytest

from rhn.checkpoints import read
from rhn.data import datasets
from rhn.data.datasets import TEXT_SETS, DataSet, data_folder, get
from rhn.errors import DataError
from rhn.training.stored import corpus_of

CONTENT = bytes(range(256)) * 700


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on this machine of the files in a folder, with a count of the requests;
    server.publish(name, content, *addresses) makes a data set of files that the server has.
    """
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "www"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *args):
            server.requests[self.path] += 1

        def log_message(self, *args):
            pass

        def copyfile(self, source, output):
            """Of "/cut", send half of the bytes that the header names."""
            content = source.read()
            output.write(content[: len(content) // 2] if self.path == "/cut" else content)

    def publish(name, content, *addresses, **counts):
        files = {}
        for file, data in content.items():
            (folder / file).write_bytes(data)
            found = addresses or (server.address(file),)
            files[file] = (hashlib.sha256(data).hexdigest(), *found)
        monkeypatch.setitem(TEXT_SETS, name, DataSet(files=files, counts=counts, unit="words"))

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.folder, server.requests, server.publish = folder, Counter(), publish
    server.address = f"http://127.0.0.1:{server.server_port}/".__add__
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_data_set_is_downloaded_whole_once_and_a_damaged_file_again(server, tmp_path):
    server.publish("ptb", {"one": CONTENT, "two": b"2"})
    folder = tmp_path / "deep" / "new"
    for _ in range(2):
        assert get("ptb", folder) == folder
        assert server.requests == {"/one": 1, "/two": 1}
    (folder / "one").write_bytes(CONTENT[:-1])
    get("ptb", folder)
    assert server.requests == {"/one": 2, "/two": 1}
    (kept,) = folder.glob("one.damaged-*")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "one": CONTENT, "two": b"2", kept.name: CONTENT[:-1],
    }  # fmt: skip
    assert stat.S_IMODE((folder / "one").stat().st_mode) == 0o644


def test_the_chorales_go_to_the_users_folder_from_the_first_address_that_answers(
    server, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    server.publish("ptb", {"a.pickle": CONTENT}, *map(server.address, ("gone", "a.pickle")))
    monkeypatch.setattr(datasets, "CHORALES", replace(TEXT_SETS["ptb"], unit=None))
    path = get("jsb")
    assert path == data_folder("jsb") / "a.pickle" == tmp_path / "share/rhn/jsb/a.pickle"
    assert path.read_bytes() == CONTENT


def test_a_download_that_breaks_leaves_nothing(server, tmp_path):
    server.publish("ptb", {"cut": CONTENT})
    with pytest.raises(DataError, match="/cut"):
        get("ptb", tmp_path / "data")
    assert not [*(tmp_path / "data").iterdir()]


def test_another_checksum_or_no_network_is_refused_and_the_old_file_stays(server, tmp_path):
    server.publish("ptb", {"one": CONTENT})
    (server.folder / "one").write_bytes(b"something else")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").write_bytes(b"mine")
    for reason in ("SHA-256 of .* is .*: expected", f"{server.address('one')}: .*refused"):
        with pytest.raises(DataError, match=reason):
            get("ptb", tmp_path / "data")
        assert {p.name: p.read_bytes() for p in (tmp_path / "data").iterdir()} == {"one": b"mine"}
        server.shutdown()
        server.server_close()
    (tmp_path / "data" / "one").write_bytes(CONTENT)
    assert get("ptb", tmp_path / "data") == tmp_path / "data"


def test_a_text_with_a_record_is_downloaded_shown_and_trained_on(
    server, tmp_path, monkeypatch, command, answer
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    lines = {"train": 200, "valid": 40, "test": 40}
    counts = {split: 6 * n for split, n in lines.items()} | {"vocabulary": 5}
    texts = {f"tiny-{split}.txt": b"the cat sees the dog\n" * n for split, n in lines.items()}
    server.publish("tiny", texts, **counts)
    assert f"--data {tmp_path / 'share/rhn/tiny'}" in command("rhn data get tiny").out
    shown = answer("rhn data show tiny")
    assert shown["found"] == counts == shown["published"]
    small = "--corpus tiny --hidden-size 5 --depth 1 --epochs 1 --batch-size 4"
    line = f"rhn train ptb-depth-1 {small} --set window=5 --out {tmp_path / 'run'}"
    assert answer(line)["epochs"] == 1
    trained, share = read(tmp_path / "run" / "best.safetensors"), tmp_path / "share/rhn/tiny"
    own = tmp_path / "own"
    own.mkdir()
    for split in lines:
        (own / f"{split}.txt").write_text("the dog sees the cat\n")
    for data, name in ((None, "tiny"), (share, "tiny"), (own, "text")):
        assert corpus_of(trained, data).name == name

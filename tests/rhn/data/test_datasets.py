"""Published data sets: downloads from a local server that are verified, kept, and never half
there.
"""

import functools
import hashlib
import http.server
import json
import socket
import stat
import threading
from collections import Counter

import pytest

from rhn.cli import main as cli
from rhn.data import datasets
from rhn.data.datasets import TEXT_SETS, DataSet, data_folder, get
from rhn.errors import DataError, InvalidInputError, OutputError
from tests.rhn.test_files import names

CONTENT = bytes(range(256)) * 700
LINE = "the cat sees the dog\n"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on this machine of the files in a folder, with a count of the requests."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "www").mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *args):
            server.asked[self.path] += 1

        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(tmp_path / "www"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.folder, server.asked = tmp_path / "www", Counter()
    server.address = f"http://127.0.0.1:{server.server_port}/".__add__
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def publish(server, monkeypatch):
    """publish(name, content, *addresses, served): a data set with the checksums of `content`; the
    server has the files `served`.
    """

    def publish(name, content, *addresses, served=None, **record):
        for file, data in (content if served is None else served).items():
            (server.folder / file).write_bytes(data)
        files = {
            file: (sha256(data), *(addresses or (server.address(file),)))
            for file, data in content.items()
        }
        if name == "jsb":
            monkeypatch.setattr(datasets, "CHORALES", DataSet(files=files, counts={}))
        else:
            record = {"counts": {}, "unit": "words"} | record
            monkeypatch.setitem(TEXT_SETS, name, DataSet(files=files, **record))

    return publish


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_a_data_set_is_downloaded_whole_and_can_be_read_by_every_user(publish, tmp_path):
    publish("ptb", {"one": CONTENT, "two": b"2"})
    folder = tmp_path / "deep" / "new"
    assert get("ptb", folder) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "one": CONTENT,
        "two": b"2",
    }
    assert stat.S_IMODE((folder / "one").stat().st_mode) == 0o644


def test_the_chorales_go_to_the_users_data_folder_from_the_first_address_that_answers(
    server, publish, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    publish(
        "jsb",
        {"JSB-Chorales.pickle": CONTENT},
        server.address("gone"),
        server.address("JSB-Chorales.pickle"),
    )
    path = get("jsb")
    assert (
        path
        == data_folder("jsb") / "JSB-Chorales.pickle"
        == tmp_path / "share/rhn/jsb/JSB-Chorales.pickle"
    )
    assert path.read_bytes() == CONTENT


def test_a_whole_file_is_not_downloaded_again_and_a_damaged_one_is(server, publish, tmp_path):
    publish("ptb", {"one": CONTENT})
    for _ in range(2):
        get("ptb", tmp_path / "data")
        assert server.asked == {"/one": 1}
    (tmp_path / "data" / "one").write_bytes(CONTENT[:-1])
    get("ptb", tmp_path / "data")
    assert server.asked == {"/one": 2} and (tmp_path / "data" / "one").read_bytes() == CONTENT


def test_another_checksum_is_refused_with_both_and_the_old_file_stays(publish, tmp_path):
    publish("ptb", {"one": CONTENT}, served={"one": b"something else"})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").write_bytes(b"mine")
    wanted = f"is {sha256(b'something else')}: expected {sha256(CONTENT)}"
    with pytest.raises(DataError, match=wanted):
        get("ptb", tmp_path / "data")
    assert (
        names(tmp_path / "data") == ["one"] and (tmp_path / "data" / "one").read_bytes() == b"mine"
    )


def test_without_a_network_a_whole_file_is_found_and_a_missing_one_named_with_address_and_place(
    server, publish, tmp_path
):
    publish("ptb", {"one": CONTENT})
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=rf"^{server.address('one')}: .*refused"):
        get("ptb", tmp_path)
    assert names(tmp_path) == ["www"]
    (tmp_path / "one").write_bytes(CONTENT)
    assert get("ptb", tmp_path) == tmp_path


@pytest.mark.parametrize("head", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_a_download_that_breaks_leaves_nothing(publish, tmp_path, monkeypatch, head):
    """The server closes the connection after five of ten bytes."""
    listener = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def answer():
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + b"a\r\nab")

    threading.Thread(target=answer, daemon=True).start()
    publish("ptb", {"one": b"0123456789"}, f"http://127.0.0.1:{listener.getsockname()[1]}/one")
    with pytest.raises(DataError, match="/one"):
        get("ptb", tmp_path / "data")
    assert names(tmp_path / "data") == []
    listener.close()


def test_a_folder_that_cannot_be_made_and_an_unknown_set_are_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}/file/deeper: Not a directory"):
        get("ptb", tmp_path / "file" / "deeper")
    with pytest.raises(InvalidInputError, match="expected ptb, enwik8, text8, jsb"):
        get("imagenet", tmp_path)


def test_a_new_text_with_a_record_is_downloaded_shown_trained_on_and_evaluated(
    publish, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    lines = {"train": 200, "valid": 40, "test": 40}
    counts = {split: 6 * n for split, n in lines.items()} | {"vocabulary": 5}
    publish(
        "tiny",
        {f"tiny-{split}.txt": (LINE * n).encode() for split, n in lines.items()},
        counts=counts,
    )

    def said(*words):
        assert cli.main([str(word) for word in words]) == 0
        return capsys.readouterr()

    assert f"--data {tmp_path / 'share/rhn/tiny'}" in said("data", "get", "tiny").out
    shown = said("data", "show", "tiny", "--json")
    shown = json.loads(shown.out)
    assert shown["found"] == counts == shown["published"]
    small = {
        "corpus": "tiny",
        "hidden_size": 5,
        "epochs": 1,
        "batch_size": 4,
        "window": 5,
        "init": "uniform:0.1",
    }
    (tmp_path / "small.json").write_text(json.dumps(small))
    said("train", "--config", tmp_path / "small.json", "--out", tmp_path / "run")
    assert said("evaluate", tmp_path / "run" / "best.safetensors", "--json").out.startswith("{")

"""Fetching data sets from a server of the test's own: verified, kept, and never half there."""

import contextlib
import functools
import hashlib
import http.server
import socket
import threading
from collections import Counter
from types import MappingProxyType

import pytest

from rhn.data.download import data_folder, get
from rhn.data.sets import TEXT_SETS, DataSet, PublishedFile, TextSet
from rhn.errors import DataError, InvalidInputError, OutputError

CONTENT = bytes(range(256)) * 700  # more than one block of the download


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on this machine of the files in a folder, with a count of what was asked for."""
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
    """publish(name, content, *addresses, served): a data set with the checksums of `content`; `served` is what there is."""

    def publish(name, content, *addresses, served=None):
        for file, data in (content if served is None else served).items():
            (server.folder / file).write_bytes(data)
        files = tuple(
            PublishedFile(
                name=file, addresses=addresses or (server.address(file),), checksum=f"sha256:{sha256(data)}", most=2**20
            )
            for file, data in content.items()
        )
        if name == "jsb":
            monkeypatch.setattr("rhn.data.sets.CHORALES", DataSet(name=name, files=files, counts={}))
        else:
            monkeypatch.setitem(TEXT_SETS, name, TextSet(name=name, files=files, counts={}, unit="words"))

    return publish


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_data_set_is_fetched_whole_and_its_folder_is_what_data_takes(publish, tmp_path):
    publish("ptb", {"one": CONTENT, "two": b"2"})
    folder = tmp_path / "deep" / "new"
    assert get("ptb", folder) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"one": CONTENT, "two": b"2"}


def test_without_a_folder_it_goes_to_the_users_data_and_the_chorales_are_a_file(publish, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    publish("jsb", {"JSB-Chorales.pickle": CONTENT})
    path = get("jsb")
    assert path == data_folder("jsb") / "JSB-Chorales.pickle" == tmp_path / "share/rhn/jsb/JSB-Chorales.pickle"
    assert path.read_bytes() == CONTENT


def test_a_whole_file_is_not_fetched_again_and_a_damaged_one_is(server, publish, tmp_path):
    publish("ptb", {"one": CONTENT})
    for _ in range(2):
        get("ptb", tmp_path / "data")
        assert server.asked == {"/one": 1}
    (tmp_path / "data" / "one").write_bytes(CONTENT[:-1])
    get("ptb", tmp_path / "data")
    assert server.asked == {"/one": 2} and (tmp_path / "data" / "one").read_bytes() == CONTENT


def test_another_checksum_is_refused_with_both_and_leaves_nothing(publish, tmp_path):
    publish("ptb", {"one": CONTENT}, served={"one": b"something else"})
    wanted = f"checksum sha256:{sha256(b'something else')}, expected sha256:{sha256(CONTENT)}"
    with pytest.raises(DataError, match=wanted):
        get("ptb", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_failed_download_removes_the_folders_that_it_made_and_leaves_the_file_that_was_there(publish, tmp_path):
    publish("ptb", {"one": CONTENT, "two": b"2"}, served={})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "one").write_bytes(b"mine")
    for place in ("mine", "mine/new/deep"):
        with pytest.raises(DataError, match="404"):
            get("ptb", tmp_path / place)
        assert names(tmp_path / "mine") == ["one"] and (tmp_path / "mine" / "one").read_bytes() == b"mine"
    publish("ptb", {"one": CONTENT, "two": b"2"}, served={"one": CONTENT})
    with pytest.raises(DataError, match="two"):
        get("ptb", tmp_path / "mine" / "new")
    assert names(tmp_path / "mine" / "new") == ["one"]


def test_the_second_address_is_taken_where_the_first_does_not_answer(server, publish, tmp_path):
    publish("ptb", {"one": CONTENT}, server.address("gone"), server.address("one"))
    assert (get("ptb", tmp_path / "data") / "one").read_bytes() == CONTENT


def test_without_a_network_the_address_and_the_place_for_the_file_are_named(server, publish, tmp_path):
    publish("ptb", {"one": CONTENT})
    server.shutdown()
    server.server_close()
    message = rf"{server.address('one')} cannot be fetched \(.+\); fetch it by hand and put it at {tmp_path}"
    with pytest.raises(DataError, match=message):
        get("ptb", tmp_path)
    assert names(tmp_path) == ["www"]


class Hostile(http.server.BaseHTTPRequestHandler):
    """Answers with what `answer` says of each address: status, headers, and how many blocks."""

    answer = MappingProxyType(
        {
            "/endless": (200, {}, 10**9),
            "/claims": (200, {"Content-Length": "9" * 15}, 1),
            "/words": (200, {"Content-Length": "many"}, 1),
            "/digits": (200, {"Content-Length": "9" * 5000}, 1),
            "/short": (200, {"Content-Length": "70000"}, 1),
            "/loop": (302, {"Location": "/loop"}, 0),
            "/file": (302, {"Location": "file:///etc/passwd"}, 0),
            "/ftp": (302, {"Location": "ftp://127.0.0.1/x"}, 0),
            "/brackets": (302, {"Location": "http://["}, 0),
            "/port": (302, {"Location": "http://127.0.0.1:99999999/"}, 0),
            "/nowhere": (302, {}, 0),
            "/error": (500, {}, 1),
            "/status": (99, {}, 0),
        }
    )

    def do_GET(self):
        status, headers, blocks = self.answer[self.path]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the other side has had enough
            for _ in range(blocks):
                self.wfile.write(bytes(2**16))

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(
    ("path", "reason"),
    {
        "endless": "more than 1048576 bytes",
        "claims": "more than 1048576 bytes",
        "words": "gave a file with checksum",
        "digits": "gave a file with checksum",
        "short": "ended after 65536 of 70000 bytes",
        "loop": "infinite loop",
        "file": "not allowed",
        "ftp": "sends on to ftp:",
        "brackets": "Invalid IPv6",
        "port": "cannot be fetched",
        "nowhere": "302",
        "error": "500",
        "status": "99",
    }.items(),
)
def test_a_server_that_is_not_what_it_should_be_is_named_and_leaves_nothing(path, reason, server, publish, tmp_path):
    server.RequestHandlerClass = Hostile
    publish("ptb", {"one": CONTENT}, server.address(path), served={})
    with pytest.raises(DataError, match=f"/{path} .*{reason}.*; fetch it by hand"):
        get("ptb", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_server_that_is_silent_or_never_done_is_given_up(server, publish, tmp_path, monkeypatch):
    publish("ptb", {"one": CONTENT})
    monkeypatch.setattr("rhn.data.download.LONGEST", -1)
    with pytest.raises(DataError, match="took longer than"):
        get("ptb", tmp_path / "data")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the call and says nothing
        monkeypatch.setattr("rhn.data.download.PATIENCE", 0.05)
        publish("ptb", {"one": CONTENT}, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        with pytest.raises(DataError, match="timed out"):
            get("ptb", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_progress_ends_at_the_files_size(publish, tmp_path):
    seen = {}
    publish("ptb", {"one": CONTENT})
    get("ptb", tmp_path / "data", progress=lambda title: lambda *call: seen.setdefault(title, []).append(call))
    dones = [done for done, _ in seen["one"]]
    assert dones == sorted(dones) and len(dones) > 2 and seen["one"][-1] == (len(CONTENT), len(CONTENT))


def test_a_folder_that_cannot_be_made_and_an_unknown_set_are_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}/file: it is a file"):
        get("ptb", tmp_path / "file")
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}/file/deeper: Not a directory"):
        get("ptb", tmp_path / "file" / "deeper")
    with pytest.raises(InvalidInputError, match="expected one of ptb, enwik8, text8, jsb"):
        get("imagenet", tmp_path)


def test_penn_treebank_has_the_checksums_that_fetching_demands(treebank):
    for file in TEXT_SETS["ptb"].files:
        assert f"md5:{hashlib.md5((treebank / file.name).read_bytes()).hexdigest()}" == file.checksum


@pytest.mark.parametrize("status", ["204 No Content", "200 OK"])
def test_an_answer_without_a_file_is_told(status, publish, tmp_path):
    with answering(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n".encode()) as address:
        publish("ptb", {"one": CONTENT}, address)
        with pytest.raises(DataError, match="its answer is empty"):
            get("ptb", tmp_path / "ptb")


def test_what_is_no_answer_reaches_no_terminal_as_it_is(publish, tmp_path):
    with answering(b"\x1b[2J\x07" + b"x" * 5000 + b"\r\n\r\n") as address:
        publish("ptb", {"one": CONTENT}, address)
        with pytest.raises(DataError) as error:
            get("ptb", tmp_path / "ptb")
    assert str(error.value).isprintable() and len(str(error.value)) < 1000


@contextlib.contextmanager
def answering(answer: bytes):
    """The address of a server that gives one answer, these bytes."""

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/one"

"""Compressed texts: read without a file of their own, and refused where they are damaged, lack the text or hold too much."""

import gzip
import zipfile

import pytest

from rhn.data import text
from rhn.data.text import read_text
from rhn.errors import DataError


@pytest.fixture(autouse=True)
def _own_cache(cache_home):
    pass


def zipped(enwik, member="enwik8", method=zipfile.ZIP_DEFLATED):
    path = enwik.with_name("enwik8.zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.write(enwik, member)
    return path


def gzipped(enwik):
    path = enwik.with_name("enwik8.gz")
    path.write_bytes(gzip.compress(enwik.read_bytes()))
    return path


every_kind = pytest.mark.parametrize("compress", [zipped, gzipped])


@every_kind
def test_an_archive_holds_the_same_text(enwik, compress, cache_home):
    plain, archive = read_text("enwik8", enwik), compress(enwik)
    enwik.unlink()
    corpus = read_text("enwik8", archive.parent)
    assert corpus.checksum == plain.checksum and (corpus.test[:] == plain.test[:]).all()
    assert corpus.source == f"enwik8, bytes, from {archive}"
    assert not cache_home.exists()


@every_kind
@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"no archive"])
def test_a_damaged_archive_is_refused_and_leaves_nothing(enwik, compress, damage, cache_home):
    path = compress(enwik)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"enwik8\.(zip|gz) is damaged or not a"):
        read_text("enwik8", path)
    assert not cache_home.exists()


@every_kind
def test_an_archive_of_too_much_or_of_nothing_is_refused_and_leaves_nothing(enwik, compress, cache_home, monkeypatch):
    monkeypatch.setattr(text, "MAX_BYTES", 399)
    with pytest.raises(DataError, match="more than 399 bytes"):
        read_text("enwik8", compress(enwik))
    enwik.write_bytes(b"")
    archive = compress(enwik)
    with pytest.raises(DataError, match=f"{archive} unpacks to nothing"):
        read_text("enwik8", archive)
    archive.write_bytes(b"")
    with pytest.raises(DataError, match=f"{archive} (unpacks to nothing|is damaged)"):
        read_text("enwik8", archive)
    assert not cache_home.exists()


def test_a_zip_without_the_text_or_with_names_that_are_not_utf8_is_refused(enwik):
    with pytest.raises(DataError, match="holds no file enwik8, but letters"):
        read_text("enwik8", zipped(enwik, "letters"))
    archive = zipped(enwik, "enwiké")
    archive.write_bytes(archive.read_bytes().replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(DataError, match=r"enwik8\.zip is damaged .*utf-8"):
        read_text("enwik8", archive)


@pytest.mark.parametrize("method", ["DEFLATED", "BZIP2", "LZMA", None])
def test_no_changed_byte_of_an_archive_gives_another_text(enwik, method):
    archive = zipped(enwik, method=getattr(zipfile, f"ZIP_{method}")) if method else gzipped(enwik)
    sound, content = read_text("enwik8", archive).checksum, archive.read_bytes()
    refused = 0
    for place in range(len(content)):
        archive.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            assert read_text("enwik8", archive).checksum == sound
        except DataError:
            refused += 1
    assert refused > len(content) // 2

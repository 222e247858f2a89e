"""The rebuilt chorales, kept in the user's cache folder as one .npz file.

The file's name carries the music21 version and a hash of all else that decides the content, so that nothing stale
is ever read. Writes are atomic (temporary file, fsync, rename): two processes that build at once leave one whole
file. What is read is checked against the SHA-256 stored beside it; nothing is ever unpickled.

Arrays: `packed` (N, 11) uint8, the 88 keys of all frames of all pieces as bits; then one entry a piece: `lengths`,
`splits`, `indices`, `names`; and two strings, `source` and `checksum`.
"""

import hashlib
import logging
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from rhn.data.corpus import KEYS, Corpus, Piece
from rhn.data.split import TABLE
from rhn.errors import OutputError
from rhn.utils.io import atomic_path, require_file

logger = logging.getLogger(__name__)


def cache_path(music21_version: str, expected_checksum: str) -> Path:
    """Where the chorales rebuilt with this version are kept; honours XDG_CACHE_HOME.

    `expected_checksum` stands for the rule of rebuilding: it changes whenever the rule does.
    """
    table = hashlib.sha256(TABLE.read_bytes()).hexdigest()
    key = hashlib.sha256(f"{table} {expected_checksum}".encode()).hexdigest()[:12]
    return user_cache_path("rhn", appauthor=False) / f"chorales-music21-{music21_version}-{key}.npz"


def load(path: Path) -> Corpus | None:
    """The corpus kept at `path`; None where there is none, and, with a notice, where the file is damaged."""
    try:
        with require_file(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            corpus = _from_arrays(arrays)
            if corpus.checksum == str(arrays["checksum"]):
                return corpus
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except Exception:  # whatever a damaged file makes zipfile, zlib and NumPy raise, the answer is the same
        logger.debug("cannot read %s", path, exc_info=True)
    logger.warning("The kept chorales are damaged and will be rebuilt: %s", path)
    return None


def save(corpus: Corpus, path: Path) -> None:
    """Keep a corpus at `path`; where that is impossible, say so in one line and go on."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **_to_arrays(corpus))
    except (OSError, OutputError) as error:
        logger.warning("The rebuilt chorales cannot be kept (%s); they will be rebuilt each time", error)


def _to_arrays(corpus: Corpus) -> dict:
    pieces = corpus.pieces
    return {
        "packed": np.packbits(np.concatenate(pieces), axis=1),
        "lengths": [len(piece) for piece in pieces],
        "names": [piece.name for piece in pieces],
        "splits": [piece.split for piece in pieces],
        "indices": [piece.index for piece in pieces],
        "source": corpus.source,
        "checksum": corpus.checksum,
    }


def _from_arrays(arrays) -> Corpus:
    rolls = np.split(np.unpackbits(arrays["packed"], axis=1, count=KEYS), np.cumsum(arrays["lengths"])[:-1])
    entries = zip(rolls, *(arrays[key].tolist() for key in ("names", "splits", "indices")), strict=True)
    pieces = [Piece(roll, name=name, split=split, index=index) for roll, name, split, index in entries]
    return Corpus.of(pieces, str(arrays["source"]))

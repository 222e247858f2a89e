"""JSB Chorales: the 382 four-part chorales of Bach, split 229 / 76 / 77 by Boulanger-Lewandowski et al. (2012).

By default they are rebuilt from the Bach scores that the installed music21 package carries (8 have no counterpart there), once,
and kept in the user's cache folder. Editions differ: 95 % of the frames equal the original's exactly (`rhn.data.agreement`
measures it). Who needs the original split to the note passes its file.
"""

import logging
from pathlib import Path

from rhn.data import cache
from rhn.data.corpus import Corpus, Piece, lookup
from rhn.data.originals import read_original
from rhn.data.rebuild import rebuild, rebuild_piece
from rhn.data.scores import music21_version
from rhn.data.split import rows
from rhn.errors import DataError

EXPECTED_MUSIC21 = "10.5.1"
EXPECTED_CHECKSUM = "d387295bfe1434ed47e88f40f4542dc305883326d088418afaf46be059effedf"  # of the set rebuilt with it

logger = logging.getLogger(__name__)


def chorales(source: str | Path | None = None, *, progress: bool = True) -> Corpus:
    """The chorales: `train`, `valid` and `test`, lists of (T, 88) uint8 pieces, a row a quarter note.

    source: None, the set rebuilt from music21's scores (223 / 74 / 77 pieces); or the path of an original file, by
    its suffix .json (Huang) or .pickle (Boulanger-Lewandowski).
    progress: say on stderr when they are rebuilt.
    Raises DataError where music21 has no scores or the file is not a set of chorales, InvalidInputError for another
    suffix.
    """
    if source is not None:
        return read_original(Path(source))
    version = music21_version()
    path = cache.cache_path(version, EXPECTED_CHECKSUM)
    corpus = cache.load(path)
    if corpus is None:
        corpus = rebuild(progress=progress)
        cache.save(corpus, path)
    if corpus.checksum != EXPECTED_CHECKSUM:
        logger.warning(
            "The chorales rebuilt with this music21 (%s) have checksum %.12s..., expected %.12s... of music21 %s: "
            "they are used, but results may differ; for the expected notes reinstall music21==%s",
            *(version, corpus.checksum, EXPECTED_CHECKSUM, EXPECTED_MUSIC21, EXPECTED_MUSIC21),
        )
    return corpus


def chorale(name: str, source: str | Path | None = None) -> Piece:
    """One chorale by its name ("bwv269", "BWV 66.6") or its address in the original split ("train-14", "test-0").

    Reads that score alone (milliseconds), or, with a `source`, the original file. A name that occurs more than once
    means the first of train, valid, test: "bwv414" is "train-14", and its other version is "valid-33".
    Raises InvalidInputError for an unknown name, with the nearest ones; DataError for a chorale that cannot be
    rebuilt.
    """
    if source is not None:
        return read_original(Path(source)).find(name)
    row = lookup(rows(), name)
    if not row.matched:
        raise DataError(
            f"{name!r} cannot be rebuilt: chorale {row.label} has no counterpart among music21's Bach scores "
            f"({Path(row.score).stem} is the nearest, with other notes); read it from an original file (--data FILE)"
        )
    return rebuild_piece(row)

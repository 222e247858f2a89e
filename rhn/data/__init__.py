"""Data sets: chorales as piano rolls, texts as tokens.

    corpus = rhn.data.chorales()                   # rebuilt from the Bach scores within music21
    corpus = rhn.data.chorales("chorales.pickle")  # or an original file: .json, .pickle
    piece = rhn.data.chorale("bwv269")             # one chorale, a (T, 88) array with its name
    text = rhn.data.read_text("ptb", "data/ptb")   # or enwik8, text8, any text, see `rhn.data.text`

Shape legend for the whole package: T frames (a frame is a quarter note), B rows of a minibatch, 88
piano keys (key 0 is MIDI pitch 21).
"""

from typing import TYPE_CHECKING

from rhn.utils.lazy import lazy_names

if TYPE_CHECKING:
    from rhn.data.corpus import Corpus as Corpus
    from rhn.data.corpus import Piece as Piece
    from rhn.data.jsb import chorale as chorale
    from rhn.data.jsb import chorales as chorales
    from rhn.data.text import TextCorpus as TextCorpus
    from rhn.data.text import load_data as load_data
    from rhn.data.text import read_text as read_text
    from rhn.data.vocabulary import Vocabulary as Vocabulary

__all__, _load, __dir__ = lazy_names(
    __name__,
    {
        "corpus": ("Corpus", "Piece"),
        "jsb": ("chorale", "chorales"),
        "text": ("TextCorpus", "load_data", "read_text"),
        "vocabulary": ("Vocabulary",),
    },
)
if not TYPE_CHECKING:  # a name outside the table is an error
    __getattr__ = _load

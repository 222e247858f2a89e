"""Data sets: chorales as piano rolls, texts as tokens.

    corpus = rhn.data.chorales()                   # rebuilt from the Bach scores within music21
    corpus = rhn.data.chorales("chorales.pickle")  # or an original file: .json, .pickle
    piece = rhn.data.chorale("bwv269")             # one chorale, a (T, 88) array with its name
    text = rhn.data.read_text("ptb", "data/ptb")   # or enwik8, text8, any text, see `rhn.data.text`

Shape legend for the whole package: T frames (a frame is a quarter note), B rows of a minibatch, 88
piano keys (key 0 is MIDI pitch 21).
"""

from rhn.utils.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "corpus": ("Corpus", "Piece"),
        "jsb": ("chorale", "chorales"),
        "text": ("TextCorpus", "load_data", "read_text"),
        "vocabulary": ("Vocabulary",),
    },
)

"""Data sets: chorales as piano rolls, and minibatches of them; texts as tokens.

    import rhn.data

    corpus = rhn.data.chorales()                    # rebuilt from the Bach scores inside the installed music21
    corpus = rhn.data.chorales("chorales.pickle")   # or an original file: .json, .pickle
    piece = rhn.data.chorale("bwv269")              # one chorale, a (T, 88) array that knows its name
    for batch in rhn.data.batches(corpus.train, 32, seed=0, buckets=4): ...

    text = rhn.data.read_text("ptb", "data/ptb")    # or enwik8, text8, a text of your own; see `rhn.data.text`

Shape legend for the whole package: T frames (a frame is a quarter note), B rows of a minibatch, 88 keys (key 0 is
MIDI 21). Names load their module on first use, so that `import rhn.data` itself loads nothing heavy.
"""

from importlib import import_module

_MODULES = {
    "Corpus": "corpus",
    "Piece": "corpus",
    "chorale": "jsb",
    "chorales": "jsb",
    "Batch": "batching",
    "batches": "batching",
    "length_buckets": "batching",
    "TextCorpus": "text",
    "Tokens": "text",
    "Vocabulary": "text",
    "read_text": "text",
}

__all__ = sorted(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return sorted({*globals(), *_MODULES})

"""Texts for language models: Penn Treebank, enwik8, text8, or any text of one's own.

    from rhn.data.text import read_text

    corpus = read_text("ptb", Path("data/ptb"))          # words; corpus.vocabulary has 10,000
    corpus = read_text("enwik8", Path("enwik8.zip"))     # bytes, memory-mapped
    corpus = read_text("text", Path("novel.txt"), unit="characters")
    rows = corpus.train.rows(20)                         # (20, N // 20), no copy
    window = rows[:, 0:36]                               # (20, 36) int64 ids

`readers` finds a text's `files`, reads them as `codes` and puts a `vocabulary` on them; what comes out is a `corpus`.
The published ones are records in `rhn.data.sets`.
"""

from rhn.data.text.corpus import TextCorpus, Tokens
from rhn.data.text.readers import read_text
from rhn.data.text.vocabulary import Vocabulary

__all__ = ["TextCorpus", "Tokens", "Vocabulary", "read_text"]

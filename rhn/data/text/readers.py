"""The one function that reads a text: its files, their codes, a vocabulary, three splits.

A text is a published one, by its name in `rhn.data.sets.TEXT_SETS`, or "text": one's own. In a text of words a newline is the word
`<eos>`.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import get_args

import numpy as np

from rhn.data.corpus import SPLITS
from rhn.data.sets import TEXT_SETS
from rhn.data.text.codes import Codes, read_codes
from rhn.data.text.corpus import TextCorpus, Tokens
from rhn.data.text.files import find_files, plain_file
from rhn.data.text.numbering import build_vocabulary, id_table, require_equal
from rhn.data.text.unpack import file_digest
from rhn.data.text.vocabulary import Unit, Vocabulary
from rhn.errors import DataError, InvalidInputError
from rhn.utils.wording import counted

FOREIGN = 0.2  # share of unknown words above which a text is hardly one for a vocabulary

logger = logging.getLogger(__name__)


def read_text(
    name: str,
    path: str | Path | None = None,
    *,
    unit: Unit = "words",
    max_tokens: int | None = None,
    vocabulary_size: int | None = None,
    vocabulary: Vocabulary | None = None,
) -> TextCorpus:
    """A text in three splits.

    name: a published set's, or "text".
    path: the folder of a published set or one of its files (plain, .zip or .gz where it is one file); for "text", a folder with one
        file for each split ("train", "valid" and "test" in their names), or a folder of *.txt or one file, cut 90 / 5 / 5 %.
        None: where `rhn data get` puts it.
    unit: of a `text`; the other sets have their own, and so has a `vocabulary`.
    max_tokens: only the first so many tokens of each split; the vocabulary stays that of the whole text.
    vocabulary_size: of words; the most frequent ones of the training text stay, and `<unk>` stands for the others.
    vocabulary: a checkpoint's. The published sets must make the same; a text of one's own is encoded with it, with a warning
        where more than a fifth of its words are unknown.
    Raises DataError for files that are missing, empty, damaged or do not match the vocabulary, and for a split of
    fewer than 2 tokens; InvalidInputError for options that do not go together.
    """
    unit = _unit(name, unit, vocabulary)
    _check_sizes(unit, max_tokens, vocabulary_size)
    try:
        groups = find_files(name, path)
        plain = [[plain_file(file, name) for file in group] for group in groups]
        codes = read_codes(plain, unit)
        digests = [file_digest(file) for group in plain for file in group]
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror or error}") from error
    first, *others = (file for group in groups for file in group)
    place = first.parent if others else first
    if len(groups) == 1:
        if name != "text":
            _warn_of_length(name, codes, place)
        codes = codes.cut()
    for split, text in zip(SPLITS, codes.texts, strict=True):
        if len(text) < 2:
            raise DataError(
                f"{place}: its {split} split has {counted(len(text), 'token')}, expected at least 2; take a longer text"
            )
    counts = codes.counts()
    if vocabulary is None:
        vocabulary = build_vocabulary(codes, counts, unit, vocabulary_size)
    elif name == "text":
        _warn_of_words(codes, counts, vocabulary, place)
    else:
        require_equal(build_vocabulary(codes, counts, unit, vocabulary_size or len(vocabulary)), vocabulary)
    table = id_table(codes, counts, vocabulary)
    content = {"files": digests, "vocabulary": vocabulary.to_json(), "max_tokens": max_tokens}
    return TextCorpus(
        *(Tokens(text, table).head(max_tokens) for text in codes.texts),
        vocabulary=vocabulary,
        name=name,
        source=f"{name}, {unit}, from {f'{len(digests)} files in ' if others else ''}{place.absolute()}",
        checksum=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
    )


def _unit(name: str, unit: str, vocabulary: Vocabulary | None) -> Unit:
    if name == "text":
        unit = unit if vocabulary is None else vocabulary.unit
        if unit not in get_args(Unit):
            raise InvalidInputError(f"a text is read as words, characters or bytes, not as {unit!r}")
        return unit
    if name not in TEXT_SETS:
        raise InvalidInputError(f"no text is called {name!r}, expected one of {', '.join((*TEXT_SETS, 'text'))}")
    own = TEXT_SETS[name].unit
    if unit not in ("words", own):
        raise InvalidInputError(
            f"{name} is read as {own}; to read its files as {unit}, read them as a text of your own"
        )
    return own


def _check_sizes(unit: Unit, max_tokens: int | None, vocabulary_size: int | None) -> None:
    if max_tokens is not None and max_tokens < 2:
        raise InvalidInputError(f"max_tokens={max_tokens}, expected at least 2: one token to read and one to predict")
    if vocabulary_size is not None and unit != "words":
        raise InvalidInputError(f"a vocabulary size is for words; a text of {unit} keeps all its symbols")
    if vocabulary_size is not None and vocabulary_size < 2:
        raise InvalidInputError(f"vocabulary_size={vocabulary_size}, expected at least 2: `<unk>` and `<eos>`")


def _warn_of_length(name: str, codes: Codes, file: Path) -> None:
    found, published = len(codes.texts[0]), sum(TEXT_SETS[name].counts[split] for split in SPLITS)
    if found != published:
        words = "%s has %d %s, %s as published has %d; it is cut 90 / 5 / 5 %%"
        logger.warning(words, file, found, TEXT_SETS[name].unit, name, published)


def _warn_of_words(codes: Codes, counts: np.ndarray, vocabulary: Vocabulary, place: Path) -> None:
    occurrences = counts.sum(axis=0)
    unknown = [code for code in np.flatnonzero(occurrences).tolist() if codes.symbol(code) not in vocabulary.index]
    share = occurrences[unknown].sum() / occurrences.sum()
    if vocabulary.unknown is not None and share > FOREIGN:
        words = "%s: %.0f %% of the words are not in the checkpoint's vocabulary and are read as `<unk>`"
        logger.warning(words, place, 100 * share)

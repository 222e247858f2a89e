"""A text as files, one for each split, and the text of a corpus."""

from rhn.data.corpus import SPLITS


def write(folder, name="my", **splits):
    """The files my.train.txt, my.valid.txt and my.test.txt in a new folder."""
    folder.mkdir()
    for split, text in splits.items():
        (folder / f"{name}.{split}.txt").write_bytes(text.encode())
    return folder


def decoded(corpus):
    """The text of each split."""
    return {split: corpus.vocabulary.decode(getattr(corpus, split)[:]) for split in SPLITS}

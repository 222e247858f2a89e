"""`rhn data`: download the published data sets, and show what a data set contains."""

from dataclasses import field
from pathlib import Path
from typing import Literal

from rhn.cli.entry import print_json
from rhn.data.datasets import data_set, get
from rhn.utils.command_line import command_class, command_line
from rhn.utils.tables import aligned, formatted


@command_class
class Get:
    """Download a published data set, and verify its checksums. Complete files are kept."""

    name: str = field(kw_only=False)
    """A published text (ptb, enwik8, text8), or jsb for the chorales."""
    out: Path | None = None
    """Folder to write to. Default: your data folder, where the other commands look for texts."""

    def run(self) -> None:
        print(f"--data {get(self.name, self.out)}")


@command_class
class Show:
    """Print the numbers of tokens (or pieces) and symbols of a data set, beside the published."""

    name: str = field(kw_only=False)
    """A published text (ptb, enwik8, text8), "text" for your own text, or jsb for the chorales."""
    data: Path | None = None
    """File or folder of the data. Default: that of `rhn data get`; for jsb, those of music21."""
    unit: Literal["words", "characters"] = "words"
    """Unit of the tokens of your own text."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def run(self) -> None:
        from rhn.data import TextCorpus, load_data
        from rhn.data.corpus import SPLITS

        options = {"unit": self.unit} if self.name == "text" else {}
        corpus = load_data(self.name, self.data, **options)
        found = {split: len(getattr(corpus, split)) for split in SPLITS}
        unit = "pieces"
        if isinstance(corpus, TextCorpus):
            unit, found["vocabulary"] = corpus.vocabulary.unit, len(corpus.vocabulary)
        published = {} if self.name == "text" else data_set(self.name).counts
        if self.json:
            about = {"name": self.name, "source": corpus.source, "checksum": corpus.checksum}
            print_json(about | {"unit": unit, "found": found, "published": published})
            return
        rows = [[what, str(n), formatted(published.get(what))] for what, n in found.items()]
        print(corpus.source, f"checksum {corpus.checksum}", sep="\n")
        print(*aligned([[unit, "found", "published"], *rows]), sep="\n")


DATA = command_line("data", "Download a data set, or show its content.")
DATA.command(Get, name="get")
DATA.command(Show, name="show")

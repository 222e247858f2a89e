"""`rhn sample` and `rhn generate`: write a chorale or print a text that a trained model makes up."""

from dataclasses import dataclass
from pathlib import Path

from rhn.errors import InvalidInputError
from rhn.utils.io import check_output
from rhn.utils.options import Trained, Writing, check_most, option
from rhn.utils.validation import check_seed

MOST_TOKENS = 1_000_000
MOST_BARS = 10_000  # hours of music, minutes to write


@dataclass(frozen=True, kw_only=True)
class Sample(Trained, Writing):
    """Write a chorale that a trained model makes up."""

    output: Path | None = option(None, "What to write, .mid or .musicxml (required).", metavar="FILE")
    temperature: float = option(1.0, "Below 1 more predictable, above 1 wilder.")
    bars: int = option(16, "Length in bars of four quarter notes.")
    seed: int = option(0, "Seed of the notes.")

    def run(self) -> None:
        from rhn.checkpoints import load_model
        from rhn.models import PolyphonicModel
        from rhn.training.sampling import SUFFIXES, sample_chorale, write_chorale

        check_seed(self.seed)
        check_most(self, bars=MOST_BARS)
        model = load_model(self.checkpoint, self.cell, PolyphonicModel)  # first: of a text it names `rhn generate`
        if self.output is None:
            raise InvalidInputError("--output FILE is missing: the .mid or .musicxml file to write")
        check_output(self.output, SUFFIXES, force=self.force)
        frames = sample_chorale(model, bars=self.bars, temperature=self.temperature, seed=self.seed)
        print(f"chorale: {write_chorale(frames, self.output)}")


@dataclass(frozen=True, kw_only=True)
class Generate(Trained):
    """Print a text that a trained language model makes up."""

    prompt: str = option("", "The text to go on from.", metavar="TEXT")
    length: int = option(200, "How many words or characters.")
    temperature: float = option(1.0, "Below 1 more predictable, above 1 wilder.")
    top_k: int | None = option(None, "Choose among the N most probable ones only.")
    seed: int = option(0, "Seed of the choices.")

    def run(self) -> None:
        check_most(self, length=MOST_TOKENS)
        from rhn.training.sampling import generate
        from rhn.training.trained import load_text_model

        trained = load_text_model(self.checkpoint, self.cell)
        how = {name: getattr(self, name) for name in ("prompt", "length", "temperature", "seed", "top_k")}
        print(generate(trained.model, trained.vocabulary, **how))

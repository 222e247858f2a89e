"""`rhn evaluate`, `rhn sample` and `rhn generate`: measure a trained model on a split, or let it
write a chorale or a text.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rhn.cli.entry import print_json, resolve_device
from rhn.errors import InvalidInputError
from rhn.utils.io import check_output
from rhn.utils.old import Count, Device, Natural, TrainedOptions, given_flags, within
from rhn.utils.progress import progress_bars
from rhn.utils.tables import printable

if TYPE_CHECKING:
    from rhn.training.trained import TrainedText

MOST_SAMPLES = 100_000  # of --mc: each reads the whole text
MOST_TOKENS = 1_000_000
MOST_BARS = 10_000  # hours of music, minutes to write
TEXT_OPTIONS = ("batch_size", "temperature", "mc", "mc_official", "max_tokens", "seed")


@dataclass(frozen=True, kw_only=True)
class Evaluate(TrainedOptions):
    """Measure how well a trained model predicts. The result is the perplexity of words, bits per
    character, or nats per frame of a chorale.

    The mean is over every token except the first, or every frame except the first of each chorale.
    """

    split: Literal["train", "valid", "test"] = "test"
    """Split of the data to evaluate on."""
    data: Path | None = None
    """Path of the data, if it has moved since the training run. Default: the path that the training
    run used.
    """
    max_tokens: Annotated[int, within(least=2)] | None = None
    """For texts: use only the first N tokens of the split. Default: all."""
    batch_size: Count | None = None
    """For texts: cut the text into N pieces that are read in parallel, each from a zero state. More
    pieces are faster than one, but the loss is slightly higher. Default: 1.
    """
    temperature: float | None = None
    """For texts: divide the logits by this number. Default: 1."""
    mc: Annotated[int, within(least=1, most=MOST_SAMPLES)] | None = None
    """For texts: Monte Carlo dropout. Average the probabilities of N samples with dropout, with new
    masks for each window (Gal and Ghahramani 2016). Default: no dropout.
    """
    mc_official: Annotated[int, within(least=1, most=MOST_SAMPLES)] | None = None
    """For texts: like --mc, but with one set of masks per sample for the whole text, as in the
    official code of the paper. As there, a sample with a perplexity of 500 or more is drawn again.
    Default: no dropout.
    """
    seed: Natural = 0
    """For texts: seed of the dropout masks of --mc and --mc-official."""
    device: Device = "auto"
    """Device to compute on; auto uses a GPU if there is one."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> None:
        from rhn.checkpoints import read_metadata, require_network

        require_network(self.checkpoint)
        if read_metadata(self.checkpoint)["class"] == "LanguageModel":
            self._text()
        else:
            self._chorales()

    def _chorales(self) -> None:
        for flag in given_flags(self, TEXT_OPTIONS):
            raise InvalidInputError(f"{flag} is for language models, and this is one of chorales")
        from rhn.checkpoints import load_model
        from rhn.models import PolyphonicModel
        from rhn.training.chorales import evaluate_chorales
        from rhn.training.trained import corpus_of

        model = load_model(self.checkpoint, self.cell, PolyphonicModel)
        device = resolve_device(self.device)
        pieces = getattr(corpus_of(self.checkpoint, self.data), self.split)
        found = evaluate_chorales(model, pieces, device=device)
        if self.json:
            print_json({"nll": found.nll, "split": self.split, "frames": found.predicted})
        else:
            over = f"over {found.predicted} predicted frames"
            print(f"{self.split}: {found.nll:.4f} nats per frame {over}")

    def _text(self) -> None:
        if len(methods := given_flags(self, ("mc", "mc_official", "batch_size"))) > 1:
            raise InvalidInputError(
                f"{' and '.join(methods)} exclude one another; give one of them"
            )
        from rhn.training.evaluation import measure, measure_name
        from rhn.training.trained import load_text_model

        trained, device = load_text_model(self.checkpoint, self.cell), resolve_device(self.device)
        with progress_bars() as report:
            found = self._score(trained, trained.corpus(self.data), device, report(self.split))
        if self.temperature is not None and math.isnan(found.nll):
            raise InvalidInputError(
                f"--temperature {self.temperature} makes the logits infinite: expected a "
                "number nearer to 1"
            )
        name = measure_name(trained.vocabulary)
        value = measure(found.nll, name)
        used: dict = {} if self.temperature is None else {"temperature": self.temperature}
        if samples := self.mc or self.mc_official:
            used |= {"samples": samples, "method": "mc" if self.mc else "mc-official"}
        if self.mc_official:
            used["redrawn"] = found.redrawn
        if self.json:
            row = {"nll": found.nll, name: value, "split": self.split, "tokens": found.predicted}
            print_json(row | used)
        else:
            if (again := used.pop("redrawn", 0)) > 0:
                used["drawn again for a perplexity of 500 or more"] = again
            how = "".join(f", {key} {value}" for key, value in used.items())
            print(
                f"{self.split}: {name.replace('_', ' ')} {value:.4f} over {found.predicted} "
                f"predicted tokens{how}"
            )

    def _score(self, trained: "TrainedText", corpus, device: str, progress):
        text = getattr(corpus, self.split)[: self.max_tokens]
        temperature = 1.0 if self.temperature is None else self.temperature
        shared = {"device": device, "progress": progress, "temperature": temperature}
        samples = self.mc or self.mc_official
        if not samples:
            from rhn.training.evaluation import score

            return score(trained.model, text, batch_size=self.batch_size or 1, **shared)
        from rhn.training.monte_carlo import monte_carlo_score

        window = trained.config.window if self.mc else None
        shared |= {"samples": samples, "window": window, "seed": self.seed}
        return monte_carlo_score(trained.model, text, trained.config.dropout, **shared)


@dataclass(frozen=True, kw_only=True)
class Sample(TrainedOptions):
    """Let a trained model compose a chorale, and write it to a file."""

    output: Path | None = None
    """The file to write: MIDI (.mid) or MusicXML (.musicxml). Required."""
    temperature: float = 1.0
    """Divide the logits by this number: the notes are more predictable below 1, more varied above
    1.
    """
    bars: Annotated[int, within(least=1, most=MOST_BARS)] = 16
    """Length of the chorale in bars of four quarter notes."""
    seed: Natural = 0
    """Seed of the random draws of notes."""

    def run(self) -> None:
        from rhn.checkpoints import load_model, require_network
        from rhn.models import PolyphonicModel
        from rhn.training.sampling import MUSIC_SUFFIXES, sample_chorale, write_chorale

        require_network(self.checkpoint)
        # first: of a text it names `rhn generate`
        model = load_model(self.checkpoint, self.cell, PolyphonicModel)
        if self.output is None:
            raise InvalidInputError("--output FILE is missing: the .mid or .musicxml file to write")
        check_output(self.output, MUSIC_SUFFIXES)
        frames = sample_chorale(model, bars=self.bars, temperature=self.temperature, seed=self.seed)
        print(f"chorale: {write_chorale(frames, self.output)}")


@dataclass(frozen=True, kw_only=True)
class Generate(TrainedOptions):
    """Let a trained language model write a text, and print it."""

    prompt: str = ""
    """The text that the model continues. Default: none."""
    length: Annotated[int, within(least=1, most=MOST_TOKENS)] = 200
    """Number of words or characters to write."""
    temperature: float = 1.0
    """Divide the logits by this number: the text is more predictable below 1, more varied above
    1.
    """
    top_k: Count | None = None
    """Draw only from the N most probable words or characters. Default: draw from all."""
    seed: Natural = 0
    """Seed of the random draws of words or characters."""

    def run(self) -> None:
        from rhn.checkpoints import require_network
        from rhn.training.sampling import generate
        from rhn.training.trained import load_text_model

        require_network(self.checkpoint)
        trained = load_text_model(self.checkpoint, self.cell)
        names = ("prompt", "length", "temperature", "seed", "top_k")
        how = {name: getattr(self, name) for name in names}
        print(printable(generate(trained.model, trained.vocabulary, **how)))

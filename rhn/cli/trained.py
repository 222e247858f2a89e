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
    from rhn.checkpoints import Checkpoint

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
        from rhn.checkpoints import read

        checkpoint = read(self.checkpoint)
        if checkpoint.header["class"] == "LanguageModel":
            self._text(checkpoint)
        else:
            self._chorales(checkpoint)

    def _chorales(self, checkpoint: "Checkpoint") -> None:
        for flag in given_flags(self, TEXT_OPTIONS):
            raise InvalidInputError(f"{flag} is for language models, and this is one of chorales")
        from rhn.training.chorales import evaluate_chorales
        from rhn.training.trained import corpus_of

        model = checkpoint.model(self.cell)
        device = resolve_device(self.device)
        pieces = getattr(corpus_of(checkpoint, self.data), self.split)
        found = evaluate_chorales(model, pieces, device=device)
        if self.json:
            print_json({"nll": found.nll, "split": self.split, "frames": found.predicted})
        else:
            over = f"over {found.predicted} predicted frames"
            print(f"{self.split}: {found.nll:.4f} nats per frame {over}")

    def _text(self, checkpoint: "Checkpoint") -> None:
        if len(methods := given_flags(self, ("mc", "mc_official", "batch_size"))) > 1:
            raise InvalidInputError(
                f"{' and '.join(methods)} exclude one another; give one of them"
            )
        from rhn.training.evaluation import measure, measure_name
        from rhn.training.trained import corpus_of, text_of

        config, vocabulary = text_of(checkpoint)
        model, device = checkpoint.model(self.cell), resolve_device(self.device)
        with progress_bars() as report:
            corpus = corpus_of(checkpoint, self.data)
            found = self._score(model, config, corpus, device, report(self.split))
        if self.temperature is not None and math.isnan(found.nll):
            raise InvalidInputError(
                f"--temperature {self.temperature} makes the logits infinite: expected a "
                "number nearer to 1"
            )
        name = measure_name(vocabulary)
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

    def _score(self, model, config, corpus, device: str, progress):
        text = getattr(corpus, self.split)[: self.max_tokens]
        temperature = 1.0 if self.temperature is None else self.temperature
        shared = {"device": device, "progress": progress, "temperature": temperature}
        samples = self.mc or self.mc_official
        if not samples:
            from rhn.training.evaluation import score

            return score(model, text, batch_size=self.batch_size or 1, **shared)
        from rhn.training.monte_carlo import monte_carlo_score

        window = config.window if self.mc else None
        shared |= {"samples": samples, "window": window, "seed": self.seed}
        return monte_carlo_score(model, text, config.dropout, **shared)


@dataclass(frozen=True, kw_only=True)
class Sample(TrainedOptions):
    """Let a trained model compose a chorale, and write it to a file."""

    output: Path | None = None
    """The MIDI file to write (.mid). Required."""
    temperature: float = 1.0
    """Divide the logits by this number: the notes are more predictable below 1, more varied above
    1.
    """
    bars: Annotated[int, within(least=1, most=MOST_BARS)] = 16
    """Length of the chorale in bars of four quarter notes."""
    seed: Natural = 0
    """Seed of the random draws of notes."""

    def run(self) -> None:
        from rhn.checkpoints import load
        from rhn.training.sampling import sample_chorale, write_chorale

        model = load(self.checkpoint, self.cell)
        if self.output is None:
            raise InvalidInputError("--output FILE is missing: the .mid file to write")
        check_output(self.output, (".mid",))
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
        from rhn.checkpoints import read
        from rhn.training.sampling import generate
        from rhn.training.trained import text_of

        checkpoint = read(self.checkpoint)
        _, vocabulary = text_of(checkpoint)
        model = checkpoint.model(self.cell)
        names = ("prompt", "length", "temperature", "seed", "top_k")
        how = {name: getattr(self, name) for name in names}
        print(printable(generate(model, vocabulary, **how)))

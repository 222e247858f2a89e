"""`rhn evaluate`, `rhn sample` and `rhn generate`: measure a trained model on a split, or let it
write a chorale or a text.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cyclopts.types import NonNegativeInt, PositiveInt

from rhn.cli.entry import print_json, resolve_device
from rhn.errors import InvalidInputError
from rhn.utils.progress import progress_bars
from rhn.utils.tables import printable


@dataclass(frozen=True, kw_only=True)
class TrainedOptions:
    """The options of every command that reads a trained network."""

    checkpoint: Path = field(kw_only=False)
    """The folder of a training run, or the file best.safetensors of a training run or a study."""
    cell: str | None = None
    """The cell of the checkpoint, if it is your own, as package.module:factory."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(TrainedOptions):
    """Measure how well a trained model predicts. The result is the perplexity of words, bits per
    character, or nats per frame of a chorale.

    The mean is over every token except the first, or every frame except the first of each chorale.
    """

    split: Literal["train", "valid", "test"] = "test"
    """Split of the data to evaluate on."""
    data: Path | None = None
    """Path of the data. Default: the path that the training run used."""
    max_tokens: PositiveInt | None = None
    """For texts: use only the first N tokens of the split. Default: all."""
    batch_size: PositiveInt | None = None
    """For texts: cut the text into N pieces that are read in parallel, each from a zero state. More
    pieces are faster than one, but the loss is slightly higher. Default: 1.
    """
    mc: PositiveInt | None = None
    """For texts: Monte Carlo dropout. Average the probabilities of N samples with dropout, with new
    masks for each window (Gal and Ghahramani 2016). Default: no dropout.
    """
    seed: NonNegativeInt = 0
    """For texts: seed of the dropout masks of --mc."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on; auto uses a GPU if there is one."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> None:
        from rhn.checkpoints import load_model
        from rhn.models import LanguageModel

        model = load_model(self.checkpoint, self.cell)
        text = isinstance(model, LanguageModel)
        row = self._text() if text else self._chorales(model)
        if self.json:
            print_json(row)
        else:
            shown = {n: f"{v:.6g}" if isinstance(v, float) else v for n, v in row.items()}
            print(*(f"{name} {value}" for name, value in shown.items()), sep=", ")

    def _chorales(self, model: Any) -> dict:
        from rhn.training.evaluation import evaluate
        from rhn.training.trained import corpus_of

        for name in ("max_tokens", "batch_size", "mc"):
            if (value := getattr(self, name)) is not None:
                raise InvalidInputError(f"{name} is {value}: expected none for chorales")
        corpus = corpus_of(self.checkpoint, self.data)
        found = evaluate(model, corpus, self.split, device=resolve_device(self.device))
        return {"nll": found.nll, "split": self.split, "frames": found.predicted}

    def _text(self) -> dict:
        from rhn.training.evaluation import measure, measure_name, score
        from rhn.training.monte_carlo import monte_carlo_score
        from rhn.training.trained import load_text_model

        if self.mc and self.batch_size:
            raise InvalidInputError(f"batch_size is {self.batch_size}: expected none with mc")
        trained = load_text_model(self.checkpoint, self.cell)
        text = getattr(trained.corpus(self.data), self.split)[: self.max_tokens]
        device, used = resolve_device(self.device), {} if self.mc is None else {"samples": self.mc}
        with progress_bars() as report:
            how: dict[str, Any] = {"device": device, "progress": report(self.split)}
            if self.mc is None:
                found = score(trained.model, text, batch_size=self.batch_size or 1, **how)
            else:
                how |= {**used, "window": trained.config.window, "seed": self.seed}
                found = monte_carlo_score(trained.model, text, trained.config.dropout, **how)
        name = measure_name(trained.vocabulary)
        losses = {"nll": found.nll, name: measure(found.nll, name)}
        return losses | {"split": self.split, "tokens": found.predicted} | used


@dataclass(frozen=True, kw_only=True)
class Sample(TrainedOptions):
    """Let a trained model compose a chorale, and write it to a file."""

    output: Path
    """The file to write."""
    temperature: float = 1.0
    """Divide the logits by this number: the notes are more predictable below 1, more varied above
    1.
    """
    bars: PositiveInt = 16
    """Length of the chorale in bars of four quarter notes."""
    seed: NonNegativeInt = 0
    """Seed of the random draws of notes."""

    def run(self) -> None:
        from rhn.checkpoints import load_model
        from rhn.models import PolyphonicModel
        from rhn.training.sampling import sample_chorale, write_chorale

        model = load_model(self.checkpoint, self.cell, PolyphonicModel)
        frames = sample_chorale(model, bars=self.bars, temperature=self.temperature, seed=self.seed)
        print(f"chorale: {write_chorale(frames, self.output)}")


@dataclass(frozen=True, kw_only=True)
class Generate(TrainedOptions):
    """Let a trained language model write a text, and print it."""

    prompt: str = ""
    """The text that the model continues. Default: none."""
    length: PositiveInt = 200
    """Number of words or characters to write."""
    temperature: float = 1.0
    """Divide the logits by this number: the text is more predictable below 1, more varied above
    1.
    """
    top_k: PositiveInt | None = None
    """Draw only from the N most probable words or characters. Default: draw from all."""
    seed: NonNegativeInt = 0
    """Seed of the random draws of words or characters."""

    def run(self) -> None:
        from rhn.training.sampling import generate
        from rhn.training.trained import load_text_model

        trained = load_text_model(self.checkpoint, self.cell)
        names = ("prompt", "length", "temperature", "seed", "top_k")
        how = {name: getattr(self, name) for name in names}
        print(printable(generate(trained.model, trained.vocabulary, **how)))

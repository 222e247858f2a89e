"""`rhn evaluate`, `rhn sample` and `rhn generate`: measure a trained model on a split, or let it
write a chorale or a text.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rhn.cli.entry import print_json, resolve_device
from rhn.errors import InvalidInputError
from rhn.utils.command_line import Count, Device, Natural
from rhn.utils.io import check_output
from rhn.utils.progress import progress_bars
from rhn.utils.tables import printable

if TYPE_CHECKING:
    from rhn.checkpoints import Checkpoint


@dataclass(frozen=True, kw_only=True)
class TrainedOptions:
    """The options of every command that reads a trained network."""

    checkpoint: Path = field(kw_only=False)
    """The folder of a training run, or the file best.safetensors of a training run or a study."""
    cell: str | None = None
    """The cell of the checkpoint, if it is your own, as package.module:factory."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(TrainedOptions):
    """Measure how well a trained model predicts: nats per frame of a chorale, or nats per token and
    the perplexity of words or the bits per character.

    The mean is over every token except the first, or every frame except the first of each chorale.
    """

    split: Literal["train", "valid", "test"] = "test"
    """Split of the data to evaluate on."""
    data: Path | None = None
    """Path of the data. Default: the path that the training run used."""
    max_tokens: Count | None = None
    """For texts: use only the first N tokens of the split."""
    batch_size: Count | None = None
    """For texts: cut the text into N pieces that are read in parallel, each from a zero state."""
    mc: Count | None = None
    """For texts: average the probabilities of N samples with dropout (Monte Carlo dropout)."""
    seed: Natural = 0
    """For texts: seed of the dropout masks of --mc."""
    device: Device = "auto"
    """Device to compute on; auto uses a GPU if there is one."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> None:
        from rhn.checkpoints import read
        from rhn.training.trained import corpus_of

        checkpoint = read(self.checkpoint)
        corpus = corpus_of(checkpoint, self.data)
        with progress_bars() as report:
            how = {"device": resolve_device(self.device), "progress": report(self.split)}
            row = self._measured(checkpoint, getattr(corpus, self.split), how)
        if self.json:
            print_json(row)
        else:
            shown = {n: f"{v:.6g}" if isinstance(v, float) else v for n, v in row.items()}
            print(*(f"{name} {value}" for name, value in shown.items()), sep=", ")

    def _measured(self, checkpoint: "Checkpoint", data: Any, how: dict[str, Any]) -> dict:
        from rhn.training import evaluation
        from rhn.training.monte_carlo import monte_carlo_score
        from rhn.training.trained import text_of

        model, used = checkpoint.model(self.cell), {} if self.mc is None else {"samples": self.mc}
        if checkpoint.header["class"] != "LanguageModel":
            for name in ("max_tokens", "batch_size", "mc"):
                if (value := getattr(self, name)) is not None:
                    raise InvalidInputError(f"{name} is {value}: expected none for chorales")
            found = evaluation.evaluate_chorales(model, data, device=how["device"])
            return {"nll": found.nll, "split": self.split, "frames": found.predicted}
        if self.mc and self.batch_size:
            raise InvalidInputError(f"batch_size is {self.batch_size}: expected none with mc")
        (config, vocabulary), data = text_of(checkpoint), data[: self.max_tokens]
        if self.mc is None:
            found = evaluation.score(model, data, batch_size=self.batch_size or 1, **how)
        else:
            how |= {**used, "window": config.window, "seed": self.seed}
            found = monte_carlo_score(model, data, config.dropout, **how)
        name = evaluation.measure_name(vocabulary)
        losses = {"nll": found.nll, name: evaluation.measure(found.nll, name)}
        return losses | {"split": self.split, "tokens": found.predicted} | used


@dataclass(frozen=True, kw_only=True)
class Sample(TrainedOptions):
    """Let a trained model compose a chorale, and write it to a file."""

    output: Path
    """The file to write (.mid)."""
    temperature: float = 1.0
    """Divide the logits by this number: below 1 notes are more predictable, above more varied."""
    bars: Count = 16
    """Length of the chorale in bars of four quarter notes."""
    seed: Natural = 0
    """Seed of the random draws of notes."""

    def run(self) -> None:
        from rhn.checkpoints import load
        from rhn.training.sampling import sample_chorale, write_chorale

        check_output(self.output, (".mid",))  # before the work
        model = load(self.checkpoint, self.cell)
        frames = sample_chorale(model, bars=self.bars, temperature=self.temperature, seed=self.seed)
        print(f"chorale: {write_chorale(frames, self.output)}")


@dataclass(frozen=True, kw_only=True)
class Generate(TrainedOptions):
    """Let a trained language model write a text, and print it."""

    prompt: str = ""
    """The text that the model continues. Default: none."""
    length: Count = 200
    """Number of words or characters to write."""
    temperature: float = 1.0
    """Divide the logits by this number: below 1 the text is more predictable, above more varied."""
    top_k: Count | None = None
    """Draw only from the N most probable words or characters. Default: draw from all."""
    seed: Natural = 0
    """Seed of the random draws of words or characters."""

    def run(self) -> None:
        from rhn.checkpoints import read
        from rhn.training.sampling import generate
        from rhn.training.trained import text_of

        checkpoint = read(self.checkpoint)
        vocabulary = text_of(checkpoint)[1]
        names = ("prompt", "length", "temperature", "seed", "top_k")
        how = {name: getattr(self, name) for name in names}
        print(printable(generate(checkpoint.model(self.cell), vocabulary, **how)))

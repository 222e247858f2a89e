"""`rhn evaluate`, `rhn sample` and `rhn generate`: use a trained model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rhn.cli.entry import print_json
from rhn.errors import InvalidInputError
from rhn.utils.command_line import Device, command_class
from rhn.utils.io import check_output
from rhn.utils.resources import resolve_device
from rhn.utils.tables import printable
from rhn.utils.validation import Count, Natural, Positive


@dataclass(frozen=True, kw_only=True)
class TrainedOptions:
    """The options of every command that uses a trained network."""

    checkpoint: Path = field(kw_only=False)
    """The folder of a training run, or the file best.safetensors of a training run or a study."""
    cell: str | None = None
    """The cell of the checkpoint, if it is your own, as package.module:factory."""
    seed: Natural = 0
    """Seed of the random draws (of --mc: of the dropout masks)."""


@command_class
class Evaluate(TrainedOptions):
    """Measure how well a trained model predicts: nats per frame of a chorale, or nats per token and
    the perplexity of words or the bits per character.

    The first frame of a chorale and the first token of a text, or of each of its pieces, have no
    loss.
    """

    split: Literal["train", "valid", "test"] = "test"
    """Split of the data to evaluate on."""
    data: Path | None = None
    """Path of the data. Default: the path that the training run used."""
    max_tokens: Count | None = None
    """For texts: use only the first N tokens of the split."""
    batch_size: Count | None = None
    """For texts: cut the text into N pieces that are read in parallel, each from a zero state."""
    temperature: Positive | None = None
    """For texts: divide the logits by this number."""
    mc: Count | None = None
    """For texts: average the probabilities of N samples with dropout (Monte Carlo dropout)."""
    device: Device = "auto"
    """Device to compute on; auto uses a GPU if there is one."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> None:
        from rhn.checkpoints import read
        from rhn.training.evaluation import evaluate_chorales
        from rhn.training.stored import corpus_of

        checkpoint = read(self.checkpoint)
        how: dict[str, Any] = {"device": resolve_device(self.device)}
        data = getattr(corpus_of(checkpoint, self.data), self.split)
        model = checkpoint.model(self.cell)
        if checkpoint.header["class"] == "LanguageModel":
            row = self._of_text(checkpoint, model, data[: self.max_tokens], how)
        else:
            for name, value in self._given("max_tokens", "batch_size", "temperature", "mc"):
                raise InvalidInputError(f"{name} is {value}: expected none for chorales")
            found = evaluate_chorales(model, data, **how)
            row = {"nll": found.nll, "split": self.split, "frames": found.predicted}
        if self.json:
            print_json(row)
        else:
            shown = {n: f"{v:.6g}" if isinstance(v, float) else v for n, v in row.items()}
            print(*(f"{name} {value}" for name, value in shown.items()), sep=", ")

    def _of_text(self, checkpoint: Any, model: Any, data: Any, how: dict) -> dict:
        from rhn.training.evaluation import measure, measure_name, score
        from rhn.training.monte_carlo import monte_carlo_score
        from rhn.training.stored import text_of

        config, vocabulary = text_of(checkpoint)
        measured: Any = score
        used = dict(self._given("batch_size", "temperature"))
        if self.mc is not None:
            for name, value in used.items():
                raise InvalidInputError(f"{name} is {value}: expected none with mc")
            measured, used = monte_carlo_score, {"samples": self.mc}
            how |= {"dropout": config.dropout, "window": config.window, "seed": self.seed}
        found = measured(model, data, **used, **how)
        name = measure_name(vocabulary)
        losses = {"nll": found.nll, name: measure(found.nll, name)}
        return losses | {"split": self.split, "tokens": found.predicted} | used

    def _given(self, *names: str) -> list[tuple[str, Any]]:
        return [(name, value) for name in names if (value := getattr(self, name)) is not None]


@command_class
class Sample(TrainedOptions):
    """Let a trained model compose a chorale, and write it to a file."""

    output: Path
    """The file to write (.mid)."""
    temperature: Positive = 1.0
    """Divide the logits by this number: below 1 notes are more predictable, above more varied."""
    length: Count = 16
    """Length of the chorale in bars of four quarter notes."""

    def run(self) -> None:
        from rhn.checkpoints import load
        from rhn.training.sampling import sample_chorale, write_chorale

        check_output(self.output, (".mid",))  # before the work
        model = load(self.checkpoint, self.cell)
        frames = sample_chorale(
            model, bars=self.length, temperature=self.temperature, seed=self.seed
        )
        print(f"chorale: {write_chorale(frames, self.output)}")


@command_class
class Generate(TrainedOptions):
    """Let a trained language model write a text, and print it."""

    prompt: str = ""
    """The text that the model continues. Default: none."""
    length: Count = 200
    """Number of words or characters to write."""
    temperature: Positive = 1.0
    """Divide the logits by this number: below 1 the text is more predictable, above more varied."""
    top_k: Count | None = None
    """Draw only from the N most probable words or characters. Default: draw from all."""

    def run(self) -> None:
        from rhn.checkpoints import read
        from rhn.training.sampling import generate
        from rhn.training.stored import text_of

        checkpoint = read(self.checkpoint)
        names = ("prompt", "length", "temperature", "seed", "top_k")
        how = {name: getattr(self, name) for name in names}
        text = generate(checkpoint.model(self.cell), text_of(checkpoint)[1], **how)
        print(printable(text))

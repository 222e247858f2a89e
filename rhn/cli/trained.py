"""`rhn evaluate`, `rhn sample` and `rhn generate`: use a trained model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from rhn.cli.entry import print_json
from rhn.errors import InvalidInputError
from rhn.utils.command_line import Device, command_class
from rhn.utils.io import check_output
from rhn.utils.resources import resolve_device
from rhn.utils.seed_folders import each_seed, seed_of
from rhn.utils.tables import printable
from rhn.utils.validation import Count, Natural, Positive


@dataclass(frozen=True, kw_only=True)
class TrainedOptions:
    """The options of every command that uses a trained network."""

    checkpoint: Path = field(kw_only=False)
    """The folder of a training run, or the file best.safetensors of a training run or a study."""
    cell: str | None = None
    """The cell of the checkpoint, if it is your own, as package.module:factory."""
    seed: Natural | None = None
    """Of a folder with several seeds: the one to read. Else the seed of the random draws, of --mc
    of the dropout masks (default: 0).
    """

    def one(self) -> Any:
        """Return the command for the only trained network of its folder. Raises CheckpointError if
        there are several, and none is chosen.
        """
        every = [*each_seed(self, self.checkpoint)]
        return every[0] if len(every) == 1 else self

    def of_seed(self, name: str) -> Self:
        """Return the command for one of several seeds; these commands write no files of each."""
        return self


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
        rows = []
        for one in each_seed(self, self.checkpoint):
            seed = {} if one.checkpoint == self.checkpoint else {"seed": seed_of(one.checkpoint)}
            rows.append(seed | one.row())
        if self.json:
            print_json(rows[0] if len(rows) == 1 else {"seeds": rows})
            return
        for row in rows:
            shown = {n: f"{v:.6g}" if isinstance(v, float) else v for n, v in row.items()}
            print(*(f"{name} {value}" for name, value in shown.items()), sep=", ")

    def row(self) -> dict[str, Any]:
        """Return the losses of one trained network."""
        from rhn.checkpoints import read
        from rhn.training.evaluation import evaluate_chorales
        from rhn.training.stored import corpus_of

        checkpoint = read(self.checkpoint)
        how: dict[str, Any] = {"device": resolve_device(self.device)}
        data = getattr(corpus_of(checkpoint, self.data), self.split)
        model = checkpoint.model(self.cell)
        if checkpoint.header["class"] == "LanguageModel":
            return self._of_text(checkpoint, model, data[: self.max_tokens], how)
        for name, value in self._given("max_tokens", "batch_size", "temperature", "mc"):
            raise InvalidInputError(f"{name} is {value}: expected none for chorales")
        found = evaluate_chorales(model, data, **how)
        return {"nll": found.nll, "split": self.split, "frames": found.predicted}

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
            how |= {"dropout": config.dropout, "window": config.window}
            how |= {"seed": self.seed or 0}
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
        one = self.one()
        how: dict = {"bars": self.length, "temperature": self.temperature, "seed": one.seed or 0}
        frames = sample_chorale(load(one.checkpoint, self.cell), **how)
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

        one = self.one()
        checkpoint = read(one.checkpoint)
        names = ("prompt", "length", "temperature", "top_k")
        how = {name: getattr(self, name) for name in names} | {"seed": one.seed or 0}
        text = generate(checkpoint.model(self.cell), text_of(checkpoint)[1], **how)
        print(printable(text))

"""`rhn`: train a model on the chorales, evaluate it, let it compose."""

import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rhn.command import parse, print_json, resolve_device, run_command
from rhn.errors import InvalidInputError
from rhn.presets import PRESETS, TrainConfig, preset

DESCRIPTION = """Train recurrent models of chorales, evaluate them, and let them compose.

examples:
  rhn train jsb-depth-6 --out runs/depth6
  rhn evaluate runs/depth6/best.safetensors --split test
  rhn sample runs/depth6/best.safetensors --output chorale.mid"""

Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
Number = Annotated[float | None, tyro.conf.arg(metavar="X")]
Whole = Annotated[int | None, tyro.conf.arg(metavar="N")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
Checkpoint = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="CHECKPOINT")]]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model; killed at any moment, the same command goes on.

    What is not given is the preset's.
    """

    preset: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="PRESET")]]
    """jsb-depth-L; `rhn presets` lists them."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder of the run: config.json, metrics.jsonl, best.safetensors, state.safetensors."""
    data: File = None
    """The original chorales (.json, .pickle, .mat) instead of those rebuilt from music21's scores."""
    device: Device = "auto"
    """Where to train."""
    json: bool = False
    """Print the result as one JSON object."""
    cell: Name = None
    """rnn, irnn, dt-rnn, dts-rnn, rhn, lstm, gru, or your own as package.module:factory."""
    depth: Whole = None
    """Recurrence depth, layers within a step."""
    hidden_size: Whole = None
    """Hidden units."""
    learning_rate: Number = None
    """Step size of SGD, for a loss in nats a frame."""
    init_std: Number = None
    """Standard deviation of the Gaussian initial weights."""
    transform_bias: Number = None
    """Initial bias of the transform gates."""
    momentum: Number = None
    """Momentum of SGD."""
    batch_size: Whole = None
    """Chorales a batch."""
    epochs: Whole = None
    """At most so many epochs."""
    patience: Whole = None
    """Stop after so many epochs without a better loss."""
    objective: Literal["train", "valid"] | None = None
    """Whose loss decides which weights are best."""
    seed: Whole = None
    """Seed of the initial weights and of the order of batches."""

    def run(self) -> None:
        config = self._config()
        device, corpus = resolve_device(self.device), _corpus(self.data)
        from rhn.training import keep_memory, train
        from rhn.training.progress import epoch_progress

        keep_memory()
        with epoch_progress(config.epochs, config.objective) as show:
            result = train(config, corpus, self.out, device=device, on_epoch=show)
        if self.json:
            print_json(asdict(result))
            return
        stopped = "diverged" if result.diverged else "done"
        print(f"{stopped} after {result.epochs} epochs; the best is epoch {result.best_epoch}, in nats a frame:")
        print(f"train {result.train_nll:.4f}   valid {result.valid_nll:.4f}   test {result.test_nll:.4f}")
        print(f"checkpoint: {result.checkpoint}")

    def _config(self) -> TrainConfig:
        given = {f.name: getattr(self, f.name) for f in fields(TrainConfig) if getattr(self, f.name) is not None}
        return replace(preset(self.preset, given.get("cell", "rhn")), **given)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Negative log-likelihood of a split in nats a frame, over the frames that are predicted: all but the first of each chorale."""

    checkpoint: Checkpoint
    """best.safetensors of a run or of a study."""
    split: Literal["train", "valid", "test"] = "test"
    """Which chorales."""
    data: File = None
    """The original chorales (.json, .pickle, .mat) instead of those rebuilt from music21's scores."""
    cell: Name = None
    """The cell of a checkpoint with a cell of your own, as package.module:factory."""
    device: Device = "auto"
    """Where to compute."""
    json: bool = False
    """Print one JSON object: nll, split, frames."""

    def run(self) -> None:
        model, device = _model(self.checkpoint, self.cell), resolve_device(self.device)
        from rhn.training import evaluate

        found = evaluate(model, getattr(_corpus(self.data), self.split), device=device)
        if self.json:
            print_json({"nll": found.nll, "split": self.split, "frames": found.frames})
        else:
            print(f"{self.split}: {found.nll:.4f} nats a frame over {found.frames} predicted frames")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Write a chorale that a trained model makes up."""

    checkpoint: Checkpoint
    """best.safetensors of a run or of a study."""
    output: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """What to write, .mid or .musicxml."""
    temperature: Annotated[float, tyro.conf.arg(metavar="X")] = 1.0
    """Below 1 more predictable, above 1 wilder."""
    bars: Annotated[int, tyro.conf.arg(metavar="N")] = 16
    """Length in bars of four quarter notes."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of the notes."""
    cell: Name = None
    """The cell of a checkpoint with a cell of your own, as package.module:factory."""

    def run(self) -> None:
        from rhn.sampling import check_output, sample_chorale, write_chorale

        check_output(self.output)
        model = _model(self.checkpoint, self.cell)
        frames = sample_chorale(model, bars=self.bars, temperature=self.temperature, seed=self.seed)
        print(f"chorale: {write_chorale(frames, self.output)}")


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the presets."""

    json: bool = False
    """Print one JSON object: configurations by name."""

    def run(self) -> None:
        found = {name: asdict(preset(name)) for name in PRESETS}
        if self.json:
            print_json(found)
            return
        columns = ("cell", "depth", "hidden_size", "learning_rate", "init_std", "transform_bias", "epochs", "patience")
        print(f"{'preset':<14}" + "".join(f"{name:>16}" for name in columns))
        for name, config in found.items():
            print(f"{name:<14}" + "".join(f"{config[column]:>16}" for column in columns))


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Presets, tyro.conf.subcommand("presets")]
)


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: parse(Command, args, prog="rhn", description=DESCRIPTION).run())


def _corpus(data: Path | None):
    from rhn.data import chorales

    return chorales(data)


def _model(checkpoint: Path, cell: str | None):
    from rhn.checkpoints import load_checkpoint
    from rhn.models import PolyphonicModel, with_cell

    model = load_checkpoint(checkpoint, factory=with_cell(cell) if cell else None)
    if not isinstance(model, PolyphonicModel):
        raise InvalidInputError(
            f"{checkpoint} holds a {type(model).__name__} alone, expected a model made by rhn train"
        )
    return model


if __name__ == "__main__":
    sys.exit(main())

"""`rhn-analyze`: when the transform gates of a trained network open, and how much it needs each layer."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rhn.command import parse, print_json, progress_bars, resolve_device, run_command
from rhn.errors import InvalidInputError, OutputError
from rhn.files import atomic_path, check_writable

DESCRIPTION = """What trained networks do: the activity of their transform gates, and the damage of lesions.

examples:
  rhn-analyze gates runs/depth6/best.safetensors --chorales 0 5 bwv269
  rhn-analyze lesion runs/depth6/best.safetensors
  rhn-analyze lesion runs/depth6/best.safetensors --mode mean --pairs --save-data lesions.csv"""

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
SHOWN = 4  # sequences where none are named, as in the paper
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
Checkpoint = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="CHECKPOINT")]]
Chorales = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")]


@dataclass(frozen=True, kw_only=True)
class Common:
    """What both commands ask for."""

    checkpoint: Checkpoint
    """best.safetensors of a run or of a study."""
    data: File = None
    """The original chorales (.json, .pickle, .mat) instead of those rebuilt from music21's scores."""
    cell: Name = None
    """The cell of a checkpoint with a cell of your own, as package.module:factory."""
    output: File = None
    """Figure to write, .png, .svg or .pdf (default: a telling name in the current folder)."""
    save_data: File = None
    """Also write the numbers, .csv or .npz."""
    json: bool = False
    """Print one JSON object instead of the table."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""


@dataclass(frozen=True, kw_only=True)
class Gates(Common):
    """Transform gates over time: layers x time, white 0 to red 1, a panel a chorale (figure 5b of the paper)."""

    chorales: Chorales = ()
    """By place in the split (0 5) or by name (bwv269, valid-3); default: the first four of the split."""
    split: Literal["train", "valid", "test"] = "test"
    """Which chorales."""

    def run(self) -> None:
        figure, data = _outputs(self, "gates")
        model, device = _model(self.checkpoint, self.cell), resolve_device(self.device)
        pieces = _pieces(self.data, self.split, self.chorales)[: None if self.chorales else SHOWN]
        from analysis.gates import gate_activity
        from analysis.tables import gates_table

        with progress_bars() as report:
            record = gate_activity(model, pieces, device=device, progress=report("gates"))
        _draw(lambda plots: plots.draw_gates(record, title=f"{self.checkpoint.stem}: {_about(model)}"), figure)
        if data:
            record.save(data)
        if self.json:
            print_json(record.summary())
        else:
            print(gates_table(record), f"figure: {figure}", sep="\n")


@dataclass(frozen=True, kw_only=True)
class LesionCommand(Common):
    """The loss without each layer in turn, all lesioned networks as one batch (figure 6 of the paper).

    Only the first layer sees the input, so lesioning it also blinds the network: the control "blind" (input removed, layer kept) is
    always measured, and the first layer's damage beyond it reported.
    """

    mode: Name = None
    """bias (gates shut, the paper's), carry (layer skipped exactly), mean (gates fixed at their means), open (gates forced open), blind
    (input removed), skip (shortcuts of a DT(S)-RNN removed). Default: bias, or carry for cells without gates."""
    chorales: Chorales = ()
    """Only these: by place in the split (0 5) or by name (bwv269, valid-3)."""
    split: Literal["train", "valid", "test"] = "train"
    """Which chorales."""
    pairs: bool = False
    """Also every two layers together."""
    units: bool = False
    """Also every single unit: as many networks as there are units."""
    seed: int = 0
    """Seed of the bootstrap that draws the intervals."""

    def run(self) -> None:
        figure, data = _outputs(self, "lesion")
        if self.seed < 0:
            raise InvalidInputError(f"--seed must be 0 or more, got {self.seed}")
        model, device = _model(self.checkpoint, self.cell), resolve_device(self.device)
        from analysis.surgery import check_mode

        mode = check_mode(model, self.mode)
        pieces = _pieces(self.data, self.split, self.chorales)
        from analysis.lesions import lesion
        from analysis.tables import lesion_table

        with progress_bars() as report:
            table = lesion(
                *(model, pieces, mode),
                pairs=self.pairs,
                units=self.units,
                split=self.split,
                seed=self.seed,
                device=device,
                progress=report("lesions"),
            )
        _draw(lambda plots: plots.draw_lesions(table, title=f"{self.checkpoint.stem}: {_about(model)}"), figure)
        if data:
            table.save(data)
        if self.json:
            print_json(table.summary())
        else:
            print(lesion_table(table), f"figure: {figure}", sep="\n")


Command = Annotated[Gates, tyro.conf.subcommand("gates")] | Annotated[LesionCommand, tyro.conf.subcommand("lesion")]


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: parse(Command, args, prog="rhn-analyze", description=DESCRIPTION).run())


def _outputs(options: Common, what: str) -> tuple[Path, Path | None]:
    """Paths of the figure and of the numbers, seen to be writable before any work."""
    figure, data = options.output, options.save_data
    if figure is None:
        words = [what, options.checkpoint.stem, getattr(options, "mode", None), options.split, *options.chorales[:4]]
        figure = Path(re.sub(r"[^\w.-]+", "-", "-".join(word.lower() for word in words if word)) + ".png")
    if figure.suffix.lower() not in FIGURE_SUFFIXES:
        raise OutputError(f"cannot draw {figure}: expected a name ending in {', '.join(FIGURE_SUFFIXES)}")
    if data is not None and data.suffix.lower() not in (".csv", ".npz"):
        raise OutputError(f"cannot save {data}: expected a name ending in .csv or .npz")
    for path in filter(None, (figure, data)):
        check_writable(path)
    return figure, data


def _model(checkpoint: Path, cell: str | None):
    """The network of a checkpoint, a cell alone included; refused where its inputs are not a chorale's keys."""
    from rhn.checkpoints import load_checkpoint
    from rhn.data.corpus import KEYS
    from rhn.models import with_cell
    from rhn.training.numerics import keep_memory

    keep_memory()
    model = load_checkpoint(checkpoint, factory=with_cell(cell) if cell else None)
    sizes = {name: getattr(model, name, KEYS) for name in ("input_size", "output_size")}
    if set(sizes.values()) != {KEYS}:
        words = " and ".join(f"{value} {name.split('_')[0]}s" for name, value in sizes.items() if value != KEYS)
        raise InvalidInputError(f"{checkpoint} holds a network of {words}, expected {KEYS}: the keys of a chorale")
    return model


def _pieces(data: Path | None, split: str, names: tuple[str, ...]) -> list:
    from analysis.sequences import chosen
    from rhn.data import chorales

    corpus = chorales(data)
    pieces = chosen(corpus, split, names) if names else getattr(corpus, split)
    if not pieces:
        raise InvalidInputError(f"{corpus.source} has no chorales in the split {split!r}")
    return pieces


def _about(model) -> str:
    """What a figure calls the network: "RHN, depth 6, 262 units"."""
    from analysis.layers import places

    cells = list({place.name: place.cell for place in places(model)}.values())
    words = [
        type(cells[0]).__name__,
        *[f"{len(cells)} cells"] * (len(cells) > 1),
        *[f"depth {cells[0].depth}"] * cells[0].deep,
    ]
    return ", ".join([*words, f"{cells[0].hidden_size} units"])


def _draw(draw: Callable, path: Path) -> None:
    import matplotlib

    from analysis import plots

    with matplotlib.rc_context(plots.STYLE), atomic_path(path) as temporary:
        draw(plots).savefig(temporary)


if __name__ == "__main__":
    sys.exit(main())

"""The files of `--output`: a figure, numbers and an animation, told apart by their suffixes and checked before the work begins."""

import sys
from dataclasses import dataclass
from pathlib import Path

from rhn.cli.entry import print_json
from rhn.errors import InvalidInputError
from rhn.utils.figures import SUFFIXES, save_figure
from rhn.utils.io import check_output

NUMBERS, ANIMATIONS = (".npz", ".json"), (".gif",)


@dataclass(frozen=True)
class Outputs:
    """Paths that can be written."""

    figure: Path
    numbers: tuple[Path, ...] = ()
    animation: Path | None = None

    @classmethod
    def of(cls, options, default: str, *, animated: bool = False) -> "Outputs":
        """The files that the options name, and a default figure; raises InvalidInputError or OutputError."""
        kinds = (*SUFFIXES, *NUMBERS, *(ANIMATIONS if animated else ()))
        for path in options.output:
            check_output(path, kinds, force=options.force)
        figures, numbers, animations = (
            [path for path in options.output if path.suffix.lower() in kind] for kind in (SUFFIXES, NUMBERS, ANIMATIONS)
        )
        if len(figures) > 1 or len(animations) > 1:
            raise InvalidInputError(
                f"--output names {len(figures)} figures: expected one, with numbers or an animation beside it"
            )
        figure = figures[0] if figures else Path(default)
        check_output(figure, SUFFIXES, force=options.force)
        return cls(figure, tuple(numbers), animations[0] if animations else None)

    def write(self, result, report, *, draw=None, film=None) -> None:
        """Draw the figure, save the numbers, and animate.

        report: of `progress_bars`. draw: the figure of a result, if not its plot; film: its `Film`.
        """
        save_figure(self.figure, lambda: draw(result) if draw else result.plot().figure.figure)
        for path in self.numbers:
            result.save(path)
        if self.animation:
            film(result).save(self.animation, progress=report("animation"))
            print(f"animation: {self.animation}", file=sys.stderr)

    def show(self, options, text: str, values: dict) -> None:
        """Print a result and the name of its figure, as text or as one JSON object."""
        if options.json:
            print_json(values | {"figure": str(self.figure)})
        else:
            print(text, f"figure: {self.figure}", sep="\n")

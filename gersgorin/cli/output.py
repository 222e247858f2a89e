"""The files of `--output`: a figure, numbers and an animation, told apart by their suffixes and checked before the work begins."""

from dataclasses import dataclass
from pathlib import Path

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

    def write(self, result) -> None:
        """Draw the figure and save the numbers."""
        save_figure(self.figure, lambda: result.plot().figure.figure)
        self.write_numbers(result)

    def write_numbers(self, result) -> None:
        """Save the numbers."""
        for path in self.numbers:
            result.save(path)

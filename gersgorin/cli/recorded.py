"""`gersgorin recording`: draw and print the recording of a training run."""

from dataclasses import dataclass, field
from pathlib import Path

from gersgorin.cli.options import ResultOptions
from gersgorin.cli.outputs import show_result
from rhn.cli.entry import run_command
from rhn.errors import InvalidInputError
from rhn.utils.figures import figure_name
from rhn.utils.old import Outputs, place, run_read, single

FILE = "record.npz"  # of a training run with `rhn train --record N`, in its folder


@dataclass(frozen=True, kw_only=True)
class RecordingOptions(ResultOptions):
    """Draw the spectra, gains, gates and gradients that `rhn train --record N` or
    gersgorin.Recorder recorded during a training run.

    examples:
      gersgorin recording runs/depth6
      gersgorin recording run.npz --output training.pdf training.npz
    """

    path: Path = field(kw_only=False)
    """The file of the recording, or the folder of the training run."""


def main(args: list[str] | None = None, prog: str = "gersgorin recording") -> int:
    """Run the command; returns its exit code. prog: the command as the user typed it."""
    return run_command(lambda: run_read(single(prog, RecordingOptions), args, run))


def run(options: RecordingOptions) -> None:
    """Check the files, load the recording, and print, draw and write it."""
    path = options.path / FILE if options.path.is_dir() else options.path
    if path != options.path and not path.exists():
        raise InvalidInputError(
            f"the folder {options.path} holds no {FILE}: expected the folder of "
            "rhn train --record N"
        )
    outputs = Outputs.of(options, figure_of_recording(options.path))

    from gersgorin.recording import Recording, known_panels

    recording = Recording.load(path)
    known_panels(recording)  # refused before anything is printed
    show_result(outputs, options, recording)


def figure_of_recording(path: Path) -> Path:
    """The file name of the figure of a recording: it contains the name of the recording's file, or
    that of the folder of the training run.

    >>> print(figure_of_recording(Path("runs/depth6")), figure_of_recording(Path("run.npz")))
    gersgorin-depth6.png gersgorin-run.png
    """
    training = path.parent if path.name == FILE and path.parent.name else path
    return figure_name("gersgorin", training.name.removesuffix(".npz"), place(training))

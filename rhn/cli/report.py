"""`rhn report`: draw the losses of training runs over epochs."""

from dataclasses import field
from pathlib import Path

from rhn.utils.command_line import command_class
from rhn.utils.figures import FIGURE_SUFFIXES, inches_of, save_figure
from rhn.utils.io import check_output, write_rows
from rhn.utils.tables import aligned, formatted


@command_class
class Report:
    """Draw the training and validation losses over epochs for all seeds in one figure."""

    runs: tuple[Path, ...] = field(kw_only=False)
    """Folders of training runs."""
    output: tuple[Path, ...] = (Path("curves.png"),)
    """Files to write: a figure (.png, .svg, .pdf) and its numbers (.csv)."""
    figure: str = "page"
    """Width of the figure: column, page, slide, or inches."""

    def run(self) -> None:
        from rhn.training.curves import CURVE_COLUMNS, draw_curves, read_curves

        inches_of(self.figure)
        for path in self.output:
            check_output(path, (*FIGURE_SUFFIXES, ".csv"))
        curves = [each for run in self.runs for each in read_curves(run)]
        best = [c.rows()[c.place] for c in curves]
        shown = [(name, measure, *map(formatted, numbers)) for name, measure, *numbers in best]
        print(*aligned([CURVE_COLUMNS, *shown]), sep="\n")
        for path in self.output:
            if path.suffix.lower() == ".csv":
                write_rows(path, CURVE_COLUMNS, [row for each in curves for row in each.rows()])
            else:
                save_figure(path, lambda: draw_curves(curves, self.figure), self.figure)
            print(f"file: {path}")

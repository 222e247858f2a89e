"""`rhn report`: the curves of trainings, and perplexity by depth beside the paper's."""

from dataclasses import dataclass
from pathlib import Path

from rhn.utils.figures import SUFFIXES, figure_name, place, save_figure
from rhn.utils.io import atomic_path, check_output
from rhn.utils.options import Drawing, Writing, option

SHORT = {"hidden_size": "units", "vocabulary_size": "words", "max_tokens": "tokens"}  # headings of the printed table
SHORT |= {"valid_perplexity": "valid", "published_valid_perplexity": "paper"}


@dataclass(frozen=True, kw_only=True)
class Report(Drawing, Writing):
    """Draw training and validation over epochs, all seeds together; with --depth the paper's figure 5(a) of these trainings."""

    runs: tuple[Path, ...] = option(
        help="Folders of trainings, of language models or of chorales; with --depth also tables that --csv wrote.",
        metavar="DIR",
        positional=True,
    )
    depth: bool = option(
        False,
        "Draw trainings on Penn Treebank: best validation perplexity by recurrence depth, beside the paper's numbers.",
    )
    output: Path | None = option(
        None,
        "Figure to write, .png, .svg or .pdf (default: in the current folder, such as curves-RUN.png).",
        metavar="FILE",
    )
    csv: Path | None = option(None, "Also write the numbers.", metavar="FILE")

    def run(self) -> None:
        named = [word for run in self.runs for word in (_called(run), place(run))]
        output = self.output or figure_name("depth" if self.depth else "curves", *named)
        check_output(output, SUFFIXES, force=self.force)
        if self.csv:
            check_output(self.csv)
        table, draw = self._depth() if self.depth else self._curves()
        if self.csv:
            check_output(self.csv, force=self.force, columns=list(table))
            with atomic_path(self.csv) as temporary:
                table.to_csv(temporary, index=False)
        save_figure(output, draw, self.figure)
        print(f"figure: {output}")

    def _curves(self):
        import pandas as pd

        from rhn.plotting.curves import LABELS, draw_curves, read_curves, require_one_measure

        curves = [c for run in self.runs for c in read_curves(run)]
        measure = require_one_measure(curves)
        best = pd.DataFrame([c.table().iloc[c.place] for c in curves])
        best.insert(1, "epochs", [c.epochs[-1] for c in curves])
        print(best.to_string(index=False, float_format="{:.4f}".format), LABELS[measure], sep="\n")
        return pd.concat([c.table() for c in curves]), lambda: draw_curves(curves)

    def _depth(self):
        from rhn.plotting.curves import draw_depth, read_depth

        table = read_depth(self.runs)
        shown = table.rename(columns=SHORT).astype(object).where(table.notna().values, "")
        print(shown.to_string(index=False, float_format="{:.2f}".format))
        return table, lambda: draw_depth(table)


def _called(run: Path) -> str:
    """The name of a run in a default name."""
    return run.stem if run.suffix == ".csv" else run.resolve().name

"""`rhn report`: draw the loss curves of training runs, or their perplexity by depth beside that of
the paper.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rhn.utils.figures import figure_name
from rhn.utils.io import atomic_path
from rhn.utils.old import OUTPUT_GROUP, Drawing, Outputs, place, real_path, rows_table

# headings of the printed table
SHORT = {"hidden_size": "units", "vocabulary_size": "words", "max_tokens": "tokens"}
SHORT |= {"valid_perplexity": "valid", "published_valid_perplexity": "paper"}


@dataclass(frozen=True, kw_only=True)
class Report(Drawing):
    """Draw the training and validation losses over epochs for all seeds in one figure. With
    --depth, draw the perplexity by recurrence depth instead, as figure 5(a) of the paper.
    """

    runs: tuple[Path, ...] = field(kw_only=False)
    """Folders of training runs; with --depth also tables (.csv) that `rhn report --depth` wrote."""
    depth: bool = False
    """Instead of losses, draw the best validation perplexity on Penn Treebank by recurrence depth,
    beside that of the paper.
    """
    output: Annotated[tuple[Path, ...], OUTPUT_GROUP] = ()
    """Files to write: a figure (.png, .svg, .pdf) and its numbers (.csv)."""

    def run(self) -> None:
        names = [run.stem if run.suffix == ".csv" else real_path(run).name for run in self.runs]
        named = [word for run in zip(names, map(place, self.runs), strict=True) for word in run]
        usual = figure_name("depth" if self.depth else "curves", *named)
        outputs = Outputs.of(self, usual, (".csv",))
        outputs.write(*(self._depth() if self.depth else self._curves()))
        print(outputs)

    def _curves(self):
        import pandas as pd

        from rhn.plotting.curves import CURVE_LABELS, draw_curves, read_curves, require_one_measure

        curves = [c for run in self.runs for c in read_curves(run)]
        measure = require_one_measure(curves)
        best = pd.DataFrame([c.table().iloc[c.place] for c in curves])
        best.insert(1, "epochs", [c.epochs[-1] for c in curves])
        print(rows_table(best.to_dict("records"), number=".4f"), CURVE_LABELS[measure], sep="\n")
        table = pd.concat([c.table() for c in curves])
        return lambda: draw_curves(curves), lambda path: _save(table, path)

    def _depth(self):
        from rhn.plotting.curves import draw_depth, read_depth

        table = read_depth(self.runs)
        shown = table.rename(columns=SHORT).astype(object).where(table.notna().values, "")
        print(rows_table(shown.to_dict("records"), number=".2f"))
        return lambda: draw_depth(table), lambda path: _save(table, path)


def _save(table, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)

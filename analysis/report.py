"""`rhn-analyze report`: one HTML page with the figures and tables of a trained network.

The page has the losses of the training run, the spectra of each cell along one sequence, the gates
and the lesions. Each part is a heading, a picture and a printed table.
"""

import base64
import html
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import gersgorin
from analysis.gates import excerpts_of, gate_activity
from analysis.layers import places
from analysis.lesions import lesion, stretches_of
from analysis.sequences import NetworkAndData, in_corpus
from gersgorin.cli.sequences import TEXT_STEPS
from rhn.checkpoints import Checkpoint, read
from rhn.data.text import TextCorpus
from rhn.training.curves import CURVE_COLUMNS, draw_curves, read_curves
from rhn.training.stored import corpus_of, stored_data
from rhn.utils.figures import our_style
from rhn.utils.io import as_path
from rhn.utils.progress import Progress, reported
from rhn.utils.seed_folders import require_seeds, trained_paths
from rhn.utils.tables import aligned, formatted

SIZE = "page"
LOSSES, SPECTRA, GATES, LESIONS = "Losses of the training run", "Spectra", "Gates", "Lesions"
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>body {{ max-width: 70em; margin: 2em auto; font-family: sans-serif }}
img {{ max-width: 100% }} pre {{ overflow-x: auto }}</style></head>
<body>
<h1>{title}</h1>
{parts}
</body>
</html>
"""
PART = '<h2>{heading}</h2>\n<img alt="{heading}" src="data:image/png;base64,{picture}">\n'
Part = tuple[str, str, Callable[[], Figure]]
"""A heading, a printed table, and a function that draws the figure."""


def report_page(
    checkpoint: str | Path,
    *,
    data: Path | None = None,
    split: str = "",
    cell: str | None = None,
    seed: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress = None,
) -> str:
    """Return the page of a checkpoint or run folder as HTML, with its pictures.

    data, split, cell, device, progress: as for `analysis.lesion`; the progress is that of parts.
    seed: the one to read of a folder with several seeds; None: all.

    Raises CheckpointError, DataError or InvalidInputError.

    >>> import tempfile
    >>> from rhn import PolyphonicModel, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save(f"{folder}/a.safetensors", PolyphonicModel("rhn", hidden_size=3))
    ...     page = report_page(file, split="valid")
    >>> page.count("<img"), page.count("<pre>")
    (3, 3)
    """
    path, pages = as_path(checkpoint), list[str]()
    require_seeds(path, seed)
    networks = [read(each) for each in trained_paths(path, seed)]
    parts = _parts(path, networks, data=data, split=split, cell=cell, device=device)
    with reported(progress, "report") as advance:
        for done, (heading, table, draw) in enumerate(parts, 1):
            with our_style(SIZE):
                draw().savefig(picture := io.BytesIO(), format="png")
            encoded = base64.b64encode(picture.getvalue()).decode()
            pages.append(PART.format(heading=html.escape(heading), picture=encoded))
            pages.append(f"<pre>{html.escape(table)}</pre>")
            advance(done, max(done, 4))
    title = html.escape(str(path))
    return PAGE.format(title=title, parts="\n".join(pages))


def _parts(path: Path, networks: Sequence[Checkpoint], **how: Any) -> Iterator[Part]:
    """Yield the parts of the page of checkpoints: of one, or of several seeds in a folder."""
    of_one = networks[0].path.parent
    folder = path if len(networks) > 1 else of_one
    if any(of_one.glob("metrics.jsonl")):
        curves = read_curves(folder)
        best = [c.rows()[c.place] for c in curves]
        rows = [(name, measure, *map(formatted, numbers)) for name, measure, *numbers in best]
        yield LOSSES, "\n".join(aligned([CURVE_COLUMNS, *rows])), lambda: draw_curves(curves, SIZE)
    for trained in networks:
        of_seed = f", {trained.path.parent.name}" if len(networks) > 1 else ""
        for heading, table, draw in _parts_of_network(trained, **how):
            yield f"{heading}{of_seed}", table, draw


def _parts_of_network(
    trained: Checkpoint, data: Path | None, split: str, cell: str | None, device: Any
) -> Iterator[Part]:
    """Yield the parts of one checkpoint, which is read once, as its data are."""
    corpus, path = corpus_of(trained, data), data or stored_data(trained).path
    model = trained.model(cell).to(device or "cpu")
    for_gates, for_lesions = (
        in_corpus(model, corpus, path, cut, split) for cut in (excerpts_of, stretches_of)
    )
    for k in range(len(model.cells)):
        found = _spectra(for_gates, f"cells.{k}")
        yield f"{SPECTRA}, cells.{k}", str(found), found.figure
    gated = [place for place in places(model) if place.layer.gate]
    if gated:
        gates = gate_activity(for_gates)
        yield GATES, str(gates), gates.figure
    lesions = lesion(for_lesions, pairs=True)
    yield LESIONS, str(lesions), lesions.figure


def _spectra(given: NetworkAndData, layer: str) -> Any:
    """Return the spectra of one cell along the first sequence."""
    first, text = given.sequences[0], isinstance(given.corpus, TextCorpus)
    x = torch.from_numpy(np.array(first[:TEXT_STEPS] if text else first))
    name, unit = getattr(first, "name", given.data), "tokens" if text else "quarter notes"
    x = x if text else x.double()
    run = gersgorin.open_run(given.model, x, layer=layer, data=name, unit=unit)
    return gersgorin.spectra(run)

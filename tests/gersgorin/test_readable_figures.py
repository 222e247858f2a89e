"""Every public figure can be read, whatever was measured: no text is cut off or lies on another, no
legend covers anything.
"""

import ast
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from tables import others_slow

from examples.paper import figures as gallery
from gersgorin import (
    Recorder,
    compare,
    fixed_points,
    gains,
    gates,
    influence,
    lyapunov,
    products,
)
from gersgorin.analyses.pseudospectra import pseudospectra
from gersgorin.analyses.spectra import spectra
from gersgorin.figures import draw_run
from gersgorin.labels import Identity, footer_of, labels_of
from gersgorin.run.run import Label, Run
from rhn.cells import LSTM, RHN, RNN
from rhn.models import PolyphonicModel
from rhn.utils.figures import SIZES, our_style
from rhn.utils.old import made_with
from tests.readable import WIDTHS, alone, drawn_texts, filled, readable, whole_title

ROOT = Path(import_module("gersgorin").__file__).parent
LONG = "a_run_with_$a_name_of_forty_characters_ä: rhn, depth 10, 1024 units"
MADE = (
    "gaussian:0.05, transform bias -2, seed 4294967295; train-217 of the chorales in "
    "the-original-file-of-chorales.pickle"
)
ALONG = "sequence a-file-with-a-name-of-forty-characters.csv"


def public_figures() -> set[str]:
    """module.name of every public plot_* and draw_* of the package that gives axes or a figure."""
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            named = isinstance(node, ast.FunctionDef) and node.name.startswith(("plot_", "draw_"))
            if (
                named
                and node.returns is not None
                and ast.unparse(node.returns) in ("Axes", "Figure", "Shown")
            ):
                found.add(".".join((*path.relative_to(ROOT).with_suffix("").parts, node.name)))
    return found


def nan(record):
    """The record with NaN for all that was measured."""
    kept = {"steps", "step", "starts", "curve_steps", "axis", "window_steps", "seed", "found_from"}
    arrays = {
        name: v
        for name, v in vars(record).items()
        if isinstance(v, np.ndarray) and name not in kept
    }
    arrays = {name: value for name, value in arrays.items() if value.dtype.kind in "fc"}
    return replace(record, **{name: np.full_like(value, np.nan) for name, value in arrays.items()})


def cells(size: str) -> list:
    """One network of one unit ("one"), eleven that get long names ("ten"), or three ("few")."""
    generator = torch.Generator().manual_seed(1)
    about = {"init": "gaussian:0.6", "dtype": torch.float64, "generator": generator}
    if size == "one":
        return [RNN(5, 1, **about)]
    few = [RHN(5, 8, 3, **about), RNN(5, 8, **about), LSTM(5, 4, **about)]
    return few if size == "few" else [RHN(5, 4, 10, **about), *few, *few, *few]


@pytest.fixture(
    scope="module",
    params=["ten", *(pytest.param(size, marks=pytest.mark.slow) for size in ("one", "NaN"))],
)
def size(request):
    return request.param


@pytest.fixture(scope="module")
def x(size):
    steps = 1 if size == "one" else 12
    return torch.rand(steps, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def networks(size):
    return cells("few" if size == "NaN" else size)


@pytest.fixture(scope="module")
def runs(size, x, networks):
    """What was measured of every network."""

    def about(k: int) -> dict:
        title = (
            f"{type(networks[k]).__name__.lower()}, 8 units"
            if size != "ten"
            else f"{LONG}, number {k}"
        )
        return {"title": title, "about": MADE.replace("-2", str(-k)) if size == "ten" else "seed 0"}

    label = {"name": "cell", "sequence": ALONG[9:], "reads": "sequence", "unit": "0.1 s"}
    along = [
        Run.of(cell, x, label=Label(**label, title=about(k)["title"], data=about(k)["about"]))
        for k, cell in enumerate(networks)
    ]
    long = x.repeat(30, 1)
    found = {
        "spectra": [spectra(run) for run in along],
        "ensembles": [
            replace(
                compare([cell] * 2, [x, x[: len(x) // 2 + 1]], over=("seeds", "sequences"))[0],
                **about(k),
            )
            for k, cell in enumerate(networks)
        ],
        "lyapunov": [
            replace(lyapunov(c, long, count=c.state_size), **about(k))
            for k, c in enumerate(networks[:1])
        ],
        "points": [
            replace(
                fixed_points(c, x.mean(0), starts=torch.zeros(3, c.state_size).double()),
                **about(k),
            )
            for k, c in enumerate(networks[:1])
        ],
        "portraits": [pseudospectra(run, side=21) for run in along[:1]],
        "products": [replace(products(run), title=LONG) for run in along[:1]],
        "gains": [replace(gains(run), title=LONG) for run in along[:1]],
        "gates": [replace(gates(run), title=LONG) for run in along[:1]],
        "influence": [replace(influence(networks[0], x.repeat(2, 1)), title=LONG)],
    }
    return (
        {name: [nan(one) for one in many] for name, many in found.items()}
        if size == "NaN"
        else found
    )


@pytest.fixture(scope="module")
def training(size):
    """A recording of a small model."""
    depth, units = (1, 1) if size == "one" else (10 if size == "ten" else 2, 5)
    generator = torch.Generator().manual_seed(0)
    model = PolyphonicModel(
        "rhn", hidden_size=units, depth=depth, input_size=4, output_size=4, generator=generator
    )
    frames = torch.rand(2 if size == "one" else 9, 3, 4, generator=generator)
    recorder, optimizer = (
        Recorder(model, frames[:, 0], every=1),
        torch.optim.SGD(model.parameters(), 0.5),
    )
    for _ in range(0 if size == "one" else 6):
        optimizer.zero_grad()
        loss = model.nll(frames).mean()
        loss.backward()
        optimizer.step()
        recorder.step(loss)
    recording = replace(recorder.recording, title=LONG)
    if size == "NaN":
        lost = nan(recording)
        recording = replace(lost, loss=recording.loss, radius=recording.radius)
    return recording


def named(results: list) -> tuple[list, list[str], str]:
    """Results with their labels and the footer of their figure, as `compare` names them."""
    networks = [Identity(cell=r.title, made=r.about, along=r.along) for r in results]
    labels = labels_of(networks, only=True)
    return results, labels, footer_of(networks, labels)


FIGURES = {  # what each is drawn from
    "comparison.draw_comparison": lambda draw, runs, training, size: draw(*named(runs["spectra"])),
    "analyses.bands.draw_bands": lambda draw, runs, training, size: draw(*named(runs["ensembles"])),
    "comparison.draw_results": lambda draw, runs, training, size: draw(*named(runs["spectra"])),
    "figures.plot_products": lambda draw, runs, training, size: alone(draw, runs["spectra"][0]),
    "analyses.spectra.plot_spectrum": lambda draw, runs, training, size: alone(
        draw, runs["spectra"][0]
    ),
    "figures.plot_suggested": lambda draw, runs, training, size: alone(draw, runs["spectra"][0]),
    "recording.draw_recording": lambda draw, runs, training, size: draw(training),
    "recording.plot_measures": lambda draw, runs, training, size: alone(draw, training),
    "recording.plot_moment": lambda draw, runs, training, size: alone(draw, training),
    "figures.draw_run": lambda draw, runs, training, size: draw(runs["spectra"][0]),
}
INSIDE = {  # drawn only as part of others
    "analyses.bands.plot_bands",
    "figures.plot_crowd",
    "next.analyses.panels.draw_discs",
}


def test_every_public_figure_is_in_the_list():
    assert public_figures() - INSIDE == set(FIGURES)


WHOLE = [name for name in FIGURES if ".draw_" in name]  # which hold the others


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", others_slow(FIGURES, *WHOLE))
def test_a_figure_can_be_read(name, runs, training, size, width):
    module, _, function = name.rpartition(".")
    with our_style(width):
        figure = FIGURES[name](
            getattr(import_module(f"gersgorin.{module}"), function), runs, training, size
        )
        figure = figure.get_figure(root=True)
        readable(figure)
        if size == "ten":
            filled(figure)
    assert figure.get_figwidth() == SIZES[width] and made_with() in whole_title(figure)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "name", ["products", "gains", "gates", "points", "lyapunov", "portraits", "influence"]
)
def test_the_plot_of_a_result_can_be_read(name, runs, width):
    figure = runs[name][0].plot(figure=width).get_figure(root=True)
    with our_style(width):
        readable(figure)
    assert figure.get_figwidth() == SIZES[width]


@pytest.mark.slow
@pytest.mark.parametrize("name", gallery.GALLERY)
def test_a_picture_of_the_gallery_can_be_read(name, monkeypatch):
    with our_style():
        readable(gallery.GALLERY[name]())


def test_a_panel_of_several_decades_has_a_scale_on_a_slide():
    """The panel is low, because its neighbour has a tall legend."""
    cell = RHN(5, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = spectra(Run.of(cell, torch.rand(80, 5, dtype=torch.float64)))
    with our_style("slide"):
        figure = draw_run(found).get_figure(root=True)
        readable(figure)
        shown = drawn_texts(figure)
    (ax,) = (ax for ax in figure.axes if "gradient" in ax.get_ylabel())
    assert np.ptp(ax.get_ylim()) > 10, "decades"
    assert sum(text in shown and ax.bbox.y0 <= shown[text].y1 for text in ax.get_yticklabels()) >= 2

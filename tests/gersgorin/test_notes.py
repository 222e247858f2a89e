"""The notes of a result: at most five sentences, and all doubts among them, in the hardest case of
each class.
"""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

import gersgorin
from gersgorin.analyses.fixed_points import FixedPoints
from gersgorin.analyses.influence import Influence
from gersgorin.analyses.pseudospectra import pseudospectra
from gersgorin.results import HOMES
from rhn.utils.old import Result

d = torch.float64
A = torch.tensor([[0.5, 0.2], [0.0, 0.25]], dtype=d)


def run():
    return gersgorin.open_run(lambda x, s: A @ s, torch.zeros(60, 1).double(), state_size=2)


def hard_points() -> FixedPoints:
    """Cycles from few random starts, of which all kinds failed, neutral ones and one at a kink."""
    return FixedPoints(
        states=np.zeros((5, 2)),
        residuals=np.zeros(5),
        is_slow=np.zeros(5, bool),
        eigenvalues=np.tile([1.0 + 0j, 0.5], (5, 1)),
        found_from=np.array([3, 1, 1, 1, 0]),
        starts=np.tile(np.arange(2.0), (20, 1)),
        least_residual=0.0,
        tolerance=1e-10,
        drawn=True,
        settled=3,
        at_edge=4,
        kinks=np.arange(5) == 4,
        run_into=2,
        period=2,
        cycle=np.arange(5),
        shorter=5,
    )


def no_points() -> FixedPoints:
    """As `hard_points`, without a point."""
    empty = {
        name: getattr(hard_points(), name)[:0]
        for name in ("states", "residuals", "is_slow", "eigenvalues", "found_from", "kinks")
    }
    return replace(hard_points(), **empty, cycle=None, period=1)


def hard_spectra() -> Result:
    """A norm with a peak, a pit and an uneven change; a lost step, eigenvalues without a number at
    another one, one that rounding moves.
    """
    found = gersgorin.spectra(run())
    logs = np.r_[0.9, -4.2, np.full(58, -3.0)]
    norm, values, condition = found.norm.copy(), found.eigenvalues.copy(), np.ones(60)
    norm[7] = values[7] = values[9] = np.nan
    condition[0] = 1e15
    return replace(
        found,
        log_norm_product=logs,
        norm=norm,
        eigenvalues=values,
        eigenvalue_condition=condition,
    )


def hard_influence() -> Influence:
    """One that grows, falls and ends, also of later inputs, estimated over several sequences."""
    influence = np.diag(np.full(29, 2.0), -1) + np.diag(np.full(29, 0.5), 1) + np.eye(30)
    influence += np.diag(np.ones(28), -2)
    return Influence(
        influence=influence, error=np.ones((30, 30)) / 8, probes=3, sequences=4, without=1
    )


def hard_recording() -> Result:
    cell = torch.nn.GRU(3, 4)
    with gersgorin.Recorder(cell, torch.rand(6, 2, 3), every=1) as recorder:
        for loss in (2.0, 1.0, 0.5):
            recorder.step(loss)
    return recorder.recording


CASES = {
    "influence": (
        hard_influence,
        [
            "it is 1 at lag 0 and largest, 2, at lag 1;",
            "it stays at or below half of this from lag 2 on",
            "from 3 steps back on",
            "2 lags do not tell",
            "later inputs have",
            "1 output without",
            "standard error",
        ],
    ),
    "fixed_points": (
        hard_points,
        [
            "the search failed from 7 of 20 starts",
            "from 2 of 20 starts repeated steps reach a point",
            "from 5 starts the search led to a point of a shorter period",
            "starts are random",
            "only 1 of the starts is distinct",
            "the search kept to",
            "a point may lie outside",
            "a neutral eigenvalue lies up to",
            "4 points may lie on one curve",
            "has a kink",
        ],
    ),
    "no points": (no_points, ["the least |f(s) - s| reached from any start", "give other starts"]),
    "spectra": (
        hard_spectra,
        [
            "the jacobians of 1 step are too small",
            "over 60 steps the 2-norm",
            "smallest after",
            "largest after 1 step",
            "half of this change",
            "from 0, inside the unit circle",
            "did not converge at 1 step",
            "rounding alone may move",
            "in the row discs is 0.7",
        ],
    ),
    "products": (
        lambda: replace(gersgorin.products(run()), log_norm=hard_spectra().log_norm_product),
        ["over 60 steps", "largest after", "smallest after", "half of this change"],
    ),
    "lyapunov": (
        lambda: replace(
            gersgorin.lyapunov(run()),
            still=True,
            drift=0.1,
            exponents=np.array([-0.1, -0.2, np.nan]),
            standard_errors=np.full(3, 0.01),
            lost_below=-30.0,
        ),
        ["95 % interval", "run more steps", "comes to rest", "dimension", "rounding hides 1"],
    ),
    "gains": (lambda: gersgorin.gains(torch.nn.GRU(3, 4, 3), torch.rand(9, 3)), ["gain"]),
    "gates": (lambda: gersgorin.gates(torch.nn.GRU(3, 4, 3), torch.rand(9, 3)), ["open"]),
    "pseudospectra": (lambda: pseudospectra(run(), side=11), []),
    "recording": (hard_recording, ["spectral radius", "means over", "measuring took"]),
    "comparison": (
        lambda: gersgorin.compare([torch.nn.RNN(3, 4)], [*torch.rand(2, 6, 3)], over="sequences")[
            0
        ],
        ["the gradient grows in", "discs allow growth in", "an eigenvalue leaves the unit circle"],
    ),
    "side by side": (
        lambda: gersgorin.compare(
            {"a": torch.nn.RNN(3, 4), "b": torch.nn.GRU(3, 4)}, torch.rand(9, 3)
        ),
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_notes_are_at_most_five_sentences_and_keep_every_doubt(name):
    make, parts = CASES[name]
    found = make()
    notes = found.notes()
    assert len(notes) <= 5 and all(words.endswith(".") and words[0] != " " for words in notes)
    together = " ".join(found.sentences()).lower()
    assert [part for part in parts if part not in together] == []


def test_each_class_of_results_has_a_hard_case():
    for home in HOMES:
        import_module(f"gersgorin.{home}")
    of_ours = {c.kind for c in Result.classes.values() if c.__module__.startswith("gersgorin.")}
    assert of_ours <= {*CASES}

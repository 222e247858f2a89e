"""Torch's default device, which a user may set, decides nothing where a device is given or told by
a tensor.
"""

import itertools

import numpy as np
import pytest
import torch
from cases import CELL_CASES

import gersgorin
from analysis import gate_activity, lesion
from rhn.cells import CELLS
from rhn.data.text import Vocabulary
from rhn.models import LanguageModel, PolyphonicModel
from rhn.models.dropout import Dropout
from rhn.training.evaluation import evaluate_chorales, score
from rhn.training.monte_carlo import monte_carlo_score
from rhn.training.sampling import generate, sample_chorale

GENERATOR = torch.Generator().manual_seed(0)
CELL = CELLS["rhn"](3, 5, 2, init="gaussian:0.3", generator=GENERATOR, dtype=torch.float64)
X = torch.randn(9, 3, generator=GENERATOR).double()
FRAMES = (torch.rand(9, 3, 5, generator=GENERATOR) < 0.4).double()
SMALL = PolyphonicModel(
    hidden_size=4, input_size=5, output_size=5, init="scaled", generator=GENERATOR
)
COMPOSER = PolyphonicModel(hidden_size=4, generator=GENERATOR)
PIECES = [np.eye(9, 88, k, dtype=np.uint8) for k in range(4)]
WRITER = LanguageModel(vocabulary_size=5, hidden_size=6, generator=GENERATOR)
TEXT = np.asarray(np.arange(60) ** 2 % 5)
SEEN = (CELL, X)


MEASURES = {
    "spectra": lambda: gersgorin.spectra(*SEEN),
    "pseudospectra": lambda: gersgorin.pseudospectra(*SEEN, side=5),
    "fixed points": lambda: gersgorin.fixed_points(CELL, X[0], starts=3),
    "compared": lambda: gersgorin.compare({"a": CELL, "b": CELL}, X),
    "lyapunov": lambda: gersgorin.lyapunov(*SEEN, count=2),
    "leading": lambda: gersgorin.spectra(*SEEN, leading=2),
    "influence": lambda: gersgorin.influence(SMALL, FRAMES, probes=3),
    "of a loss": lambda: gersgorin.influence(SMALL, FRAMES[:-1], of="bernoulli", y=FRAMES[1:]),
    "recorder": lambda: gersgorin.Recorder(SMALL, FRAMES[:, 0].float()),
    "gates": lambda: gate_activity(COMPOSER, PIECES),
    "lesions": lambda: [lesion(COMPOSER, PIECES, mode) for mode in ("bias", "carry")],
    "chorales": lambda: (evaluate_chorales(COMPOSER, PIECES), sample_chorale(COMPOSER, bars=2)),
    "texts": lambda: score(WRITER, TEXT),
    "samples": lambda: monte_carlo_score(WRITER, TEXT, Dropout(hidden=0.2), samples=2),
    "words": lambda: generate(WRITER, Vocabulary("words", ("a", "b", "<eos>", "c", "<unk>"))),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_runs_where_its_tensors_are(name):
    with torch.device("meta"):  # of which no number can be read
        MEASURES[name]()


@pytest.mark.parametrize("case", CELL_CASES, ids=str)
def test_the_bound_of_a_cell_lies_where_its_weights_are(case):
    cell = case.build()
    wanted = cell.norm_bound()
    with torch.device("meta"):
        assert cell.norm_bound().equal(wanted)
    assert cell.to("meta").norm_bound().device.type == "meta"


SCHEMES = [*itertools.product(CELLS, ["orthogonal", "uniform:0.1"])]
SCHEMES += [(key, "memory") for key in ("rnn", "dt-rnn", "dts-rnn")]


@pytest.mark.parametrize(("key", "init"), SCHEMES)
def test_weights_are_drawn_on_the_cpu(key, init):
    with torch.device("meta"):
        found = CELLS[key](
            3, 4, init=init, device="cpu", generator=torch.Generator().manual_seed(1)
        )
    wanted = CELLS[key](3, 4, init=init, generator=torch.Generator().manual_seed(1))
    assert all(map(torch.equal, found.parameters(), wanted.parameters()))

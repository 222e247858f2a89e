"""The figures of studies can be read, whatever the study."""

from dataclasses import replace

import numpy as np
import pytest
from readable import readable
from test_trial_results import PLATEAU, network

from optim_study.map_plot import plot_area, plot_map
from optim_study.protocol import SCHEMES
from optim_study.swarm_plot import plot_swarm
from rhn.utils.figures import our_style

LONG = "my_cells.of_a_very_long_name:TheCellOfMine"  # 42 characters


def trials(arch, depth, count, **changes):
    rng = np.random.default_rng(depth)
    losses = np.where(rng.random(count) < 0.5, PLATEAU, rng.uniform(0.2, 40, count))
    rates, deviations = 10 ** rng.uniform(-4, 0, count), 10 ** rng.uniform(-8, 0, count)
    return [
        replace(r, learning_rate=rate, init_std=std, transform_bias=-float(r.trial % 4), diverged=r.best_train_nll > 30)
        for r, rate, std in zip(network(arch, depth, losses.tolist(), **changes), rates, deviations, strict=True)
    ]


STUDIES = {
    "all diverged": network("rhn", 6, [60.5] * 9, diverged=True),
    "30 columns": [
        r for arch in ("rhn", "dt-rnn", "dts-rnn", "lstm", LONG) for d in range(1, 7) for r in trials(arch, d, 3)
    ],
    "a long name": trials(LONG, 10, 60) + trials("模型-$x$", 2, 9),
    "tiny and huge losses": network("rhn", 1, [1e-9, 1e-3, 5.0]) + network("rnn", 1, [1e9, 1e12], diverged=True),
    "nine biases": [replace(r, transform_bias=r.trial / 7) for r in trials("rhn", 4, 60)],
    "four schemes": [replace(r, init_scheme=scheme) for scheme in SCHEMES for r in trials("rhn", 4, 9)],
}
EACH = [pytest.param(name, marks=pytest.mark.slow) if name == "30 columns" else name for name in STUDIES]
ABOUT = "learning rate 0.0001 to 1; standard deviation 1e-08 to 0.01; 0.05 times the paper's parameters; seed 0; chorales 0123456789ab"


@pytest.mark.parametrize("study", EACH)
def test_every_figure_can_be_read(study):
    readable(plot_swarm(STUDIES[study], about=ABOUT))
    with our_style():
        readable(plot_map(STUDIES[study], about=ABOUT))
        readable(plot_area(STUDIES[study], about=ABOUT))

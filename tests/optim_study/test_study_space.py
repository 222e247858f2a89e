import math

import numpy as np
import pytest

from optim_study.space import Space, parameter_budget, settings
from rhn.errors import InvalidInputError

PAPER = Space()


def draw(number, space=PAPER, seed=0, arch="rhn", depth=4):
    return settings(space, seed=seed, arch=arch, depth=depth, number=number)


def test_a_setting_depends_on_seed_architecture_depth_and_number_alone():
    forwards, backwards = [draw(n) for n in range(60)], [draw(n) for n in reversed(range(60))][::-1]
    assert forwards == backwards
    others = [draw(7, seed=1), draw(7, arch="dt-rnn"), draw(7, depth=6), draw(8)]
    assert all(other != draw(7) for other in others)


def test_the_settings_fill_the_papers_ranges_evenly_in_the_logarithm():
    drawn = [draw(n) for n in range(2000)]
    for name, low, high in [("learning_rate", -4, 0), ("init_std", -8, -2)]:
        logs = np.log10([getattr(setting, name) for setting in drawn])
        assert low <= logs.min() < low + 0.05
        assert high - 0.05 < logs.max() <= high
        quartiles = np.quantile((logs - low) / (high - low), [0.25, 0.5, 0.75])
        np.testing.assert_allclose(quartiles, [0.25, 0.5, 0.75], atol=0.05)
    biases, counts = np.unique([setting.transform_bias for setting in drawn], return_counts=True)
    assert biases.tolist() == [-3, -2, -1, 0]
    assert counts.min() > 400


def test_own_ranges_are_kept_to_even_when_they_are_a_point():
    space = Space(learning_rate=(0.1, 0.1), init_std=(0.3, 0.7), transform_bias=(-1.5,))
    for setting in [draw(n, space) for n in range(50)]:
        assert setting.learning_rate == 0.1
        assert 0.3 <= setting.init_std <= 0.7
        assert setting.transform_bias == -1.5


@pytest.mark.parametrize(
    "ranges",
    [
        {"learning_rate": (0.0, 1.0)},
        {"learning_rate": (1.0, 0.1)},
        {"init_std": (1e-8, math.inf)},
        {"init_std": (math.nan, 1.0)},
        {"transform_bias": ()},
        {"transform_bias": (-1, -1.0)},
        {"transform_bias": (math.nan,)},
    ],
)
def test_ranges_that_nothing_can_be_drawn_from_are_refused(ranges):
    with pytest.raises(InvalidInputError, match=next(iter(ranges)).replace("_", ".")):
        Space(**ranges)


def test_budgets_are_the_papers_at_its_depths_and_grow_evenly_between():
    assert [parameter_budget(depth) for depth in (1, 2, 3, 4, 6)] == [150_000, 300_000, 450_000, 600_000, 900_000]
    assert parameter_budget(6, scale=0.03) == 27_000

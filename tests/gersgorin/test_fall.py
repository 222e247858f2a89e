"""The law by which influence falls, of networks for which it is known in closed form."""

import math

import numpy as np
import pytest
import torch
from scipy.special import beta
from scipy.stats import linregress
from tables import for_each
from torch import nn

import gersgorin
from gersgorin.analyses.fall import FITS, fall_of

d = torch.float64


def leaky(rates, weights=None):
    """Units that leak, s' = a s + x, and their weighted sum: influence sum of w a^lag."""
    a = torch.tensor(rates, dtype=d)
    w = torch.full_like(a, 1 / len(a)) if weights is None else torch.tensor(weights, dtype=d)

    def step(x, s):
        s = a * s + x
        return (w * s).sum(-1, keepdim=True), s

    return step, torch.zeros(len(a), dtype=d)


def found(step, s0, T=64):
    return gersgorin.influence(step, torch.ones(T, 1, dtype=d), s0=s0)


def middles(n):
    return (np.arange(n) + 0.5) / n


@pytest.mark.parametrize("r", [0.5, 0.9, 0.99])
def test_one_rate_falls_exponentially(r):
    result = found(*leaky([r]))
    assert result.fall.law == "exponential"
    assert result.fall.rate == pytest.approx(-math.log(r))
    np.testing.assert_allclose([row["fit"] for row in result.table()], r ** np.arange(64))
    assert f"halves every {math.log(0.5) / math.log(r):.3g} step" in " ".join(result.notes())


@pytest.mark.parametrize("b", [0.5, 1.0, 1.5])
def test_rates_up_to_one_fall_as_a_power_law(b):
    """Of density b (1 - a)^(b - 1) on [0, 1] the mean of a^k is b B(k + 1, b), about k^-b."""
    n, T = 20_000, 64
    a = 1 - middles(n) ** (1 / b)
    result = found(*leaky(a))
    np.testing.assert_allclose(result.by_lag, b * beta(np.arange(T) + 1, b), rtol=0.01)
    assert result.fall.law == "power law"
    assert result.fall.rate == pytest.approx(b, rel=0.1)
    told = f"at lag k (R^2 {result.fall.r_squared:.3f} of its logarithm)"
    assert any("nearer than an exponential" in words and told in words for words in result.notes())


@for_each(
    ("weights", "law", "exponent"),
    [
        (np.r_[30.0, 1 / np.arange(2, 41)], "(k + 1)", 1.0),
        (np.r_[np.zeros(3), np.arange(4, 41) ** -1.5], "(k + 1)", 1.5),
        (np.r_[np.zeros(3), 1 / np.arange(1, 38)], "(k - 2)", 1.0),
        (np.r_[0, 1 / np.arange(1, 40)], "k", 1.0),
        (np.r_[np.ones(15), 3.2 / np.arange(16, 41)], "(k + 1)", 1.0),
    ],
)
def test_a_power_law_counts_from_lag_0_or_from_the_largest_influence(weights, law, exponent):
    told = " ".join(of_weights(weights).notes())
    assert f"{law}^-{exponent:.3g} at lag k (R^2 1.000" in told and "exponential halves" not in told


def test_few_lags_and_no_fall_cannot_be_told():
    short = found(*leaky([0.9]), T=6)
    assert short.fall.law == "" and math.isnan(short.fall.rate)
    assert "6 lags do not tell" in " ".join(short.notes())
    assert fall_of(np.ones(64)).law == fall_of(np.array([1.0, 0, 0, 0, 0])).law == ""


@pytest.mark.parametrize("dtype", [torch.float32, d])
def test_an_influence_that_is_kept_up_to_rounding_has_no_law(dtype):
    """Orthogonal in single precision: the product falls by about 1e-8 per step."""
    W = nn.init.orthogonal_(torch.empty(16, 16, dtype=dtype))

    def step(x, s):
        return s @ W.to(s).T + x

    result = gersgorin.influence(step, torch.ones(50, 16, dtype=d), s0=torch.zeros(16, dtype=d))
    assert result.fall.law == "" and math.isinf(result.half_life)
    assert "is the same at all 50 lags" in result.finding
    assert "exponential" not in " ".join(result.notes())


def test_lags_below_the_normal_numbers_are_neither_fitted_nor_counted():
    result = found(*leaky([1e-10]), T=40)
    lags = np.flatnonzero(result.by_lag > 0)
    assert 0 < result.by_lag[lags[-1]] < np.finfo(float).tiny
    normal = np.flatnonzero(result.by_lag >= np.finfo(float).tiny)[-1]
    said = " ".join(result.notes())
    assert f"fitted to lags 0 to {normal} " in said and f"from {normal + 1} steps back" in said


@pytest.mark.parametrize("T", [16, 64, 200])
def test_the_interval_is_seldom_wrong(T):
    """Logarithms with noise that lasts for several lags."""
    generator, k, wrong = np.random.default_rng(0), np.arange(T), 0
    for _ in range(100):
        noise = np.zeros(T)
        for i in range(1, T):
            noise[i] = 0.8 * noise[i - 1] + 0.2 * generator.normal()
        laws = [fall_of(f * np.exp(noise)).law for f in (0.9**k, 1.0 / (k + 1))]
        wrong += (laws[0] == "power law") + (laws[1] == "exponential")
    assert wrong <= 10  # of 200


K = np.arange(40)
NOISE = np.exp(0.2 * np.random.default_rng(0).standard_normal(40))


@for_each(
    ("name", "values", "law"),
    (
        ("an exponential", 0.9**K, "exponential"),
        ("a power law", (K + 1.0) ** -1.5, "power law"),
        ("an exponential with noise", 0.9**K * NOISE, "exponential"),
        ("a power law with noise", (K + 1.0) ** -1.5 * NOISE, "power law"),
        ("an echo with a slow tail", np.where(K < 3, 1, 1e-3 * 0.95**K), ""),
        ("a large lag before an exponential", np.where(K < 1, 3, 0.7**K), ""),
        ("one large lag before a plateau", np.where(K < 1, 1, 0.01) * NOISE, ""),
        ("a plateau", NOISE[NOISE.argmax() :], ""),
        ("a plateau behind an exponential", np.maximum(0.8**K, 1e-2), ""),
        ("an oscillation", 0.9**K * (1.2 + np.cos(K)), ""),
    ),
)
def test_a_law_is_named_only_if_it_fits(name, values, law):
    assert fall_of(values).law == law


@for_each("law", ("exponential", "power law"))
def test_the_fit_is_told_with_its_r_squared(law):
    """That of SciPy's regression on the logarithm."""
    places = K if law == "exponential" else np.log1p(K)
    values = np.exp(-1.5 * places) * NOISE
    wanted = linregress(places, np.log(values)).rvalue ** 2
    assert fall_of(values).law == law
    assert fall_of(values).r_squared == pytest.approx(wanted)


@pytest.mark.parametrize("n", [9, 40, 400])
def test_the_wrong_law_never_fits_an_exact_one(n):
    k = np.arange(n)
    assert linregress(k, np.log1p(k)).rvalue ** 2 < FITS


def of_random(kind):
    """The influence in a new network of torch.nn over 64 steps."""
    x = torch.randn(64, 1, 3, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    return gersgorin.influence(kind(3, 16), x)


@for_each("kind", (nn.LSTM, nn.RNN))
def test_random_networks_fall_exponentially(kind):
    assert of_random(kind).fall.law == "exponential"


def test_an_exponential_that_misses_the_first_lags_is_not_named():
    """The first lags of a GRU fall faster than its tail. SciPy's line fits the logarithms well, and
    the influence of the first two lags, 90 % of the squares, wrongly by a factor of two.
    """
    result = of_random(nn.GRU)
    by_lag, lags = result.by_lag, np.arange(64)
    line = linregress(lags, np.log(by_lag))
    ratio = by_lag / np.exp(line.intercept + line.slope * lags)
    held = (by_lag**2).cumsum() / (by_lag**2).sum()
    assert line.rvalue**2 > 0.99 and ratio[0] > 2 and held[0] > 0.7
    assert result.fall.law == "" and result.fall.r_squared == pytest.approx(line.rvalue**2)
    last = int((held > 0.95).argmax())
    tail = linregress(lags[last + 1 :], np.log(by_lag[last + 1 :]))
    assert (
        f"Lags 0 to {last} hold {100 * held[last]:.3g} % of the squared influence of an input; an "
        f"exponential fitted to lags {last + 1} to 63 halves every {math.log(0.5) / tail.slope:.3g}"
    ) in " ".join(result.notes())


def test_no_law_is_named_if_none_describes_the_lags_that_hold_the_influence():
    """A fall that slows down, at the first lags and further back."""
    by_lag = np.exp(-2.5 * K**0.8)
    held = (by_lag**2).cumsum() / (by_lag**2).sum()
    told = " ".join(of_weights(by_lag).notes())
    assert f"Lag 0 holds {100 * held[0]:.3g} % of the squared influence of an input; no law" in told
    assert "every" not in told


@for_each(
    ("echo", "words"),
    ((1.03, "largest, 1.03, at lag 1"), (2.0, "largest, 2, at lag 1"), (1.0, "")),
)
def test_a_rise_over_few_lags_is_told_in_numbers(echo, words):
    def echoed(x):
        return x + echo * torch.cat((torch.zeros(1, 1), x[:-1]))

    told = " ".join(gersgorin.influence(echoed, torch.ones(9, 1)).notes())
    assert ("It is 1 at lag 0" in told) == bool(words)
    assert words in told and "doubles" not in told


def r_squared(values):
    """R^2 of SciPy's lines through the logarithm: of the exponential, and of the power law."""
    k = np.arange(len(values))
    return [linregress(x, np.log(values)).rvalue ** 2 for x in (k, np.log1p(k))]


BETWEEN = 0.95 ** K[:16] * (K[:16] + 1.0) ** -0.3
UNDECIDED = {
    "both fit": (BETWEEN, "16 lags do not tell whether it falls exponentially or as a power law"),
    "neither fits": (np.exp(-np.square(K) / 50.0), "neither an exponential nor a power law fits"),
    "noise": (NOISE * np.r_[8, np.ones(39)], "neither an exponential nor a power law fits"),
}


@for_each("name", UNDECIDED)
def test_lags_do_not_tell_only_if_a_law_fits(name):
    values, words = UNDECIDED[name]
    result, best = of_weights(values), max(r_squared(values))
    assert result.fall.law == "" and (best >= FITS) == (name == "both fit")
    assert result.fall.r_squared == pytest.approx(best)
    told = " ".join(result.notes())
    assert words.lower() in told.lower() and ("do not tell" in told) == (name == "both fit")
    if best < FITS:
        assert f"fits lags 0 to 39 (R^2 {best:.3f} of its logarithm at best)" in told


def of_weights(weights):
    """The influence in a model whose one output is a weighted sum of its inputs."""
    w = torch.as_tensor(np.array(weights)[::-1].copy())[:, None]
    return gersgorin.influence(
        lambda x: (w * x).sum(0, keepdim=True), torch.ones(len(w), 1, dtype=d)
    )


def test_an_exponential_rise_has_the_doubling_time_of_the_line_through_its_logarithm():
    weights = 1.3**K * NOISE
    top = int(weights.argmax())
    line = linregress(K[: top + 1], np.log(weights[: top + 1]))
    result = of_weights(weights)
    assert top > 30 and result.doubling_time == pytest.approx(math.log(2) / line.slope)
    words = f"Up to lag {top} it doubles every {math.log(2) / line.slope:.3g} steps"
    assert words in " ".join(result.notes())
    assert result.finding == f"The influence of an input is largest {top} steps back"


@for_each(
    ("weights", "words"),
    [
        (
            [0.37, 0, 0.37, 0, 0.38, 0, 0.38, 0, 0.4, 0],
            "large (up to a factor of 2) at 5 of the lags from 0 to 8",
        ),
        ([0.4, 0.3, 0.4, 0.9, 0.4, 0.4], "is largest 3 steps back"),
        ([0.4, 0.9, 0.9, 0.3], "large (up to a factor of 2) at all lags from 1 to 2"),
    ],
)
def test_a_title_tells_how_many_lags_are_near_the_largest(weights, words):
    assert of_weights(np.array(weights)).finding.endswith(words)


def test_a_flat_influence_has_no_doubling_time():
    """The position of the largest influence is chance if others are within a tenth of it."""
    weights = np.r_[0.4, 0.4, np.full(38, 1.0)]
    weights[[9, 20, 30]] = 1.2, 1.21, 1.19
    result = of_weights(weights)
    assert math.isnan(result.doubling_time) and math.isinf(result.half_life)
    assert result.finding == (
        "The influence of an input is about as large (up to a factor of 2) at all lags from 2 to 39"
    )
    told = " ".join(result.notes())
    assert "It is 0.4 at lag 0 and largest, 1.21, at lag 20." in told and "doubles" not in told

"""Wrong keywords and swapped arguments are refused in terms of the function that was called."""

import inspect
import itertools

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn

import gersgorin
import rhn
import trainability
from gersgorin.analyses import ANALYSES
from rhn.cells import GRU, RHN
from rhn.errors import InvalidInputError, NotFiniteError, OutputError

X = torch.randn(8, 2, 3)
MODEL = nn.LSTM(3, 4)
MSE = nn.MSELoss()
CELL = RHN(3, 4)
ADAM = torch.optim.Adam(MODEL.parameters())

WORDS = {
    r"check\(\) has no argument 'epochs': did you mean steps\?": lambda: trainability.check(
        MODEL, X, X[..., :1], MSE, ADAM, epochs=5
    ),
    r"cure\(\) has no argument 'lr': did you mean learning_rate\?": lambda: trainability.cure(
        MODEL, X, X[..., :1], MSE, ADAM, lr=5
    ),
    r"spectra\(\) has no argument 'statesize': did you mean state_size\?": lambda: (
        gersgorin.spectra(MODEL, statesize=3)
    ),
    r"train\(\) has no argument 'epoch': did you mean epochs\?": lambda: rhn.train(
        "jsb-depth-1", out="runs", epoch=3
    ),
}


@for_each("said", WORDS)
def test_a_keyword_that_a_function_lacks_is_refused_with_the_nearest_one(said):
    with pytest.raises(InvalidInputError, match=said):
        WORDS[said]()


SWAPPED = {
    "spectra": lambda: gersgorin.spectra(X, MODEL),
    "check": lambda: trainability.check(X, MODEL, X[..., :1], MSE, ADAM),
    "influence": lambda: gersgorin.influence(X, MODEL),
}


@for_each("name", SWAPPED)
def test_swapped_arguments_are_named_without_their_numbers(name):
    with pytest.raises(InvalidInputError, match="swapped, expected") as error:
        SWAPPED[name]()
    assert "a Tensor of shape (8, 2, 3)" in str(error.value)
    assert len(str(error.value)) < 200


NUMBERS = torch.randn(8, 3)
CELL_OF_3 = GRU(3, 6)
CLASSES = {
    "network is the class LSTM": lambda: gersgorin.spectra(nn.LSTM, NUMBERS),
    "network is the class RHN": lambda: gersgorin.lyapunov(RHN, NUMBERS),
    "model is the class GRU": lambda: gersgorin.influence(nn.GRU, NUMBERS),
    "model is the class LSTM": lambda: trainability.check(nn.LSTM, X, X, MSE, ADAM),
    "cell is the class GRUCell": lambda: gersgorin.temporal_jacobian(nn.GRUCell, NUMBERS, NUMBERS),
}


@for_each("said", CLASSES)
def test_the_class_of_a_network_is_refused_as_that(said):
    with pytest.raises(InvalidInputError, match=rf"{said}: expected a network, \w+\(...\)"):
        CLASSES[said]()


@pytest.mark.parametrize("over", [None, "seeds"])
def test_a_figure_takes_what_its_plot_takes_and_refuses_the_rest(over):
    found = gersgorin.compare([RHN(3, 4), RHN(3, 4)], NUMBERS, over=over)
    found = found if over is None else found[0]
    assert found.figure(step=2, limit=0.5, legend=False).axes
    with pytest.raises(TypeError, match=r"\.(plot|figure)\(\) got an unexpected .* 'colour'"):
        found.figure(colour="red")
    with pytest.raises(InvalidInputError, match="limit is -1: expected a number above 0"):
        found.figure(limit=-1)
    with pytest.raises(InvalidInputError, match="ax is 'x': expected axes of matplotlib"):
        found.plot("x")


def test_one_analysis_is_named_by_a_text():
    found = gersgorin.analyze(MODEL, X[:, :1], analyses="lyapunov")
    assert found.lyapunov.exponents.shape == (8,)
    with pytest.raises(InvalidInputError, match="there is no analysis 'lyapunof'"):
        gersgorin.analyze(MODEL, X[:, :1], analyses="lyapunof")
    with pytest.raises(InvalidInputError, match=r"analysis is \['gains'\]: expected spectra, prod"):
        gersgorin.compare([MODEL, MODEL], X[:, :1], analysis=["gains"])


def test_data_that_were_not_given_are_named_if_the_network_does_not_read_them():
    with pytest.raises(InvalidInputError, match=r"x was not given, so it read chorale bwv269"):
        gersgorin.spectra(MODEL)


def test_a_first_state_that_is_not_finite_is_refused_as_that():
    with pytest.raises(NotFiniteError, match="s0 holds 2 NaN"):
        gersgorin.spectra(nn.GRU(3, 2), NUMBERS, s0=torch.full((2,), torch.nan))


@for_each("name", ["check", "cure", "spectra", "lyapunov", "analyze"])
def test_the_signature_of_a_function_lists_the_keywords_that_it_passes_on(name):
    home = trainability if name in ("check", "cure") else gersgorin
    known = inspect.signature(getattr(home, name)).parameters
    assert {"state_size", "submodule"} <= {*known} or {"batch_size", "clip_norm"} <= {*known}
    assert not [p for p in known.values() if p.kind is p.VAR_KEYWORD]


NUMPY = {
    "leading": lambda n: gersgorin.spectra(CELL_OF_3, NUMBERS, leading=n).eigenvalues,
    "count": lambda n: gersgorin.lyapunov(CELL_OF_3, NUMBERS, count=n).exponents,
    "state_size": lambda n: gersgorin.spectra(lambda x, s: s / 2, NUMBERS, state_size=n).norm,
    "side": lambda n: gersgorin.pseudospectra(CELL_OF_3, NUMBERS, side=n).sigma,
    "starts": lambda n: gersgorin.fixed_points(CELL_OF_3, NUMBERS, starts=n).states,
    "layer": lambda n: gersgorin.spectra(nn.GRU(3, 4, 3), NUMBERS, layer=n).eigenvalues.shape,
    "feature": lambda n: gersgorin.influence(nn.LSTM(4, 4), torch.rand(5, 4), feature=n).feature,
    "probes": lambda n: gersgorin.influence(MODEL, X[:, 0], probes=n).influence,
    "workers": lambda n: gersgorin.linalg.eigenvalues(torch.eye(3), workers=n),
    "state_bound": lambda n: gersgorin.norm_bound(CELL, n).item(),
    "step": lambda n: gersgorin.spectra(CELL_OF_3, NUMBERS).drawn_step(n),
    "every": lambda n: gersgorin.Recorder(nn.GRU(3, 4), NUMBERS, every=n).recording.radius.shape,
}


@for_each("name", NUMPY)
def test_numbers_of_numpy_are_numbers(name):
    np.testing.assert_array_equal(NUMPY[name](np.int64(3)), NUMPY[name](3))


def test_a_share_of_an_eigenvalue_is_refused_by_its_own_name():
    for wrong in (1.5, True, 0, 65):
        with pytest.raises(InvalidInputError, match=f"leading is {wrong}: expected a whole number"):
            gersgorin.spectra(GRU(3, 64), NUMBERS, leading=wrong)


def test_a_device_of_torch_is_a_device():
    found = gersgorin.spectra(CELL_OF_3, NUMBERS, device=torch.device("cpu"))
    assert np.array_equal(found.norm, gersgorin.spectra(CELL_OF_3, NUMBERS).norm)


META = (
    nn.LSTM(3, 4, device="meta"),
    nn.Sequential(nn.GRU(3, 4, device="meta")),
    RHN(3, 4, device="meta"),
)
ALL = "Recorder", "analyze", "compare", *ANALYSES


@for_each(("module", "name"), itertools.product(META, ALL))
def test_a_module_on_the_meta_device_is_refused_as_that(module, name):
    with pytest.raises(InvalidInputError, match="is on the meta device"):
        getattr(gersgorin, name)(module, NUMBERS)


def test_no_network_and_a_name_that_no_file_can_have_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="networks is None: expected networks by name"):
        gersgorin.compare(None, NUMBERS)
    for name in ("a\0.png", "a\0.npz"):
        with pytest.raises(OutputError, match="a name has no null characters"):
            gersgorin.gains(CELL, NUMBERS).save(tmp_path / name)


INPUTS = torch.tensor([[4.0], [-2.0], [1.0], [1.0]])
SQUARE_ROOT = gersgorin.open_run(
    lambda x, s: torch.sqrt(s + x[0]), INPUTS, s0=torch.zeros(4)
)  # 2, 0, 1


@for_each("name", ["spectra", "products", "gains", "lyapunov", "pseudospectra"])
def test_a_step_without_a_finite_derivative_is_named(name):
    with pytest.raises(NotFiniteError, match="derivative of the step is NaN or infinite at step 1"):
        getattr(gersgorin, name)(SQUARE_ROOT)

"""Every function that takes numbers refuses what are none in one sentence, and takes NumPy's arrays
as tensors.
"""

import pytest
import torch
from tables import for_each

import gersgorin
from rhn.cells import LSTM, RHN
from rhn.errors import InvalidInputError, RhnError
from rhn.models import PolyphonicModel

T, M, N = 6, 3, 4
X, S = (
    torch.rand(T, k, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    for k in (M, N)
)
CELL = RHN(M, N, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
MODEL = PolyphonicModel("rhn", hidden_size=4, depth=1, generator=torch.Generator().manual_seed(0))
FRAMES = (torch.rand(T, 88, generator=torch.Generator().manual_seed(1)) < 0.3).double()


WRONG = {
    "nothing": lambda x: None,
    "text": lambda x: "numbers",
    "complex": lambda x: x + 1j,
    "sparse": lambda x: x.to_sparse(),
}
# name -> (function of the numbers, numbers that it takes, kinds of WRONG that it takes)
TAKERS = {
    "trajectory: x": (lambda x: gersgorin.trajectory(CELL, x), X, ()),
    "trajectory: s0": (lambda s: gersgorin.trajectory(CELL, X, s), S[0], ("nothing",)),
    "temporal_jacobian: s": (lambda s: gersgorin.temporal_jacobian(CELL, X, s), S, ()),
    "lyapunov: x": (lambda x: gersgorin.lyapunov(CELL, x), X, ()),
    "fixed_points: x": (lambda x: gersgorin.fixed_points(CELL, x, starts=S), X[0], ()),
    "fixed_points: starts": (lambda s: gersgorin.fixed_points(CELL, X[0], starts=s), S, ()),
    "spectra": (lambda x: gersgorin.spectra(CELL, x).eigenvalues, X, ()),
    "influence": (lambda x: gersgorin.influence(MODEL, x).influence, FRAMES[:-1], ()),
}
wherever = for_each("taker", TAKERS)


@wherever
@pytest.mark.filterwarnings("ignore:.*(prototype|beta|quant)")
def test_what_are_no_real_numbers_is_refused_in_one_sentence(taker):
    function, numbers, taken = TAKERS[taker]
    wrong = {}
    for kind, made in WRONG.items():
        if kind in taken:
            continue
        try:
            function(made(numbers))
            wrong[kind] = "accepted"
        except RhnError as error:
            if "\n" in str(error):
                wrong[kind] = str(error)
        except Exception as error:
            wrong[kind] = f"{type(error).__name__}: {error}"
    assert not wrong


@wherever
def test_an_array_is_taken_as_a_tensor(taker):
    function, numbers, _ = TAKERS[taker]
    ours, theirs = (function(each) for each in (numbers, numbers.numpy()))
    assert repr(ours) == repr(theirs)


def test_inputs_made_in_inference_mode_are_measured_and_weights_refused():
    with torch.inference_mode():
        x, cell, lstm = (
            X.clone(),
            RHN(M, N, 2, dtype=torch.float64),
            LSTM(M, N, dtype=torch.float64),
        )
    assert torch.equal(gersgorin.input_jacobian(CELL, x, S), gersgorin.input_jacobian(CELL, X, S))
    with pytest.raises(RhnError, match=r"made in torch\.inference_mode"):
        gersgorin.spectra(cell, X)
    with pytest.raises(RhnError, match=r"made in torch\.inference_mode"):
        gersgorin.temporal_jacobian(lstm, X, torch.zeros(T, 2 * N, dtype=torch.float64))


ANALYSES = (
    "spectra",
    "products",
    "lyapunov",
    "influence",
    "gains",
    "gates",
    "pseudospectra",
    "fixed_points",
)
HALF = pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)


@HALF
@pytest.mark.parametrize("analysis", ANALYSES)
def test_a_module_in_half_precision_is_measured_in_double_precision(analysis, half):
    torch.manual_seed(0)
    module, x = torch.nn.GRU(M, N).to(half), X[:, None].to(half)
    found = getattr(gersgorin, analysis)(module, x)
    assert str(found) == str(getattr(gersgorin, analysis)(module.double(), x.double()))


@HALF
@pytest.mark.parametrize("analysis", ANALYSES)
def test_a_step_in_half_precision_is_refused_in_one_sentence(analysis, half):
    measure, eye = getattr(gersgorin, analysis), torch.eye(N).to(half)
    said = f"computes in {str(half)[6:]}: expected x, the state and the weights in float32"
    for x, s in ((X.to(half), S[0].to(half)), (X.to(half), S[0]), (X, S[0].to(half))):
        with pytest.raises(InvalidInputError, match=said):
            measure(lambda x, s: torch.tanh(eye.to(s) @ s + x.sum()), x, s0=s)


@HALF
def test_starts_of_a_search_and_a_model_that_only_runs_in_half_precision_are_refused(half):
    weight = torch.ones(2, M).to(half)
    for measure in (
        lambda: gersgorin.fixed_points(lambda x, s: s / 2, X[0], starts=S.to(half)),
        lambda: gersgorin.fixed_points(lambda x, s: s / 2, X[0].to(half), starts=S),
        lambda: gersgorin.influence(lambda x: x.cumsum(0) @ weight.T, X[:, None].to(half)),
        lambda: gersgorin.trajectory(lambda x, s: s / 2, X, S[0].to(half)),
    ):
        with pytest.raises(InvalidInputError, match=f"computes in {str(half)[6:]}"):
            measure()


@HALF
def test_a_training_run_in_half_precision_is_recorded_as_in_double_precision(half):
    torch.manual_seed(0)
    module, x = torch.nn.GRU(M, N).to(half), X[:, None].to(half)
    recorder = gersgorin.Recorder(module, x, every=1)
    module(x)[0].float().square().sum().backward()
    recorder.step()
    recorded = recorder.recording
    same = gersgorin.Recorder(module.double(), x.double()).recording
    assert (recorded.radius[0] == same.radius[0]).all()
    norm = module.weight_hh_l0.grad.norm().item()
    assert recorded.gradient_norm[1, 1] == pytest.approx(norm)

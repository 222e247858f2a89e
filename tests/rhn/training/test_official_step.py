"""One training step is the official TensorFlow one: an independent NumPy reference, proved first,
then compared with.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import assert_close
from tables import for_each

from rhn.cells import CellMasks
from rhn.models import LanguageModel
from rhn.models.dropout import Masks
from rhn.training.config import LanguageConfig
from rhn.training.ensemble import Ensemble
from rhn.training.language import LanguageTask
from rhn.training.optimizers import OPTIMIZERS
from rhn.training.trainer import Trials, training_step
from tests.rhn.texts import SMALL, small_corpus
from tests.rhn.training.numpy_language_model import (
    Window,
    backward,
    cost,
    learning_rate,
    official,
    ours,
)
from tests.rhn.training.numpy_language_model import training_step as official_step

# more steps than words: every row repeats a word, whose occurrences share noise_x
V, N, B, T = 5, 7, 3, 6
WEIGHT_DECAY = 1e-3
RATES = [0.3, 0.05]  # of the two stacked models
TOLERANCE = 1e-10

NETWORKS = [
    pytest.param(
        tied, depth, layers, id=f"{'tied' if tied else 'untied'}-depth{depth}-layers{layers}"
    )
    for tied in (True, False)
    for depth in (1, 3)
    for layers in (1, 2)
]
every_network = pytest.mark.parametrize(("tied", "depth", "layers"), NETWORKS)


@every_network
def test_the_references_backward_is_the_derivative_of_its_cost(tied, depth, layers):
    """Every entry, by the complex step Im cost(p + i e) / e: a finite difference without
    cancellation, exact to rounding.
    """
    parameters = draw_parameters(tied, depth, layers, seed=1)
    window = draw_window(parameters, seed=2)
    gradients = ours(backward(official(parameters), window, WEIGHT_DECAY))
    assert gradients.keys() == parameters.keys()
    for name, values in parameters.items():
        difference = np.empty_like(values)
        for index in np.ndindex(values.shape):
            moved = values.astype(complex)
            moved[index] += 1e-30j
            difference[index] = cost(parameters | {name: moved}, window, WEIGHT_DECAY).imag / 1e-30
        np.testing.assert_allclose(
            gradients[name], difference, rtol=1e-10, atol=1e-13, err_msg=name
        )


@every_network
@for_each(
    ("kernel", "gradient_norm", "clips"),
    [("manual", 0.5, True), ("manual", 1e4, False), ("reference", 0.5, True)],
)
def test_two_windows_of_training_are_the_official_ones(
    tied, depth, layers, kernel, gradient_norm, clips
):
    """Two stacked models, each with weights, dropout, states and a learning rate of its own, read
    the same text.
    """
    theirs = [draw_parameters(tied, depth, layers, seed) for seed in (1, 2)]
    stack = Ensemble.of([model_of(parameters, kernel) for parameters in theirs])
    states = [draw_window(parameters, seed).states for seed, parameters in enumerate(theirs, 3)]
    our_states = stacked_states(states)
    how = {"weight_decay": WEIGHT_DECAY, "gradient_norm": gradient_norm}
    task = LanguageTask(replace(SMALL, gradient_norm=gradient_norm), small_corpus(20))
    text = np.random.default_rng(5).integers(V, size=(B, 2 * T + 1))

    for tokens, seeds in ((text[:, : T + 1], (6, 7)), (text[:, T:], (8, 9))):
        windows = [
            draw_window(theirs[k], seeds[k], tokens)._replace(states=states[k]) for k in range(2)
        ]
        wanted = [
            official_step(theirs[k], windows[k], learning_rate=RATES[k], **how) for k in range(2)
        ]
        assert all((each.norm > gradient_norm) == clips for each in wanted)

        read, rates = torch.from_numpy(tokens.T.copy()), torch.tensor(RATES, dtype=torch.float64)
        before = {name: t.clone() for name, t in stack.weights.items()}
        trials = Trials([0, 1], stack, rates, {})
        optimizer = OPTIMIZERS["sgd"](weight_decay=WEIGHT_DECAY, clip=gradient_norm)
        drawn = [(stacked_masks(windows), None)]
        log, (our_states,) = training_step(task, optimizer, [trials], (read,), drawn, [our_states])
        for k, each in enumerate(wanted):
            assert_same(log[k, 0], each.loss, "loss")
            assert_same(log[k, 1], each.norm, "gradient norm")
            applied = {
                name: (before[name] - t) / rates.view(-1, *[1] * (t.dim() - 1))
                for name, t in stack.weights.items()
            }
            assert_all_same(applied, k, each.gradients, "gradient of")
            assert_all_same(stack.weights, k, each.parameters, "updated")
            for layer, state in enumerate(each.states):
                assert_same(our_states[layer][k], state, f"last state of layer {layer}")
        theirs, states = [each.parameters for each in wanted], [each.states for each in wanted]


def test_the_learning_rate_of_every_epoch_is_the_official_one():
    """Penn Treebank: 0.2 for twenty epochs, then divided by 1.02 once more each epoch. Ours count
    from 1, theirs from 0.
    """
    config = LanguageConfig(corpus="ptb", learning_rate=0.2, lr_decay=1.02, decay_after=20)
    rates = [learning_rate(0.2, 1.02, 20, epoch) for epoch in range(500)]
    assert rates[19:22] == [0.2, 0.2 / 1.02, 0.2 / 1.02**2]
    assert [config.learning_rate / config.decay(epoch) for epoch in range(1, 501)] == pytest.approx(
        rates, rel=1e-12
    )


def draw_parameters(tied, depth, layers, seed):
    """Our names and shapes; untied, the embedding has the vocabulary's size, as the vocabulary is
    smaller than the state.
    """
    g = np.random.default_rng(seed)
    E = N if tied else V
    shapes = {"embedding": (V, E), "output_bias": (V,)} | (
        {} if tied else {"output_weight": (V, N)}
    )
    for k in range(layers):
        shapes |= {
            f"cells.{k}.weight_ih": (2 * N, N if k else E),
            f"cells.{k}.weight_hh": (depth, 2 * N, N),
            f"cells.{k}.bias": (depth, 2 * N),
        }
    return {name: g.normal(scale=0.6, size=shape) for name, shape in shapes.items()}


def draw_window(parameters, seed, text=None):
    """Random states and noise with zeros, and random text (B, T + 1) unless given; a word has one
    draw of noise_x a row.
    """
    g = np.random.default_rng(seed)
    layers = sum(name.endswith("weight_hh") for name in parameters)
    words = g.integers(V, size=(B, T + 1)) if text is None else text
    window = Window(
        tokens=words[:, :-1],
        targets=words[:, 1:],
        states=[g.uniform(-0.8, 0.8, (B, N)) for _ in range(layers)],
        noise_x=np.take_along_axis(draw_noise(g, 0.6, B, V), words[:, :-1], axis=1)[..., None],
        noise_i=[
            draw_noise(g, 0.5, B, parameters[f"cells.{k}.weight_ih"].shape[1])
            for k in range(layers)
        ],
        noise_h=[draw_noise(g, 0.6, B, N) for _ in range(layers)],
        noise_o=draw_noise(g, 0.5, B, 1, N),
    )
    noises = (window.noise_x, *window.noise_i, *window.noise_h, window.noise_o)
    mixed = all(noise.min() == 0 and noise.max() > 1 for noise in noises)
    return window if mixed else draw_window(parameters, seed + 100, text)


def draw_noise(g, keep, *shape):
    return (g.random(shape) < keep) / keep


def model_of(parameters, kernel):
    """A model with these parameters; fails unless the names and shapes are exactly its own."""
    depth, _, n = parameters["cells.0.weight_hh"].shape
    layers = sum(name.endswith("weight_hh") for name in parameters)
    model = LanguageModel(
        vocabulary_size=V,
        hidden_size=n,
        depth=depth,
        layers=layers,
        tied="output_weight" not in parameters,
        kernel=kernel,
        dtype=torch.float64,
    )
    model.load_state_dict({name: torch.from_numpy(p) for name, p in parameters.items()})
    return model


def stacked_states(states):
    """K lists of (B, n), one for each layer -> a tuple of (K, B, n)."""
    return tuple(torch.from_numpy(np.stack(of_layer)) for of_layer in zip(*states, strict=True))


def stacked_masks(windows):
    """The noise of K windows as our masks, (K, ...) each."""
    together = lambda arrays: torch.from_numpy(np.stack(arrays))  # noqa: E731
    cells = [
        CellMasks(
            input=together([window.noise_i[layer][None] for window in windows]),
            state=together([window.noise_h[layer][None] for window in windows]),
        )
        for layer in range(len(windows[0].states))
    ]
    return Masks(
        embedding=together([window.noise_x[..., 0].T for window in windows]),
        cells=tuple(cells),
        output=together([window.noise_o[:, 0] for window in windows]),
    )


def assert_same(got, wanted, name):
    assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), TOLERANCE, name)


def assert_all_same(got, k, wanted, what):
    """Tensors (K, ...) by name, and those of model k."""
    assert got.keys() == wanted.keys()
    for name in wanted:
        assert_same(got[name][k], wanted[name], f"{what} {name}")

"""One training step is the official TensorFlow one, written as plain equations in official_language_model."""

import numpy as np
import pytest
import torch
from cases import assert_close

from rhn.cells.masks import CellMasks
from rhn.engine.stack import Stack
from rhn.language.config import LanguageConfig
from rhn.language.step import training_step
from rhn.models.dropout import Masks
from rhn.models.language import LanguageModel
from tests.rhn.language.official_language_model import Window, learning_rate
from tests.rhn.language.official_language_model import training_step as official_step

V, N, B, T = 5, 7, 3, 6  # more steps than words: every row repeats a word, whose occurrences share noise_x
WEIGHT_DECAY = 1e-3
RATES = [0.3, 0.05]  # of the two stacked models
TOLERANCE = 1e-10

NETWORKS = [
    pytest.param(tied, depth, layers, id=f"{'tied' if tied else 'untied'}-depth{depth}-layers{layers}")
    for tied in (True, False)
    for depth in (1, 3)
    for layers in (1, 2)
]


@pytest.mark.parametrize(("tied", "depth", "layers"), NETWORKS)
@pytest.mark.parametrize("kernel", ["reference", "manual"])
@pytest.mark.parametrize(("gradient_norm", "clips"), [(0.5, True), (100.0, False)], ids=["clipped", "unclipped"])
def test_two_windows_of_training_are_the_official_ones(tied, depth, layers, kernel, gradient_norm, clips):
    """Two stacked models, each with weights, dropout, states and a learning rate of its own, read the same text."""
    theirs = [draw_parameters(tied, depth, layers, seed) for seed in (1, 2)]
    stack = Stack.of([model_of(parameters, kernel) for parameters in theirs])
    states = [draw_window(parameters, seed).states for seed, parameters in enumerate(theirs, 3)]
    our_states = stacked_states(states)
    how = {"weight_decay": WEIGHT_DECAY, "gradient_norm": gradient_norm}
    text = torch.from_numpy(np.random.default_rng(5).integers(V, size=(B, 2 * T + 1)))

    for tokens, seeds in ((text[:, : T + 1], (6, 7)), (text[:, T:], (8, 9))):
        windows = [draw_window(theirs[k], seeds[k], tokens)._replace(states=states[k]) for k in range(2)]
        wanted = [official_step(theirs[k], windows[k], learning_rate=RATES[k], **how) for k in range(2)]
        assert all((each.norm > gradient_norm) == clips for each in wanted)

        read, rates = tokens.T, torch.tensor(RATES, dtype=torch.float64)
        taken, gradients = training_step(
            stack, read, our_states, stacked_masks(windows), rates, LanguageConfig(corpus="text", **how)
        )
        for k, each in enumerate(wanted):
            assert_same(taken.nll[k], each.loss, "loss")
            assert_same(taken.norm[k], each.norm, "gradient norm")
            assert_all_same(gradients, k, each.gradients, "gradient of")
            assert_all_same(stack.weights, k, each.parameters, "updated")
            for layer, state in enumerate(each.states):
                assert_same(taken.states[layer][k], state, f"last state of layer {layer}")
        theirs, states = [each.parameters for each in wanted], [each.states for each in wanted]
        our_states = taken.states


def test_the_learning_rate_of_every_epoch_is_the_official_one():
    """Penn Treebank: 0.2 for twenty epochs, then divided by 1.02 once more each epoch. Ours count from 1, theirs from 0."""
    config = LanguageConfig(corpus="ptb", learning_rate=0.2, lr_decay=1.02, decay_after=20)
    rates = [learning_rate(0.2, 1.02, 20, epoch) for epoch in range(500)]
    assert rates[19:22] == [0.2, 0.2 / 1.02, 0.2 / 1.02**2]
    assert [config.rate(epoch) for epoch in range(1, 501)] == pytest.approx(rates, rel=1e-12)


def draw_parameters(tied, depth, layers, seed):
    """Our names and shapes; untied, the embedding has the vocabulary's size, as the vocabulary is smaller than the state."""
    g = np.random.default_rng(seed)
    E = N if tied else V
    shapes = {"embedding": (V, E), "output_bias": (V,)} | ({} if tied else {"output_weight": (V, N)})
    for k in range(layers):
        shapes |= {
            f"cells.{k}.weight_ih": (2 * N, N if k else E),
            f"cells.{k}.weight_hh": (depth, 2 * N, N),
            f"cells.{k}.bias": (depth, 2 * N),
        }
    return {name: torch.from_numpy(g.normal(scale=0.6, size=shape)) for name, shape in shapes.items()}


def draw_window(parameters, seed, text=None):
    """Random states and noise with zeros, and random text (B, T + 1) unless given; a word has one draw of noise_x a row."""
    g = np.random.default_rng(seed)
    layers = sum(name.endswith("weight_hh") for name in parameters)
    text = torch.from_numpy(g.integers(V, size=(B, T + 1))) if text is None else text
    window = Window(
        tokens=text[:, :-1],
        targets=text[:, 1:],
        states=[torch.from_numpy(g.uniform(-0.8, 0.8, (B, N))) for _ in range(layers)],
        noise_x=draw_noise(g, 0.6, B, V).gather(1, text[:, :-1])[..., None],
        noise_i=[draw_noise(g, 0.5, B, parameters[f"cells.{k}.weight_ih"].shape[1]) for k in range(layers)],
        noise_h=[draw_noise(g, 0.6, B, N) for _ in range(layers)],
        noise_o=draw_noise(g, 0.5, B, 1, N),
    )
    noises = (window.noise_x, *window.noise_i, *window.noise_h, window.noise_o)
    assert all(noise.min() == 0 and noise.max() > 1 for noise in noises)
    return window


def draw_noise(g, keep, *shape):
    return torch.from_numpy((g.random(shape) < keep) / keep)


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
    model.load_state_dict(parameters)
    return model


def stacked_states(states):
    """K lists of (B, n), one for each layer -> a tuple of (K, B, n)."""
    return tuple(torch.stack(of_layer) for of_layer in zip(*states, strict=True))


def stacked_masks(windows):
    """The noise of K windows as our masks, (K, ...) each."""
    cells = [
        CellMasks(
            input=torch.stack([window.noise_i[layer][None] for window in windows]),
            state=torch.stack([window.noise_h[layer][None] for window in windows]),
        )
        for layer in range(len(windows[0].states))
    ]
    embedding = torch.stack([window.noise_x[..., 0].T for window in windows])
    return Masks(embedding, tuple(cells), torch.stack([window.noise_o[:, 0] for window in windows]))


def assert_same(got, wanted, name):
    assert_close(got, wanted, TOLERANCE, name)


def assert_all_same(got, k, wanted, what):
    """Tensors (K, ...) by name, and those of model k."""
    assert got.keys() == wanted.keys()
    for name in wanted:
        assert_same(got[name][k], wanted[name], f"{what} {name}")

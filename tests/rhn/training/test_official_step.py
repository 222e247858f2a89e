"""One training step is the official TensorFlow one, by an independent NumPy reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import assert_close, others_slow

from rhn.cells import CellMasks
from rhn.models import LanguageModel
from rhn.models.dropout import Masks
from rhn.training.ensemble import Ensemble
from rhn.training.language import LanguageTask
from rhn.training.optimizers import OPTIMIZERS
from rhn.training.trainer import Trials, training_step
from tests.rhn.texts import SMALL, small_corpus
from tests.rhn.training.numpy_language_model import GATES, Window, ours
from tests.rhn.training.numpy_language_model import training_step as official_step

# more steps than words: every row repeats a word, whose occurrences share noise_x
V, N, B, T = 5, 7, 3, 6
WEIGHT_DECAY = 1e-3
RATES = [0.3, 0.05]  # of the two stacked models
TOLERANCE = 1e-10


@pytest.mark.parametrize(
    ("E", "depth", "layers"),
    others_slow([(N, 1, 1), (V, 1, 2), (N, 2, 2), (V, 3, 1)], (N, 1, 1), (V, 1, 2)),
)
@pytest.mark.parametrize(
    ("kernel", "gradient_norm", "clips"), [("manual", 0.5, True), ("reference", 1e4, False)]
)
def test_two_windows_of_training_are_the_official_ones(
    E, depth, layers, kernel, gradient_norm, clips
):
    """Two stacked models, each with weights, dropout, states and a learning rate of its own, read
    the same text. Tied weights need an embedding of size N; untied it is V, as V < N.
    """
    theirs = [draw_variables(E, depth, layers, seed) for seed in (1, 2)]
    shape = {"hidden_size": N, "depth": depth, "layers": layers, "tied": E == N}
    models = [
        LanguageModel(vocabulary_size=V, kernel=kernel, dtype=torch.float64, **shape) for _ in "ab"
    ]
    for model, variables in zip(models, theirs, strict=True):
        model.load_state_dict({n: torch.from_numpy(p) for n, p in ours(variables).items()})
    stack = Ensemble.of(models)
    states = [draw_window(layers, E, seed).states for seed in (3, 4)]
    our_states = stacked(states)
    how = {"weight_decay": WEIGHT_DECAY, "gradient_norm": gradient_norm}
    task = LanguageTask(replace(SMALL, gradient_norm=gradient_norm), small_corpus(20))
    text = np.random.default_rng(5).integers(V, size=(B, 2 * T + 1))

    for tokens, seeds in ((text[:, : T + 1], (6, 7)), (text[:, T:], (8, 9))):
        windows = [
            draw_window(layers, E, seeds[k], tokens)._replace(states=states[k]) for k in range(2)
        ]
        wanted = [
            official_step(theirs[k], windows[k], learning_rate=RATES[k], **how) for k in range(2)
        ]
        assert all((each.norm > gradient_norm) == clips for each in wanted)

        read, rates = torch.from_numpy(tokens.T.copy()), torch.tensor(RATES, dtype=torch.float64)
        before = {name: t.clone() for name, t in stack.weights.items()}
        trials = Trials([0, 1], stack, rates, {})
        optimizer = OPTIMIZERS["sgd"](weight_decay=WEIGHT_DECAY, clip=gradient_norm)
        drawn = [stacked_masks(windows)]
        log, (our_states,) = training_step(task, optimizer, [trials], (read,), drawn, [our_states])
        applied = {
            name: (before[name] - t) / rates.view(-1, *[1] * (t.dim() - 1))
            for name, t in stack.weights.items()
        }
        for k, each in enumerate(wanted):
            assert_same(log[k, 0], each.loss, "loss")
            assert_same(log[k, 1], each.norm, "gradient norm")
            gradients, updated = ours(each.gradients), ours(each.variables)
            assert gradients.keys() == stack.weights.keys()
            for name, gradient in gradients.items():
                assert_same(applied[name][k], gradient, f"gradient of {name}")
                assert_same(stack.weights[name][k], updated[name], f"updated {name}")
            for layer, state in enumerate(each.states):
                assert_same(our_states[layer][k], state, f"last state of layer {layer}")
        theirs, states = [each.variables for each in wanted], [each.states for each in wanted]


def draw_variables(E, depth, layers, seed):
    """The official names and shapes."""
    g = np.random.default_rng(seed)
    shapes = {"embedding": (V, E), "softmax_b": (V,)} | ({} if E == N else {"softmax_w": (N, V)})
    for k in range(layers):
        for i in range(depth):
            for gate in GATES:
                rows = N if i else (N if k else E) + N
                shapes |= {f"RHN{k}/{gate}_{i}/Matrix": (rows, N), f"RHN{k}/{gate}_{i}/Bias": (N,)}
    return {name: g.normal(scale=0.6, size=shape) for name, shape in shapes.items()}


def draw_window(layers, E, seed, text=None):
    """Random states and noise with zeros, and random text (B, T + 1) unless given; a word has one
    draw of noise_x a row.
    """
    g = np.random.default_rng(seed)
    words = g.integers(V, size=(B, T + 1)) if text is None else text
    window = Window(
        tokens=words[:, :-1],
        targets=words[:, 1:],
        states=[g.uniform(-0.8, 0.8, (B, N)) for _ in range(layers)],
        noise_x=np.take_along_axis(draw_noise(g, 0.6, B, V), words[:, :-1], axis=1)[..., None],
        noise_i=[draw_noise(g, 0.5, B, N if k else E) for k in range(layers)],
        noise_h=[draw_noise(g, 0.6, B, N) for _ in range(layers)],
        noise_o=draw_noise(g, 0.5, B, 1, N),
    )
    noises = (window.noise_x, *window.noise_i, *window.noise_h, window.noise_o)
    mixed = all(noise.min() == 0 and noise.max() > 1 for noise in noises)
    return window if mixed else draw_window(layers, E, seed + 100, text)


def draw_noise(g, keep, *shape):
    return (g.random(shape) < keep) / keep


def stacked(lists):
    """K lists of arrays, one for each layer -> a tuple of (K, ...)."""
    return tuple(torch.from_numpy(np.stack(arrays)) for arrays in zip(*lists, strict=True))


def stacked_masks(windows):
    """The noise of K windows as our masks, (K, ...) each."""
    inputs = stacked([[noise[None] for noise in window.noise_i] for window in windows])
    states = stacked([[noise[None] for noise in window.noise_h] for window in windows])
    words, output = stacked([(w.noise_x[..., 0].T, w.noise_o[:, 0]) for w in windows])
    return Masks(words, tuple(map(CellMasks, inputs, states)), output)


def assert_same(got, wanted, name):
    assert_close(got, torch.as_tensor(wanted, dtype=torch.float64), TOLERANCE, name)

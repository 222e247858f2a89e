"""Which axis of outputs and targets is which, beside torch's cross entropy and plain loops."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from gersgorin.data.layout import Layout
from trainability.axes import OutputAxes
from trainability.losses import canonical_loss, losses_of_examples
from trainability.scores import score_of

B, T, M = 6, 5, 3
ORDERS = ("BTK", "BKT", "TBK")
G = torch.Generator().manual_seed(0)


def case(order, K):
    """(Outputs in an order of axes, classes (B, T) or (T, B), the loss of torch, x, its layout)."""
    z, y = torch.randn(B, T, K, generator=G), torch.randint(K, (B, T), generator=G)
    x, layout = torch.randn(B, T, M, generator=G), Layout(0 if order.index("B") == 0 else 1)
    if layout.batch == 1:
        x, y = x.transpose(0, 1), y.T
    places = ["BTK".index(name) for name in order]
    classes = order.index("K")

    def loss(z, y):
        return F.cross_entropy(z.movedim(classes, 1), y)

    return z.permute(places), y, loss, x, layout


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("K", [4, T, B], ids=["others", "as frames", "as examples"])
def test_the_axes_of_classes_for_each_frame_are_those_of_torchs_cross_entropy(order, K):
    z, y, loss, x, layout = case(order, K)
    axes = OutputAxes.of(z, y, loss, x, layout)
    assert (axes.batch, axes.frames, axes.classes) == tuple(order.index(name) for name in "BTK")
    assert (axes.units, axes.targets) == (axes.classes, layout.batch)
    assert axes.for_each_frame is (order[2] == "K")
    usual = canonical_loss(z, y, axes)
    assert float(usual(z, y)) == pytest.approx(float(loss(z, y)))


@pytest.mark.parametrize("order", ORDERS)
def test_losses_and_errors_of_examples_are_those_of_a_loop(order):
    z, y, loss, x, layout = case(order, 4)
    axes = OutputAxes.of(z, y, loss, x, layout)
    losses, wrong = [], []
    for b in range(B):
        logits = torch.empty(T, 4)
        for t, k in itertools.product(range(T), range(4)):
            logits[t, k] = z[tuple({"B": b, "T": t, "K": k}[name] for name in order)]
        own = y[b] if layout.batch == 0 else y[:, b]
        losses.append(float(F.cross_entropy(logits, own)))
        wrong.append(float((logits.argmax(1) != own).double().mean()))
    assert losses_of_examples(loss, z, y, axes).tolist() == pytest.approx(losses)
    score = score_of(loss, z, [(x, y)], axes)
    assert score.errors(z, y).tolist() == pytest.approx(wrong)


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("shape", ["(B,)", "(B, 1)", "(B, T)", "(B, T, 2)", "(1, B, 2)"])
def test_outputs_of_numbers(shape, batch):
    z, places = {
        "(B,)": (torch.randn(B), (0, None, None)),
        "(B, 1)": (torch.randn(B, 1), (0, None, 1)),
        "(B, T)": (torch.randn(B, T), (0, 1, 1)),
        "(B, T, 2)": (torch.randn(B, T, 2), (0, 1, 2)),
        "(1, B, 2)": (torch.randn(1, B, 2), (1, None, 2)),
    }[shape]
    x, y = torch.randn(B, T, M), torch.randn(z.shape if "1, B" not in shape else (B, 2))
    if batch:
        x = x.transpose(0, 1)
        if "T" in shape:
            z, y, places = z.transpose(0, 1), y.transpose(0, 1), (1, 0, places[2])
    axes = OutputAxes.of(z, y, F.mse_loss, x, Layout(batch))
    assert (axes.batch, axes.frames, axes.units) == places
    assert axes.classes is None and axes.for_each_frame is ("T" in shape)

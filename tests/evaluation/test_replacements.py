"""One part of a training is replaced at a time; the parts that a repair changes are found."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn

from evaluation.replacements import (
    FROM_REPAIRED,
    PARTS,
    Reference,
    changed_parts,
    data_of,
    error_of_probabilities,
    inputs_standardised,
    loss_for,
    replacements,
    targets_standardised,
    usual_loss,
)
from evaluation.sets import THREADS, trainings
from evaluation.threads.development import DEVELOPMENT
from evaluation.threads.set_aside import SET_ASIDE
from evaluation.threads.trainings import error


def test_right_parts_are_measured_without_the_package_that_is_judged():
    code = (
        "import sys; from evaluation.parts import SETS, trainings; [*map(trainings, SETS)];"
        "print([m for m in sys.modules if m.startswith('trainability')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@for_each(
    ("number", "parts"),
    [
        (609, ["loss"]),  # which overflows in one of two forms of equal value
        (3, ["targets"]),
        (15, ["inputs"]),
        (23, ["loss"]),
        (25, ["data"]),
        (29, ["order"]),
        (31, ["optimizer"]),
        (33, ["network"]),  # a state that is detached: equal outputs, other gradients
        (49, ["length"]),
        (59, ["order"]),
    ],
)
def test_the_parts_that_a_repair_changes(number, parts):
    make = (DEVELOPMENT | SET_ASIDE)[number]
    assert changed_parts(make(False), make(True)) == parts


def test_data_and_weights_depend_on_the_seed_only():
    draws = [data_of(DEVELOPMENT[1](False, seed))[0] for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_every_thread_has_its_address_and_part():
    rows = [*csv.DictReader(THREADS.open())]
    for name in ("development", "set_aside", "fresh", "later"):
        own = {row["number"] for row in rows if row["set"] == name}
        assert own == {number for number, _ in trainings(name)}
    for row in rows:
        assert row["address"].startswith("http")
        assert {part.strip() for part in row["part"].split("|")} <= set(PARTS)


def test_inputs_are_standardised_before_the_network():
    written = DEVELOPMENT[15](False)
    seen = []
    written.model.rnn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    changed = inputs_standardised(written, written)
    changed.model(changed.x)
    x = changed.x.double().numpy()
    expected = (x - x.mean((0, 1))) / x.std((0, 1), ddof=1)
    assert np.allclose(seen[0].numpy(), expected, atol=0.05)  # 42.73 has five digits in float32
    assert np.allclose(seen[0].numpy().std((0, 1)), 1, atol=0.01)


def test_targets_are_scaled_for_the_loss_and_back_for_the_error():
    written = DEVELOPMENT[13](False)
    y = written.y.clone()
    changed = targets_standardised(written, written)
    perfect = (y - y.mean()) / y.std()
    assert changed.loss_fn(perfect, changed.y).item() == pytest.approx(0, abs=1e-4)
    for p in changed.model.parameters():
        nn.init.zeros_(p)  # zero is now the mean of the targets: the best constant output
    assert error(changed) == pytest.approx(1, abs=0.02)


LOGITS = torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(35).view(7, 5) % 3


@for_each(
    ("kind", "output"),
    [
        ("numbers", LOGITS),
        ("classes", LOGITS.softmax(-1)),
        ("log-probabilities", LOGITS.log_softmax(-1)),
        ("numbers", LOGITS.mT),  # classes in the middle
    ],
)
def test_the_usual_loss_of_classes_is_the_cross_entropy(kind, output):
    expected = nn.functional.cross_entropy(LOGITS.flatten(0, 1), CLASSES.flatten())
    assert loss_for(output, CLASSES, kind)(output, CLASSES).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_probabilities_are_measured_as_logits_too():
    logits = nn.Identity()
    x, y = torch.tensor([-2.0, -1.0, 1.0, 2.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])

    def wrong_side_of_zero(model):
        return ((model(x) > 0) != (y > 0)).float().mean().item()

    assert wrong_side_of_zero(logits) == 0
    assert wrong_side_of_zero(nn.Sigmoid()) == 0.5
    assert error_of_probabilities(wrong_side_of_zero, nn.Sigmoid()) == 0


def test_a_loss_that_is_the_usual_one_is_not_replaced():
    assert usual_loss(DEVELOPMENT[15](False), None) is None
    assert usual_loss(DEVELOPMENT[43](False), None) is not None  # (N, 1) against (N,)


@for_each(
    ("x", "output", "y"),
    [
        (torch.randn(6, 9, 2), torch.randn(6, 1), torch.randn(6, 1)),
        (torch.randn(6, 9, 2), torch.randn(6), torch.randn(6)),
        (torch.randn(6, 9), torch.randn(6, 9, 4), torch.zeros(6, 9).long()),
        (torch.randn(6, 9, 2), torch.randn(6, 4, 9), torch.zeros(6, 9).long()),
        (torch.randn(6, 3, 9), torch.randn(6, 9, 4), torch.zeros(6, 9).long()),
        (torch.zeros(6, 2, 8).long(), torch.randn(6, 1), torch.randn(6, 1)),
        (torch.zeros(6, 20).long(), torch.randn(6, 10, 11), torch.zeros(6, 10).long()),
        (torch.randn(6, 5, 1, 8, 8), torch.randn(6, 7), torch.zeros(6).long()),
    ],
)
def test_the_reference_has_outputs_of_the_same_shape(x, output, y):
    assert Reference(x, output, "numbers", y, False, 12)(x).shape == output.shape


def test_a_repair_of_several_parts_gives_each_alone():
    make = DEVELOPMENT[17]  # classes for numbers: targets, loss and network
    found = [(r.part, r.change) for r in replacements(make(False), make(True))]
    assert [part for part, _ in found[:3]] == ["targets", "loss", "network"]
    assert found[1][1] is FROM_REPAIRED["loss"]
    changed = found[1][1](make(False), make(True))
    assert changed.loss_fn is make(True).loss_fn
    assert type(changed.model[1].out) is nn.Linear
    assert changed.model[1].out.out_features == 1

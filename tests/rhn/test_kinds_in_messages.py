"""Kinds of objects in messages: the word for each, its article, and no other place that writes
them.
"""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from rhn.utils.validation import kind_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("rhn", "gersgorin", "trainability", "optim_study", "analysis")


def halved(x, s):
    return s / 2


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "None"),
        (3, "an int"),
        ([], "a list"),
        ({}, "a dict"),
        (halved, "the function halved"),
        ("".join, "the function join"),
        (nn.LSTM, "the class LSTM"),
        (nn.LSTM(1, 1), "an LSTM"),
        (nn.RNN(1, 1), "an RNN"),
        (nn.GRU(1, 1), "a GRU"),
        (nn.MSELoss(), "an MSELoss"),
        (torch.optim.SGD([torch.zeros(1)]), "an SGD"),
        (torch, "a module"),
        (partial(halved, 1), "a partial"),
    ],
)
def test_an_object_is_called_by_its_kind(value, words):
    assert kind_of(value) == words


def test_no_other_place_writes_the_kind_of_an_object():
    """`a {type(x).__name__}` is wrong for an int, an RNN and None."""
    written = re.compile(r"(\b[Aa]n?|\bis|returned|holds) \{type\(\w+\)\.__name__\}")
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if written.search(line)
    ]
    assert not found

"""Small networks with random weights, and random pieces and texts, that the tests of `analysis`
share.
"""

import math
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from rhn.checkpoints import save
from rhn.data.text import Vocabulary
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.config import LanguageConfig
from rhn.training.evaluation import evaluate_chorales

WORDS = Vocabulary(
    "words", ("the", "<eos>", "cat", "dog", "sees", "a", "<unk>", "hears", "and", "small", "bird")
)
V = len(WORDS)

GATED = [
    ("rhn", 3, {}),
    ("rhn", 2, {"coupled": False, "gate_constant": 0.5}),
    ("lstm", 1, {}),
    ("gru", 1, {}),
]
UNGATED = [
    ("dt-rnn", 3, {}),
    ("dts-rnn", 3, {}),
    ("dts-rnn", 3, {"skip": "last"}),
    ("rnn", 1, {"nonlinearity": "relu"}),
]


def network(
    cell="rhn", depth=3, options=None, *, hidden_size=7, layers=1, seed=0, dtype=torch.float64
) -> PolyphonicModel:
    """Weights of standard deviation 0.9 / sqrt(inputs), biases of 0.3."""
    return drawn(
        PolyphonicModel(
            cell,
            hidden_size=hidden_size,
            depth=depth,
            layers=layers,
            dtype=dtype,
            **(options or {}),
        ),
        seed,
    )


def language_network(
    cell="rhn", depth=3, options=None, *, V=V, layers=1, tied=False, seed=0, dtype=torch.float64
) -> LanguageModel:
    """As `network`, over V symbols, with 7 hidden units."""
    sizes = {"vocabulary_size": V, "hidden_size": 7, "depth": depth, "layers": layers, "tied": tied}
    return drawn(LanguageModel(cell, **sizes, dtype=dtype, **(options or {})), seed)


def drawn(model: nn.Module, seed: int) -> nn.Module:
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 0.3 if "bias" in name else 0.9 / math.sqrt(p.shape[-1])
            p.copy_(scale * torch.randn(p.shape, generator=g, dtype=torch.float64))
    return model


def language_checkpoint(
    path, model: LanguageModel, vocabulary: Vocabulary = WORDS, corpus: str = "text"
):
    """As `rhn train` writes it."""
    about = {
        "train": asdict(
            LanguageConfig(corpus=corpus, depth=model.depth, hidden_size=model.hidden_size)
        )
    }
    data = {"name": corpus, "source": f"{corpus}, from a test", "checksum": "0" * 64}
    return save(path, model, **about, data=data, vocabulary=vocabulary.to_json())


def sentences(count: int, seed=0) -> str:
    """A text of so many lines of 3 to 9 known words."""
    rng, words = np.random.default_rng(seed), [word for word in WORDS.symbols if word[0] != "<"]
    return "".join(" ".join(rng.choice(words, rng.integers(3, 10))) + "\n" for _ in range(count))


def tokens(*lengths: int, V=V, seed=0) -> list[np.ndarray]:
    """Random ids of V symbols."""
    rng = np.random.default_rng(seed)
    return [rng.integers(V, size=length) for length in lengths]


def rolls(*lengths: int, seed=0) -> list[np.ndarray]:
    """Random piano rolls of about four keys a frame."""
    rng = np.random.default_rng(seed)
    return [(rng.random((length, 88)) < 0.05).astype(np.uint8) for length in lengths]


def name(case) -> str:
    """A row of a parametrised test."""
    return (
        case
        if isinstance(case, str)
        else "-".join(map(str, case))
        if isinstance(case, tuple)
        else str(case)
    )


def loss_of_chorales(model, pieces) -> float:
    return evaluate_chorales(model, pieces).nll


def loss_of_texts(model, parts) -> float:
    """Nats a predicted token, one sequence and one token at a time."""
    total, count = 0.0, 0
    for ids in parts:
        states = None
        for now, following in pairwise(ids.tolist()):
            with torch.no_grad():
                reading = model(torch.tensor([[now]]), states)
            states = reading.states
            total -= reading.logits.flatten().log_softmax(0)[following].item()
            count += 1
    return total / count


SUBJECTS = {
    "chorales": (network, rolls(9, 4, 6, 1, 12), loss_of_chorales),
    "texts": (language_network, tokens(9, 4, 6, 1, 12), loss_of_texts),
}

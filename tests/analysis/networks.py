"""Small networks with random weights, and random pieces and texts, that the tests of `analysis`
share.
"""

import math
from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rhn.checkpoints import save
from rhn.data.text import Vocabulary
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.config import LanguageConfig

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
SHUT = {"rhn": {1: -1e4, 2: 1e4}, "lstm": {0: -1e4, 1: 1e4}, "gru": {1: 1e4}}
"""By cell: the blocks of the bias that hold the state, and what they are for that."""


def network(
    cell="rhn", depth=3, options=None, *, hidden_size=7, layers=1, seed=0, dtype=torch.float64
) -> PolyphonicModel:
    """Weights of standard deviation 0.9 / sqrt(inputs), biases of 0.3."""
    sizes = {"hidden_size": hidden_size, "depth": depth, "layers": layers}
    return drawn(PolyphonicModel(cell, **sizes, dtype=dtype, **(options or {})), seed)


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


def language_checkpoint(path, model: LanguageModel, vocabulary=WORDS, corpus="text"):
    """As `rhn train` writes it."""
    sizes = {"depth": model.depth, "hidden_size": model.hidden_size}
    about = {"train": asdict(LanguageConfig(corpus=corpus, **sizes))}
    data = {"name": corpus, "source": f"{corpus}, from a test", "checksum": "0" * 64}
    return save(path, model, **about, data=data, vocabulary=vocabulary.to_json())


def sentences(count: int, seed=0) -> str:
    """A text of so many lines of 3 to 9 known words."""
    rng, words = np.random.default_rng(seed), [word for word in WORDS.symbols if word[0] != "<"]
    return "".join(" ".join(rng.choice(words, rng.integers(3, 10))) + "\n" for _ in range(count))


def tokens(*lengths: int, seed=0) -> list[np.ndarray]:
    """Random ids."""
    rng = np.random.default_rng(seed)
    return [rng.integers(V, size=length) for length in lengths]


def rolls(*lengths: int, seed=0) -> list[np.ndarray]:
    """Random piano rolls of about four keys a frame."""
    rng = np.random.default_rng(seed)
    return [(rng.random((length, 88)) < 0.05).astype(np.uint8) for length in lengths]


@torch.no_grad()
def nats_of_chorales(model, pieces) -> np.ndarray:
    """The loss of each piece, summed over its predicted frames, by torch, one piece at a time."""
    frames = [torch.from_numpy(piece).double().unsqueeze(1) for piece in pieces if len(piece) > 1]
    loss = F.binary_cross_entropy_with_logits
    return np.array([float(loss(model(x[:-1]), x[1:], reduction="sum")) for x in frames])


@torch.no_grad()
def nats_of_texts(model, parts) -> np.ndarray:
    """The same of tokens."""
    ids = [torch.from_numpy(part) for part in parts if len(part) > 1]
    logits = [model(x[:-1, None]).logits[:, 0] for x in ids]
    return np.array(
        [float(F.cross_entropy(y, x[1:], reduction="sum")) for x, y in zip(ids, logits, strict=True)]
    )


SUBJECTS = {
    "chorales": (network, rolls(9, 4, 6, 1, 12), nats_of_chorales),
    "texts": (language_network, tokens(9, 4, 6, 1, 12), nats_of_texts),
}

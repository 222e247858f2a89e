"""How long a training takes here, to its order of magnitude, from the sizes of its network and data and one short measurement.

A step forward and back costs 6 floating-point operations a weight and token: 2 forward, 4 back. An embedding that is only looked up
costs none. Trainings reach about half the rate of a large matrix product: measured on one core, 189 tokens a second of ptb-depth-5
are 25 GFLOP/s, 5,900 of it with 100 units 40, 0.34 epochs a second of jsb-depth-10 60, where the product has about 110.
"""

import time
from typing import TYPE_CHECKING

from rhn.data.datasets import TEXT_SETS
from rhn.presets import ChoraleConfig, LanguageConfig, parameters

if TYPE_CHECKING:
    from rhn.data.text import TextCorpus

OPERATIONS = 6  # a weight and token
REACHED = 0.5  # of the rate of a matrix product
FRAMES = 13_411  # of the training chorales
PADDED = 1.5  # frames computed for each real one, and the losses of both splits after each epoch
SIZE, SECONDS = 512, 0.1


def seconds_here(config: ChoraleConfig | LanguageConfig, rate: float, text: "TextCorpus | None" = None) -> float:
    """Seconds of all epochs at a rate of so many operations a second in matrix products.

    text: what is read, where it is not a published text in full.
    """
    words, tokens = (None, _tokens(config)) if text is None else (len(text.vocabulary), len(text.train))
    return OPERATIONS * _weights(config, words) * tokens * config.epochs / (REACHED * rate)


def measured_rate() -> float:
    """Operations a second of a matrix product of torch's threads on the CPU, the best of some."""
    import torch

    a, best, end = torch.ones(SIZE, SIZE), float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * SIZE**3 / best


def _weights(config: ChoraleConfig | LanguageConfig, words: int | None) -> int:
    """Those that are multiplied with, for each token."""
    total = parameters(config, words)
    if isinstance(config, ChoraleConfig) or config.tied:
        return total
    words = words or TEXT_SETS[config.corpus].counts["vocabulary"]
    return total - words * (config.embedding_size or min(config.hidden_size, words))


def _tokens(config: ChoraleConfig | LanguageConfig) -> float:
    """Of an epoch."""
    return FRAMES * PADDED if isinstance(config, ChoraleConfig) else TEXT_SETS[config.corpus].counts["train"]

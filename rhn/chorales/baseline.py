"""What a network has to beat: the best prediction that is the same for every frame."""

import numpy as np

from rhn.data import Corpus


def constant_output_nll(corpus: Corpus) -> float:
    """The least training loss of a constant output, in nats a frame: each key's probability is its share of the predicted frames.

    A network that ignores its input and its state can reach it with its output biases alone. The sum over keys of the entropy
    -p log p - (1 - p) log(1 - p), p the key's share of all training frames but the first of each piece.
    """
    frames = np.concatenate([np.asarray(piece)[1:] for piece in corpus.train])
    p = frames.mean(axis=0)
    p = p[(p > 0) & (p < 1)]  # a key that never sounds, or always, costs nothing
    return float(-(p * np.log(p) + (1 - p) * np.log1p(-p)).sum())

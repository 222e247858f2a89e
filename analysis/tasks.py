"""What a network reads and predicts, music or text: the one place where the two differ.

|           | `Music`                                              | `Text`                                                       |
|-----------|------------------------------------------------------|--------------------------------------------------------------|
| networks  | `rhn.models.PolyphonicModel`, a cell alone           | `rhn.models.LanguageModel`                                   |
| sequence  | piano roll (T, keys)                                 | ids of tokens (T,)                                           |
| predicted | frame t + 1, every key a coin of its own             | token t + 1, one of V                                        |
| bars      | the score's, else every 4 quarter notes              | ends of lines: after `<eos>` or a newline                    |

Each step is predicted from those before it in its sequence, whose state starts at zero; the first is not predicted. Another kind of
network is a third class here, and a line in `task_of`.

Legend: T steps of a sequence, B sequences of a batch, V symbols of a vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from analysis.layers import places
from analysis.sequences import bars_of, sequences_of
from analysis.texts import ids_of, symbols_of
from rhn.data.vocabulary import EOS
from rhn.kernels.bernoulli import frame_nll
from rhn.models import LanguageModel
from rhn.training.batches import Minibatch, evaluation_batches

TEXT_BATCH_BYTES = 256 << 20  # of the probabilities of a batch: with a large vocabulary, most of what a text takes
TEXT_ROWS = 64


@dataclass(frozen=True)
class Music:
    """Piano rolls."""

    width: int
    """Keys of a frame: numbers that a step of one sequence takes beside the cells' own."""
    step = "frame"
    bars = staticmethod(bars_of)

    def sequences(self, data) -> list[np.ndarray]:
        """Arrays (T, keys); see `analysis.sequences.sequences_of`."""
        return sequences_of(data, self.width)

    def inputs(self, sequences: Sequence[np.ndarray], like: Tensor) -> Tensor:
        """What the network is given, (T, B, keys) on the device and in the dtype of a weight; zeros after a sequence's end."""
        return side_by_side(sequences).to(like)

    def batches(self, sequences: Sequence[np.ndarray], like: Tensor) -> list[Minibatch]:
        """The batches that losses are measured over: those of `rhn.training.evaluation`."""
        return evaluation_batches(sequences, device=like.device, dtype=like.dtype)

    def nll(self, model: Callable, frames: Tensor, mask: Tensor) -> Tensor:
        """Nats of each sequence, (B,) float64, summed over its predicted frames: `rhn.training.evaluation` before its last sum."""
        return frame_nll(model(frames[:-1]), frames[1:], mask[1:]).sum(0, dtype=torch.float64)

    def symbols(self, sequence: np.ndarray) -> np.ndarray:
        """A frame has no name: (0,)."""
        return np.empty(0, str)


@dataclass(frozen=True)
class Text:
    """Tokens of a vocabulary."""

    width: int
    """V, as the probabilities of all symbols are."""
    step = "token"
    symbols = staticmethod(symbols_of)

    def sequences(self, data) -> list[np.ndarray]:
        """Arrays (T,) int64; see `analysis.texts.ids_of`."""
        return ids_of(data, self.width)

    def inputs(self, sequences: Sequence[np.ndarray], like: Tensor) -> Tensor:
        """What the network is given, (T, B) int64 on the device of a weight; zeros after a sequence's end."""
        return side_by_side(sequences).to(like.device)

    def batches(self, sequences: Sequence[np.ndarray], like: Tensor) -> list[Minibatch]:
        """The batches that losses are measured over, longest sequences first, as many rows as memory allows."""
        usable = sorted((s for s in sequences if len(s) > 1), key=len, reverse=True)
        rows = max(1, min(TEXT_ROWS, TEXT_BATCH_BYTES // (len(usable[0]) * self.width * like.element_size())))
        some = [usable[start : start + rows] for start in range(0, len(usable), rows)]
        masks = (side_by_side([np.ones(len(s)) for s in batch]).to(like) for batch in some)
        counts = (sum(len(s) - 1 for s in batch) for batch in some)
        return [Minibatch(self.inputs(batch, like), *rest) for batch, *rest in zip(some, masks, counts, strict=True)]

    def nll(self, model: Callable, tokens: Tensor, mask: Tensor) -> Tensor:
        """Nats of each sequence, (B,) float64, summed over its predicted tokens."""
        return (model(tokens[:-1], None, None, tokens[1:]).nll * mask[1:]).sum(0, dtype=torch.float64)

    def bars(self, sequence: np.ndarray) -> tuple[np.ndarray, bool]:
        """Where the lines of a sequence end, in tokens: after each `<eos>` or newline; no score says so."""
        return np.flatnonzero(np.isin(symbols_of(sequence), (EOS, "\n"))) + 1, False


def task_of(model: nn.Module) -> Music | Text:
    """What a network reads and predicts; raises InvalidInputError for one without a recurrent cell of `rhn.cells`."""
    first = places(model)[0].cell
    if isinstance(model, LanguageModel):
        return Text(model.vocabulary_size)
    return Music(getattr(model, "input_size", None) or first.input_size)


def side_by_side(sequences: Sequence[np.ndarray]) -> Tensor:
    """Sequences (T_i, ...) as one tensor (T, B, ...), with zeros after their ends."""
    return pad_sequence([torch.tensor(np.asarray(sequence), device="cpu") for sequence in sequences])

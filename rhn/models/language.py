"""The language model: tokens in, a recurrence, and log-odds for the next token (Zilly et al. 2017, section 5.2).

Legend: T steps, B rows, V symbols of the vocabulary, E embedding size, n hidden units, K stacked models elsewhere.

    x[t] = e[w[t]] m_x[t]                 e (V, E) the embedding, m the dropout masks (see `rhn.models.dropout`), 1 without dropout
    y    = cells(x)                       stacked, each with its own masks on its input and on its state
    logits[t] = U (y[t] m_o) + b          U = e if the weights are tied (Press and Wolf 2017), else (V, n)

So logits[t] is the prediction of token w[t + 1].
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rhn.cells import Initialization
from rhn.errors import InvalidInputError
from rhn.kernels import SOFTMAX
from rhn.models.building import RecurrentModel, draw
from rhn.models.dropout import Masks
from rhn.utils.validation import positive

States = tuple[Tensor, ...]


class Reading(NamedTuple):
    """The output of a model for a window.

    logits (T, B, V), or None with targets; the cells' last states, (B, state_size) each; the last cell's outputs (T, B, n),
    before dropout; nll (T, B) of the targets in nats, or None.
    """

    logits: Tensor | None
    states: States
    outputs: Tensor
    nll: Tensor | None


class LanguageModel(RecurrentModel):
    """An embedding, a stack of recurrent cells and a softmax.

    Args:
        cell, hidden_size, depth, layers, generator, options: as in `PolyphonicModel`.
        vocabulary_size: V.
        embedding_size: E. None: the official code's rule, V if the weights are not tied and V < n, otherwise n.
        tied: the output uses the embedding's weights; needs E = n.
        init: how all weights start, biases included; see `rhn.cells.init`. None: as the cell starts by itself.

    Raises:
        InvalidInputError: an unknown cell, or a size or option that it does not have.
    """

    sizes = ("vocabulary_size", "hidden_size", "depth", "layers", "embedding_size", "tied")

    def __init__(
        self,
        cell: str | Callable[..., nn.Module] = "rhn",
        *,
        vocabulary_size: int,
        hidden_size: int,
        depth: int = 1,
        layers: int = 1,
        embedding_size: int | None = None,
        tied: bool = False,
        init: str | Initialization | None = "uniform:0.04",
        generator: torch.Generator | None = None,
        device=None,
        dtype=None,
        **options,
    ):
        V, n = positive("vocabulary_size", vocabulary_size), positive("hidden_size", hidden_size)
        if embedding_size is None:
            embedding_size = n if tied else min(V, n)
        embedding_size = positive("embedding_size", embedding_size)
        if tied and embedding_size != hidden_size:
            raise InvalidInputError(
                f"tied weights need as many embedding sizes as hidden units: got {embedding_size} and {hidden_size}"
            )
        where = {"device": device or torch.get_default_device(), "dtype": dtype}
        super().__init__(cell, embedding_size, n, depth, layers, init, generator, options, where)
        self.vocabulary_size, self.embedding_size, self.tied = V, embedding_size, bool(tied)
        self.embedding = nn.Parameter(torch.empty(V, embedding_size, **where))
        if not tied:
            self.output_weight = nn.Parameter(torch.empty(V, n, **where))
        self.output_bias = nn.Parameter(torch.empty(V, **where))
        draw(self, self.init, generator, recurse=False)

    def forward(
        self,
        tokens: Tensor,
        states: States | None = None,
        masks: Masks | None = None,
        targets: Tensor | None = None,
    ) -> Reading:
        """Read tokens (T, B) int64 from the cells' states, zero if None, and predict the next ones.

        With targets (T, B), compute their negative log-likelihoods instead of the logits, in less time and memory.

        Raises InvalidInputError if a shape, or the number of states or masks, does not fit.
        """
        masks = Masks.none(self.layers) if masks is None else masks
        self._check(tokens, states, masks)
        x = F.embedding(tokens, self.embedding)
        if masks.embedding is not None:
            x = x * masks.embedding.unsqueeze(-1)
        last, states = [], [None] * self.layers if states is None else states
        for cell, s0, dropout in zip(self.cells, states, masks.cells, strict=True):
            x, s = cell(x, s0, dropout=dropout) if any(m is not None for m in dropout) else cell(x, s0)
            last.append(s)
        layer = self.embedding if self.tied else self.output_weight, self.output_bias
        if targets is not None:
            nll = SOFTMAX(x, *layer, targets, masks.output)
            return Reading(None, tuple(last), x, nll)
        y = x if masks.output is None else x * masks.output
        return Reading(F.linear(y, *layer), tuple(last), x, None)

    def _check(self, tokens: Tensor, states, masks: Masks) -> None:
        if tokens.dim() != 2 or tokens.dtype != torch.int64:
            raise InvalidInputError(f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}: expected int64, (T, B)")
        for name, given in (("states", states), ("masks", masks.cells)):
            if given is not None and (isinstance(given, Tensor) or len(given) != self.layers):
                raise InvalidInputError(f"{name} are to be a tuple of {self.layers}: one for each cell of the stack")

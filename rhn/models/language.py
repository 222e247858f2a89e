"""The language model (Zilly et al. 2017, section 5.2): an embedding, a stack of recurrent cells and
a softmax. logits[t] predict token t + 1. For V symbols and embeddings of size E, with dropout masks
m (see `rhn.models.dropout`):

    x[t] = e[w[t]] m_x[t]           e (V, E) the embedding
    y    = cells(x)                 stacked, each with its own masks on its input and on its state
    logits[t] = U (y[t] m_o) + b    U = e if the weights are tied (Press and Wolf 2017), else (V, n)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rhn.cells.init import Initialization, draw
from rhn.errors import InvalidInputError
from rhn.kernels import SOFTMAX
from rhn.models.dropout import Masks
from rhn.models.networks import RecurrentModel
from rhn.utils.validation import unexpected, whole_number

States = tuple[Tensor, ...]


class Reading(NamedTuple):
    """The output of a language model for a window of tokens."""

    logits: Tensor | None  # (T, B, V), without targets
    states: States  # the last state (B, state_size) of each cell
    outputs: Tensor  # of the last cell (T, B, n), before dropout
    nll: Tensor | None  # (T, B) in nats, with targets


class LanguageModel(RecurrentModel):
    """A language model: an embedding, a stack of recurrent cells and a softmax.

    Args:
        vocabulary_size: V, the number of symbols.
        embedding_size: E. None: as in the official code, V if the weights are not tied and V < n,
            otherwise n.
        tied: whether the output layer uses the embedding's weights; this needs E = n.
        others: as in `PolyphonicModel`. For training, the state of a cell must be one tensor.

    >>> model = LanguageModel("rhn", vocabulary_size=10, hidden_size=4, depth=2)
    >>> model(torch.tensor([[1], [5], [2]]))[0].shape  # ids (T, B) to logits (T, B, V)
    torch.Size([3, 1, 10])
    """

    sizes = ("vocabulary_size", "hidden_size", "depth", "layers", "embedding_size", "tied")
    takes_ids = True

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
        V = whole_number("vocabulary_size", vocabulary_size)
        n = whole_number("hidden_size", hidden_size)
        if embedding_size is None:
            embedding_size = n if tied else min(V, n)
        least, most = (n, n) if tied else (1, None)
        E = whole_number("embedding_size", embedding_size, least, most)
        where: dict = {"device": device or torch.get_default_device(), "dtype": dtype}
        start: dict = {"init": init, "generator": generator}
        super().__init__(cell, E, n, depth, layers=layers, **start, options=options | where)
        self.vocabulary_size, self.embedding_size, self.tied = V, E, bool(tied)
        self.embedding = nn.Parameter(torch.empty(V, E, **where))
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
        """Read tokens (T, B) int64, beginning from the cells' `states` (None: zero). With targets
        (T, B), compute their negative log-likelihoods instead of the logits.
        """
        masks = Masks() if masks is None else masks
        _check_tokens(tokens)
        x = F.embedding(tokens, self.embedding)
        if masks.embedding is not None:
            x = x * masks.embedding.unsqueeze(-1)
        last, starts = [], [None] * self.layers if states is None else states
        for k, cell in enumerate(self.cells):
            x, s = cell(x, starts[k], *masks.cells[k : k + 1])
            last.append(s)
        layer = self.embedding if self.tied else self.output_weight, self.output_bias
        if targets is not None:
            nll = SOFTMAX(x, *layer, targets, masks.output)
            return Reading(None, tuple(last), x, nll)
        y = x if masks.output is None else x * masks.output
        return Reading(F.linear(y, *layer), tuple(last), x, None)


def _check_tokens(tokens: Any) -> None:
    """Refuse other things than ids (T, B) or (T,)."""
    kind = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
    if kind not in (torch.int64, torch.int32):
        raise InvalidInputError(f"type of tokens is {kind}: expected torch.int64, for ids")
    if tokens.dim() not in (1, 2):
        raise unexpected("tokens", tokens, "ids (T, B) or (T,)")

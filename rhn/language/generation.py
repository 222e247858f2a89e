"""Text drawn from a language model, token by token.

    w[t + 1] ~ softmax(z[t] / temperature)         z[t] the logits after w[1..t]; with top_k only of the k most likely symbols

The model first reads the prompt. Without one it reads a newline, which ends what was before, or begins with a symbol drawn uniformly
where its vocabulary has no newline. `<unk>`, which stands for a word that is not known, is never drawn.
"""

import copy

import torch
from torch import Tensor, nn

from rhn.cells.base import positive
from rhn.data.text import Vocabulary
from rhn.data.vocabulary import EOS
from rhn.errors import InvalidInputError
from rhn.language.evaluation import check_temperature
from rhn.utils.validation import check_seed

NEWLINE = {"words": EOS, "characters": "\n", "bytes": ord("\n")}


@torch.no_grad()
def generate(
    model: nn.Module,
    vocabulary: Vocabulary,
    *,
    prompt: str = "",
    length: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> str:
    """The prompt as the model read it (a word that is not known is `<unk>`), and `length` tokens after it.

    Args:
        temperature: the logits are divided by it: below 1 likelier, above 1 more varied.
        top_k: draw from so many most likely symbols. None: from all.
        seed: the same text for the same seed.

    Raises:
        InvalidInputError: an argument is out of range, a symbol of the prompt is not in the vocabulary, that is of another model, or
            the model's output is not finite.
    """
    check_temperature(temperature)
    check_seed(seed)
    length, top_k = positive("length", length), None if top_k is None else positive("top_k", top_k)
    if len(vocabulary) != model.vocabulary_size:
        raise InvalidInputError(
            f"the vocabulary has {len(vocabulary)} symbols, expected the model's {model.vocabulary_size}: "
            "give the one that the model was trained with"
        )
    if vocabulary.unknown is not None and len(vocabulary) == 1:
        raise InvalidInputError("the vocabulary has `<unk>` only, expected a word that can be drawn")
    generator, model = torch.Generator().manual_seed(seed), copy.deepcopy(model).eval()
    text = vocabulary.encode(prompt).tolist()
    unread, end = list(text), len(text) + length
    if not text:
        newline = vocabulary.index.get(NEWLINE[vocabulary.unit])
        text += (
            []
            if newline is not None
            else [_draw(torch.zeros(len(vocabulary), device="cpu"), vocabulary, None, generator)]
        )
        unread = text or [newline]
    states = None
    while len(text) < end:
        reading = model(torch.tensor(unread, device=model.embedding.device).unsqueeze(1), states)
        states = reading.states
        logits = reading.logits[-1, 0].double().cpu()
        if not torch.isfinite(logits).all():
            raise InvalidInputError(
                f"the model's output is no longer finite after {len(text)} tokens: its weights are too large, as after a "
                "training that diverged"
            )
        unread = [_draw(logits, vocabulary, top_k, generator, temperature)]
        text += unread
    return vocabulary.decode(text)


def _draw(
    logits: Tensor,
    vocabulary: Vocabulary,
    top_k: int | None,
    generator: torch.Generator,
    temperature: float = 1.0,
) -> int:
    """A symbol other than `<unk>`, of logits (V,)."""
    if vocabulary.unknown is not None:
        logits = logits.index_fill(0, torch.tensor(vocabulary.unknown, device=logits.device), -torch.inf)
    if top_k is not None:
        kept = logits.topk(min(top_k, len(logits)))
        logits = torch.full_like(logits, -torch.inf).scatter(0, kept.indices, kept.values)
    logits = (logits - logits.max()) / temperature  # 0 is the largest: no temperature is too cold for it
    return int(torch.multinomial(logits.softmax(0), 1, generator=generator))

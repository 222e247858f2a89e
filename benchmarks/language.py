"""Training steps of language models: ours, against a plain autograd loop, several seeds as one
program against one after another, and the update of the weights alone.

Random tokens: no step's work depends on them. Every step is whole: forward, backward, norm, update,
with the paper's dropout.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.registry import benchmark
from rhn.data.text import TextCorpus, Vocabulary
from rhn.models.dropout import draw_masks
from rhn.training.build import build_model
from rhn.training.config import LanguageConfig
from rhn.training.configure import preset
from rhn.training.ensemble import Ensemble
from rhn.training.language import LanguageTask
from rhn.training.optimizers import OPTIMIZERS
from rhn.training.trainer import Trainer

WINDOWS = 3  # steps a measurement


def text(config: LanguageConfig, words: int) -> TextCorpus:
    """Random tokens, enough that no epoch ends."""
    size = config.batch_size * (config.window * 2000 + 1)
    tokens = torch.randint(words, (size,), generator=torch.Generator().manual_seed(0)).numpy()
    vocabulary = Vocabulary("words", tuple(f"w{k}" for k in range(words)))
    return TextCorpus(
        tokens, tokens, tokens, vocabulary=vocabulary, name="text", source="random", checksum=""
    )


def ours(config: LanguageConfig, words: int, device: str, seeds: tuple[int, ...] = (0,)):
    """So many steps of our own training."""
    task = LanguageTask(config, text(config, words), device)
    trainer = Trainer(task, {seed: task.model(seed) for seed in seeds})

    def run():
        for _ in range(WINDOWS):
            trainer.run_step()

    return run


def by_hand(
    config: LanguageConfig, words: int, device: str, model: nn.Module, read: Callable[..., tuple]
):
    """So many steps by the book: autograd, torch's cross-entropy, clipping and SGD; read(tokens,
    state) gives logits and state.
    """
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    tokens = torch.randint(words, (config.window + 1, config.batch_size), device=device)
    state = None

    def run():
        nonlocal state
        for _ in range(WINDOWS):
            logits, state = read(tokens[:-1], state)
            loss = (
                F.cross_entropy(logits.flatten(0, 1), tokens[1:].flatten(), reduction="sum")
                / tokens.shape[1]
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
            optimizer.step()
            state = tuple(s.detach() for s in state)
        return loss.item()

    return run


def plain(config: LanguageConfig, words: int, device: str):
    """The same steps of our model with its equation as a loop."""
    model, generator = build_model(config, words).to(device), torch.Generator(device).manual_seed(0)
    for cell in model.cells:
        cell.kernel = "reference"

    def read(tokens, states):
        reading = model(tokens, states, draw_masks(model, tokens, config.dropout, generator))
        return reading.logits, reading.states

    return by_hand(config, words, device, model, read)


class PlainLSTM(nn.Module):
    """An embedding, `nn.LSTM` and a linear layer, as a PyTorch tutorial writes a language model."""

    def __init__(self, words: int, embedding: int, hidden: int, dropout: float):
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(words, embedding), nn.LSTM(embedding, hidden)
        self.output, self.dropout = nn.Linear(hidden, words), nn.Dropout(dropout)

    def forward(self, tokens, state):
        y, state = self.lstm(self.dropout(self.embedding(tokens)), state)
        return self.output(self.dropout(y)), state


def lstm(config: LanguageConfig, words: int, device: str):
    """The same steps of `PlainLSTM` with as many parameters as our model, or a few less."""
    most, E = sum(p.numel() for p in build_model(config, words).parameters()), config.hidden_size
    hidden = max(h for h in range(1, 4 * E) if words * (E + h + 1) + 4 * h * (E + h + 2) <= most)
    model = PlainLSTM(words, E, hidden, config.drop_output).to(device)
    return by_hand(config, words, device, model, model)


SMALL, SOTA = replace(preset("ptb-depth-5"), hidden_size=200), preset("ptb-sota")
WORDS = 10_000


LOOP, LAYER = "a plain autograd loop", "nn.LSTM of equal parameters"
STEPS = (  # what, its settings, against, steps of the other, options of the row
    ("RHN n=200 depth=5, 10,000 words", SMALL, LOOP, plain, {"floor": 1.5}),
    ("RHN n=200 depth=5, 10,000 words", SMALL, LAYER, lstm, {}),
    ("ptb-sota", SOTA, LOOP, plain, {"floor": 1.2, "full": True, "devices": ("cpu", "cuda")}),
    # one layer of cuDNN has a tenth of the products in a row
    ("ptb-sota", SOTA, LAYER, lstm, {"floor": 0.0, "devices": ("cuda",)}),
)

for what, config, against, steps, options in STEPS:
    pairs = 7 if config is SMALL else 3

    @benchmark(f"language model step, {what}", against, pairs=pairs, **options)
    def _(device, config=config, steps=steps):
        return ours(config, WORDS, device), steps(config, WORDS, device)


@benchmark("language model step, RHN n=50 depth=5, 1,000 words, 4 seeds", "one after another")
def seeds(device: str):
    config = replace(preset("ptb-depth-5"), hidden_size=50)
    alone = [ours(config, 1000, device, (seed,)) for seed in range(4)]
    return ours(config, 1000, device, (0, 1, 2, 3)), lambda: [run() for run in alone]


@benchmark(
    "clipping and SGD of ptb-sota's 23 million weights",
    "torch's clip_grad_norm_ and SGD (foreach)",
    0.95,
)
def update(device: str):
    stack = Ensemble.of([build_model(SOTA, WORDS)], device)
    gradients = {name: 1e-3 * torch.randn_like(w) for name, w in stack.weights.items()}
    rate = torch.full((1,), 1e-6, device=device)
    theirs = [nn.Parameter(w[0].clone()) for w in stack.weights.values()]
    for p, g in zip(theirs, gradients.values(), strict=True):
        p.grad = g[0].clone()
    optimizer = torch.optim.SGD(theirs, lr=1e-6, foreach=True)

    def plain_update():
        nn.utils.clip_grad_norm_(theirs, 10.0, foreach=True)
        optimizer.step()

    sgd = OPTIMIZERS["sgd"](clip=10.0)
    return (lambda: sgd.step(stack.weights, gradients, {}, rate)), plain_update

"""A small text and training for tests of language models: sentences of a made-up language with
enough structure to learn.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from rhn.data.text import TextCorpus, Vocabulary
from rhn.training.build import build_models
from rhn.training.config import LanguageConfig
from rhn.training.language import LanguageTask
from rhn.training.trainer import Trainer

# a training of a second that learns
SMALL = LanguageConfig(
    corpus="text",
    depth=2,
    hidden_size=12,
    init="uniform:0.2",
    batch_size=4,
    window=7,
    epochs=3,
    drop_embedding=0.05,
    drop_input=0.1,
    drop_hidden=0.1,
    drop_output=0.1,
    weight_decay=1e-6,
)
# and one with all that a training of a text can have
EVERYTHING = replace(
    SMALL,
    drop_candidate=0.1,
    lr_decay=1.5,
    decay_after=1,
    layers=2,
)


def metrics(folder: Path) -> list[dict]:
    """What a training wrote of its epochs."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


NOUNS, VERBS = ("cat", "dog", "bird", "fish"), ("sees", "hears", "likes")


def sentences(count: int, seed: int = 0) -> str:
    """So many sentences of five words, one a line: who does what to whom, and whoever hears, hears
    itself.
    """
    rng, lines = np.random.default_rng(seed), []
    for _ in range(count):
        who, whom, verb = rng.choice(NOUNS), rng.choice(NOUNS), rng.choice(VERBS)
        lines.append(f"the {who} {verb} the {who if verb == 'hears' else whom}")
    return "\n".join(lines) + "\n"


def tokens_of(text: str) -> list[str]:
    """The words of a text, a newline being <eos>."""
    return text.replace("\n", " <eos> ").split()


def small_corpus(train: int = 120, others: int = 30) -> TextCorpus:
    """A corpus of so many sentences, in memory."""
    texts = [tokens_of(sentences(n, seed)) for seed, n in enumerate((train, others, others))]
    vocabulary = Vocabulary("words", tuple(dict.fromkeys(texts[0])))
    splits = [np.asarray(vocabulary.encode(words)) for words in texts]
    return TextCorpus(
        *splits, vocabulary=vocabulary, name="text", source="made up", checksum="0" * 64
    )


def text_trainer(config, corpus, seeds=(0,), device="cpu", **more) -> Trainer:
    """A trainer of these seeds of a language model."""
    task = LanguageTask(config, corpus, device)
    return Trainer(task, build_models(task.model, seeds, device), **more)


def finish(trainer):
    """Train to the end."""
    while trainer.live():
        trainer.run_step()
    return trainer

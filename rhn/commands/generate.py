"""`rhn generate`: text that a trained language model makes up."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from rhn.command import check_seed
from rhn.commands.loading import text_model
from rhn.commands.options import Checkpoint, MaybeWhole, Name, Number, Whole


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Print a text that a trained language model makes up."""

    checkpoint: Checkpoint
    """best.safetensors of a run."""
    prompt: Annotated[str, tyro.conf.arg(metavar="TEXT")] = ""
    """The text to go on from."""
    length: Whole = 200
    """How many words or characters."""
    temperature: Number = 1.0
    """Below 1 more predictable, above 1 wilder."""
    top_k: MaybeWhole = None
    """Choose among the so many most probable ones alone."""
    seed: Whole = 0
    """Seed of the choices."""
    cell: Name = None
    """The cell of a checkpoint with a cell of your own, as package.module:factory."""

    def run(self) -> None:
        check_seed(self.seed)
        trained = text_model(self.checkpoint, self.cell)
        from rhn.language.generation import generate

        print(
            generate(
                trained.model,
                trained.vocabulary,
                prompt=self.prompt,
                length=self.length,
                temperature=self.temperature,
                seed=self.seed,
                top_k=self.top_k,
            )
        )

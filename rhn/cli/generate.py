"""`rhn generate`: text that a trained language model makes up."""

from dataclasses import dataclass
from typing import Annotated

from rhn.utils.options import Arg, Trained, check_most

MOST_TOKENS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Generate(Trained):
    """Print a text that a trained language model makes up."""

    prompt: Annotated[str, Arg("TEXT")] = ""
    """The text to go on from."""
    length: int = 200
    """How many words or characters."""
    temperature: float = 1.0
    """Below 1 more predictable, above 1 wilder."""
    top_k: int | None = None
    """Choose among the N most probable ones only."""
    seed: int = 0
    """Seed of the choices."""

    def run(self) -> None:
        check_most(self, length=MOST_TOKENS)
        from rhn.training.sampling import generate
        from rhn.training.trained import load_text_model

        trained = load_text_model(self.checkpoint, self.cell)
        how = {name: getattr(self, name) for name in ("prompt", "length", "temperature", "seed", "top_k")}
        print(generate(trained.model, trained.vocabulary, **how))

"""`rhn sample`: a chorale that a trained model makes up."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rhn.command import check_seed
from rhn.commands.loading import chorale_model
from rhn.commands.options import Checkpoint, Name, Number, Whole


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Write a chorale that a trained model makes up."""

    checkpoint: Checkpoint
    """best.safetensors of a run or of a study."""
    output: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """What to write, .mid or .musicxml."""
    temperature: Number = 1.0
    """Below 1 more predictable, above 1 wilder."""
    bars: Whole = 16
    """Length in bars of four quarter notes."""
    seed: Whole = 0
    """Seed of the notes."""
    cell: Name = None
    """The cell of a checkpoint with a cell of your own, as package.module:factory."""

    def run(self) -> None:
        from rhn.chorales.sampling import check_output, sample_chorale, write_chorale

        check_seed(self.seed)
        check_output(self.output)
        model = chorale_model(self.checkpoint, self.cell)
        frames = sample_chorale(model, bars=self.bars, temperature=self.temperature, seed=self.seed)
        print(f"chorale: {write_chorale(frames, self.output)}")

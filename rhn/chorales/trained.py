"""A trained model of chorales, and the chorales that it was trained on."""

from pathlib import Path

from rhn.checkpoints import load_model
from rhn.data import Corpus, chorales
from rhn.engine.folder import data_path
from rhn.models import PolyphonicModel


def load_chorale_model(path: Path, cell: str | None = None) -> PolyphonicModel:
    """The polyphonic model in a checkpoint, or the best one of a training's folder; raises as `rhn.checkpoints.load_model`."""
    return load_model(path, cell, PolyphonicModel)


def corpus_of(checkpoint: Path, data: Path | None) -> Corpus:
    """The chorales of a file; None: of the file that the run's folder names, else those rebuilt from music21's scores."""
    return chorales(data_path(checkpoint) if data is None else data)

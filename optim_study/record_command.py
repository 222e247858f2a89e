"""`optim-study record`: the best trial of each study trained once more, to the same bits, with `gersgorin.Recorder` beside it."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from optim_study.protocol import StudyConfig
from optim_study.results import Row, stored_rows
from optim_study.stored import Stored
from rhn.cli.common import progress_bars
from rhn.errors import InvalidInputError
from rhn.utils.options import Arg, File, check_least

NAME = "record.npz"


@dataclass(frozen=True, kw_only=True)
class Record(Stored):
    """Train the best trial of each study once more, alone, and record its spectra, gains, gates and gradients on the way.

    examples:
      optim-study record --out runs/small --arch rhn --depth 6
      gersgorin recording runs/small/rhn-depth6
    """

    arch: tuple[str, ...] | None = None
    """Only these architectures."""
    depth: Annotated[tuple[int, ...] | None, Arg("L")] = None
    """Only these recurrence depths."""
    every: int = 50
    """Steps of SGD from one measurement to the next, each at the end of its epoch."""
    data: File = None
    """The original chorales (.json or .pickle), where the study was trained on them."""

    def run(self) -> None:
        check_least(self, every=1)
        best = [
            (config, min(rows, key=lambda row: (row.loss(config.objective), row.trial)))
            for config, storage in self.studies()
            if self._is_asked_for(config) and (rows := stored_rows([config], storage))
        ]
        if not best:
            raise InvalidInputError(f"{self.out} holds no complete trial of such a study: see optim-study status")
        with progress_bars() as report:
            for config, row in best:
                path = self.out / config.name / NAME
                reached = record_trial(config, row, path, self.every, self.data, report(config.name))
                print(
                    f"{config.name}: trial {row.trial}, best {reached:.3f} (in the study {row.loss(config.objective):.3f}): {path}"
                )

    def _is_asked_for(self, config: StudyConfig) -> bool:
        return (self.arch is None or config.arch in self.arch) and (self.depth is None or config.depth in self.depth)


def record_trial(config: StudyConfig, row: Row, path: Path, every: int, data: Path | None, progress) -> float:
    """Train a trial from its start as the study did, and record it; the best loss it comes to. Raises DataError for other data."""
    import numpy as np
    import torch

    from optim_study.trainer import TorchTrainer, load_corpus
    from rhn.cli.recording import Recorders, probed
    from rhn.plotting.provenance import words_of_built

    number = row.trial
    training = TorchTrainer(data).start(config, {number: config.settings(number)}, {})
    corpus, study = load_corpus(data), f"trial {number} of the study of seed {config.seed}"
    probe = torch.as_tensor(np.asarray(corpus.valid[0])).float()
    recorders = Recorders(
        every,
        probe,
        lambda trial: path,
        networks=lambda training: {number: training.model(number)},
        loss=lambda model: model.nll(probe).mean(),
        about=lambda trial, model: "; ".join((words_of_built(model.cells[0]), study, probed(corpus))),
    )
    with closing(recorders):
        recorders.unit(training)
        while training.live():
            training.run_epoch()
            recorders.unit(training)
            progress(training.epoch, row.epochs)
    curve = training.curve(number)[:, 0 if config.objective == "train" else 1]
    return float(curve[np.isfinite(curve)].min())

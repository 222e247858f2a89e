"""The folder of a run: states and records of trials, the best models, and the lock of the driver.

`OUT/.lock` is locked while a driver works. The folder `OUT/ARCH-depthL` of a study holds

    trials/0007.safetensors        the rolling state of trial 7 during its training: arrays and curve
    trials/0007-best.safetensors   its best weights, until the driver has compared them
    trials/0007.json               its record after its end: outcome and whole curve
    best.safetensors               the best model so far, marked with its trial and value

Workers write the files of trials, the driver all others; it also removes the first two of a trial with a record. Files are replaced
whole and contain the fingerprint of the study's protocol: files of another study count as absent. A damaged file counts as absent too,
so the trial is trained again, to the same result; an unreadable file is an error.
"""

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from optim_study.backend import Outcome
from optim_study.protocol import StudyConfig
from rhn.errors import DamagedError, DataError
from rhn.training.state import TrialState, read_state, read_state_metadata, write_state
from rhn.utils.io import read_json, remove_leftovers, write_json, writing
from rhn.utils.validation import check_fields

_logger = logging.getLogger(__name__)

BEST = "best.safetensors"
_CURVE = "study_curve"  # key beside the backend's own arrays
_FINGERPRINT = "study_fingerprint"


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial."""

    outcome: Outcome
    curve: np.ndarray
    """As in `TrialState`; losses that are not finite are NaN."""
    recurrence: str | None = None
    """The implementation of the recurrence, in words."""


class StudyFolder:
    """The files of one study. Methods raise OutputError if a file cannot be written, DataError if one cannot be read."""

    def __init__(self, out: Path, config: StudyConfig):
        self.folder, self._fingerprint = out / config.name, config.fingerprint
        self._trials = self.folder / "trials"

    def make(self) -> None:
        """Create the folder."""
        with writing(self._trials):
            self._trials.mkdir(parents=True, exist_ok=True)

    def load_state(self, number: int) -> TrialState | None:
        """The rolling state of a trial, or None; a damaged one is logged."""
        path = self._state_path(number)
        try:
            found = read_state(path)
        except DamagedError:
            _logger.warning("%s is damaged: trial %d starts again from epoch 0", path, number)
            return None
        if found is None or found[1].get(_FINGERPRINT) != self._fingerprint:
            return None
        arrays, _ = found
        return TrialState(arrays.pop(_CURVE), arrays)

    def save_state(self, number: int, state: TrialState) -> None:
        """Save the rolling state of a trial."""
        arrays = {**state.arrays, _CURVE: np.asarray(state.curve, dtype=np.float64)}
        write_state(self._state_path(number), arrays, {_FINGERPRINT: self._fingerprint, "epoch": str(state.epoch)})

    def epochs(self, numbers: Iterable[int]) -> dict[int, int]:
        """The epochs of the saved states of these trials; those without one are left out."""
        found = {}
        for number in numbers:
            try:
                about = read_state_metadata(self._state_path(number)) or {}
            except DamagedError:  # a worker reads it again, and says so
                continue
            if about.get(_FINGERPRINT) == self._fingerprint:
                found[number] = int(about["epoch"])
        return found

    def recorded(self) -> list[int]:
        """The trials with a record, by number."""
        names = [path.name for path in self._trials.glob("*.json")]
        return sorted(int(name[:-5]) for name in names if re.fullmatch(r"\d+\.json", name))

    def load_record(self, number: int) -> TrialRecord | None:
        """The record of a finished trial, or None; a damaged one is logged."""
        path = self._record_path(number)
        try:
            content = read_json(path)
            if content[_FINGERPRINT] != self._fingerprint:
                return None
            losses = [[math.nan if loss is None else loss for loss in pair] for pair in content["curve"]]
            outcome, curve = Outcome(**content["outcome"]), np.array(losses, dtype=np.float64)
            check_fields(outcome)
            if curve.ndim != 2 or curve.shape[1] != 2:
                raise ValueError(f"its curve has shape {curve.shape}, expected (epochs + 1, 2)")
            return TrialRecord(outcome, curve, content.get("recurrence"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        except (ValueError, TypeError, KeyError) as error:
            _logger.warning("%s is damaged (%s): trial %d is trained again", path, error, number)
            return None

    def save_record(
        self, number: int, record: TrialRecord, value: float, write: Callable[[Path, Mapping[str, object]], None]
    ) -> None:
        """Save the record of a trial, after its model if none so far is better.

        write(path, mark): writes the model atomically, with the mark as the entry `kept` of its metadata.
        """
        if self._is_better(value, number):
            write(self._model_path(number), {"fingerprint": self._fingerprint, "value": value, "trial": number})
        content = {"outcome": asdict(record.outcome), "curve": record.curve.tolist(), "recurrence": record.recurrence}
        write_json(self._record_path(number), {_FINGERPRINT: self._fingerprint, **content})

    def settle(self, number: int, value: float) -> None:
        """Keep the model of a recorded trial if it is the best so far, in any order of finishing; remove its other files."""
        model = self._model_path(number)
        if model.exists() and self._is_better(value, number):
            with writing(self.folder / BEST):
                model.replace(self.folder / BEST)
        for path in (model, self._state_path(number)):
            path.unlink(missing_ok=True)
            remove_leftovers(self._trials, path.stem)

    def is_unsettled(self, number: int) -> bool:
        """True if a recorded trial has other files left."""
        return self._model_path(number).exists() or self._state_path(number).exists()

    def remove_record(self, number: int) -> None:
        """Remove a record that is damaged or of another study."""
        self._record_path(number).unlink(missing_ok=True)

    def best(self) -> tuple[float, int] | None:
        """Value and trial of the best model so far."""
        path = self.folder / BEST
        try:
            path.open("rb").close()
            with safe_open(path, framework="numpy") as file:
                mark = json.loads(file.metadata()["rhn"])["metadata"]["kept"]
            return (mark["value"], mark["trial"]) if mark["fingerprint"] == self._fingerprint else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            _logger.warning("%s is damaged (%s): the next trial to finish replaces it", path, error)
            return None

    def _is_better(self, value: float, number: int) -> bool:
        best = self.best()
        return best is None or (value, number) < best

    def _state_path(self, number: int) -> Path:
        return self._trials / f"{number:04d}.safetensors"

    def _model_path(self, number: int) -> Path:
        return self._trials / f"{number:04d}-best.safetensors"

    def _record_path(self, number: int) -> Path:
        return self._trials / f"{number:04d}.json"


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read ({error.strerror or error}): expected a file with read permission")

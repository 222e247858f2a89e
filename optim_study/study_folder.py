"""What a study leaves in its folder `OUT/ARCH-depthL`.

    trials/0007.safetensors   the rolling state of trial 7 while it trains: arrays and curve
    trials/0007.json          its record once it has finished: outcome and whole curve; the rolling state is gone then
    best.safetensors          the best model so far, written by the trainer, marked with its trial and value

Every file is replaced as a whole and names the fingerprint of its study's protocol: files of another study count as absent.
A damaged file counts as absent too, so the trial is trained again, to the same result; one that cannot be read is an error.
Callers hold the lock of the trial (for the best model: the mutex).
"""

import json
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from optim_study.locks import make_folder
from optim_study.trainer import Outcome
from rhn.errors import DamagedError, DataError
from rhn.training.state import TrialState, read_state, read_state_metadata, write_state
from rhn.utils.io import read_json, remove_leftovers, require_file, write_json
from rhn.utils.validation import check_fields

_logger = logging.getLogger(__name__)

_CURVE = "study_curve"  # beside the trainer's own arrays
_FINGERPRINT = "study_fingerprint"


@dataclass(frozen=True)
class Record:
    """A finished trial."""

    outcome: Outcome
    curve: np.ndarray
    """As in `TrialState`; losses that were not finite are NaN."""


class StudyFolder:
    """The files of one study.

    Raises:
        OutputError: the folder cannot be made; from the methods that write: a file cannot be written.
        DataError: a file is there and cannot be read.
    """

    def __init__(self, folder: Path, fingerprint: str):
        self.folder, self._fingerprint = folder, fingerprint
        self._trials = make_folder(folder / "trials")

    def load_state(self, number: int) -> TrialState | None:
        """The rolling state of a trial; None where there is none that can be used (a damaged one is logged)."""
        try:
            found = read_state(self._state_path(number))
        except DamagedError:
            _logger.warning("%s is damaged: trial %d starts again from epoch 0", self._state_path(number), number)
            return None
        if found is None or found[1].get(_FINGERPRINT) != self._fingerprint:
            return None
        arrays, _ = found
        return TrialState(arrays.pop(_CURVE), arrays)

    def save_state(self, number: int, state: TrialState) -> None:
        """Keeps the state, unless a newer one is there: it was written by a worker that took the trial over."""
        path, newest = self._state_path(number), -1
        with suppress(DamagedError, KeyError, ValueError):
            saved = read_state_metadata(path) or {}
            newest = int(saved["epoch"]) if saved[_FINGERPRINT] == self._fingerprint else -1
        if newest <= state.epoch:
            arrays = {**state.arrays, _CURVE: np.asarray(state.curve, dtype=np.float64)}
            write_state(path, arrays, {_FINGERPRINT: self._fingerprint, "epoch": str(state.epoch)})

    def delete_state(self, number: int) -> None:
        """Removes the rolling state of a finished trial and what killed writers left of it."""
        path = self._state_path(number)
        path.unlink(missing_ok=True)
        remove_leftovers(path.parent, path.stem)

    def load_record(self, number: int) -> Record | None:
        """The record of a finished trial; None where there is none that can be used."""
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
            return Record(outcome, curve)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        except (ValueError, TypeError, KeyError) as error:
            _logger.warning("%s is damaged (%s): it counts as absent", path, error)
            return None

    def save_record(self, number: int, record: Record) -> None:
        """Keeps what a trial came to."""
        content = {"outcome": asdict(record.outcome), "curve": record.curve.tolist()}
        write_json(self._record_path(number), {_FINGERPRINT: self._fingerprint, **content})

    def offer_best(self, number: int, value: float, write: Callable[[Path, Mapping[str, object]], None]) -> None:
        """Keeps a finished trial's model as `best.safetensors` if its (value, number) is the least so far, so that the order of
        finishing does not matter. `write(path, mark)` writes it as a whole or not at all, the mark as the entry `kept` of its metadata.
        """
        best = self.best()
        if best is None or (value, number) < best:
            remove_leftovers(self.folder, "best")
            mark = {"fingerprint": self._fingerprint, "value": value, "trial": number}
            write(self.folder / "best.safetensors", mark)

    def best(self) -> tuple[float, int] | None:
        """Value and trial of the best model kept so far."""
        path = self.folder / "best.safetensors"
        try:
            require_file(path).open("rb").close()
            with safe_open(path, framework="numpy") as file:
                mark = json.loads(file.metadata()["rhn"])["metadata"]["kept"]
            return (mark["value"], mark["trial"]) if mark["fingerprint"] == self._fingerprint else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            _logger.warning("%s is no longer whole (%s): the next trial to finish replaces it", path, error)
            return None

    def _state_path(self, number: int) -> Path:
        return self._trials / f"{number:04d}.safetensors"

    def _record_path(self, number: int) -> Path:
        return self._trials / f"{number:04d}.json"


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read ({error.strerror or error}): see that it is a file that you may read")

"""What `gersgorin.credit` measures: a record of NumPy arrays, from which every figure is made, without torch."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rhn.files import write_arrays, write_record
from rhn.reading import arrays_of, values_of
from rhn.result import Result


@dataclass(frozen=True, kw_only=True, repr=False)
class Credit(Result):
    """The credit of one run, T frames: g is the gradient of the mean loss, g[k] its part of lag k; see `gersgorin.assignment.measure`.

    All shares are NaN where the gradient is zero.
    """

    loss: float
    """The mean loss, in `loss_unit`."""
    norms: np.ndarray
    """norms[t2, t1] = ||dL[t2]/dy[t1]||_2, root mean square over sequences, L in the unit of the loss; 0 where t1 > t2. (T, T)"""
    gradient_norm: float
    """||g||_2 of the mean loss in all parameters of the recurrence: of the cells, not of the embedding or the output.
    What is frozen does not count; of torch.nn's cells each of the two biases does."""
    lag_norm: np.ndarray
    """||g[k]|| / ||g||, (T,). Lags that work against each other add up to more than 1."""
    lag_share: np.ndarray
    """<g[k], g> / ||g||^2, (T,): they add up to 1; below 0 where a lag works against the whole."""
    lost: np.ndarray
    """||g - (g[0] + ... + g[k])|| / ||g||, (T,): what is lost of the gradient where errors go back at most k steps."""
    path_lengths: np.ndarray
    """The least and the largest number of nonlinear layers between y[t1] and L[t2] at lag k, (T, 2); see `path_lengths`."""
    unit: str = "steps"
    """Of time, of one frame: "quarter notes", "tokens"; "steps" where nothing is known of it."""
    loss_unit: str = "nats a frame"
    """Of the loss."""
    title: str = ""
    """What a figure calls the recurrence: "rhn, depth 3, 64 units", "2 x lstm, 8 units"; "" where it was not kept."""
    about: str = ""
    """How it came to be, for figures: initialisation, biases, data."""

    def lost_beyond(self, steps: int) -> float:
        """What is lost where errors go back at most so many steps; 0 where that is the whole sequence."""
        return float(self.lost[min(steps, len(self.lost) - 1)])

    def save(self, path: str | Path) -> Path:
        """Write to .npz, without pickle, or to .json (what is not finite becomes null); atomic. Raises OutputError."""
        path, values = Path(path), asdict(self)
        if path.suffix != ".json":
            return write_arrays(path, values)
        write_record(path, {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()})
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Credit":
        """Read what `save` wrote as .npz; raises DataError where the file is something else."""
        with arrays_of(path, "Credit.save") as arrays:
            return cls(**values_of(cls, arrays))

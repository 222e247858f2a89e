"""`gersgorin.measure`: what `gersgorin-plot` measures, in one call.

measure("rhn", depth=5)                       a new cell, on the chorale bwv269
measure("runs/depth6/best.safetensors")       a trained network; of a language model: measure(path, "novel.txt")
measure(model, x)                             your own module, on what it reads
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin._validate import real_tensor
from gersgorin.analyses.leading import Leading
from gersgorin.analyses.spectra import DISC_WORDS, SpectrumRecord, check_memory, memory_there
from gersgorin.comparison.runs import measure_along
from gersgorin.comparison.variants import what_it_reads
from gersgorin.data import SUFFIXES, Source, chorale_source, read_source
from gersgorin.extract import Watched
from gersgorin.networks import Subject, checkpoint_cells, new_cell, watched_cell
from gersgorin.operators import SHARE
from gersgorin.own_loop import OwnLoop
from rhn.data import Piece
from rhn.errors import InvalidInputError
from rhn.fields import check_seed, fits
from rhn.options import check_least

NEW = ("depth", "hidden_size", "init", "transform_bias")  # of cells by name alone
CHORALE = "bwv269"


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is read, as `gersgorin.data.Asked` has it."""

    chorale: str = CHORALE
    data: Path | None = None
    text: Path | None = None
    input: Path | None = None
    unit: str | None = None
    steps: int | None = None
    checkpoint: Path | None = None
    cell: str | None = None


def measure(
    network: str | Path | nn.Module = "rhn",
    x: str | Path | Tensor | np.ndarray | None = None,
    *,
    depth: int | None = None,
    hidden_size: int | None = None,
    init: str | None = None,
    transform_bias: float | None = None,
    seed: int = 0,
    layer: int | None = None,
    submodule: str | None = None,
    steps: int | None = None,
    unit: str | None = None,
    discs: str = "row",
    leading: int | None = None,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SpectrumRecord:
    """Run a network over a sequence and measure every step: spectra, discs, norms, products. The network is left as it was.

    Args:
        network: a cell by name ("rhn", "torch.nn:LSTM", "my_package.cells:MyCell"), a checkpoint (a file or the folder of a training),
            or a module, as `gersgorin.analyze` takes it.
        x: a chorale by name ("bwv66.6", "test-0"), a file of numbers (.npy, .npz, .csv), for a language model a text file, or what the
            network takes: (T, m), ids of tokens (T,). None: the chorale bwv269.
        depth, hidden_size, init, transform_bias: of a cell by name; as `gersgorin-plot` has them.
        seed: of its first weights.
        layer, submodule: which recurrent cell of a checkpoint or module; see `gersgorin.analyze`.
        steps: only the first so many.
        unit: of one step, for the axes of time, such as "0.1 s"; None: what a file or chorale says.
        discs: which discs numbers and figures are to speak of, "row", "column" or "both".
        leading: only so many eigenvalues of largest modulus, for large states.
        dtype, device: of everything measured.
        progress: called with (steps done, steps in all).

    Raises:
        InvalidInputError, DataError, CheckpointError: what is asked does not exist, cannot be read or does not fit.

    >>> found = measure("rhn", torch.rand(20, 3), depth=2, hidden_size=8)
    >>> found.eigenvalues.shape, found.title
    ((20, 8), 'rhn, depth 2, 8 units')
    """
    if discs not in DISC_WORDS:
        raise InvalidInputError(f"discs is {discs!r}, expected one of {', '.join(DISC_WORDS)}")
    new = dict(zip(NEW, (depth, hidden_size, init, transform_bias), strict=True))
    file, asked = _checkpoint(network), _Asked(steps=steps, unit=unit)
    if not fits(steps, int | None):
        raise InvalidInputError(f"steps is {steps!r:.40}: expected a whole number of at least 1")
    check_least(asked, steps=1)
    check_seed(seed)
    _check_place(device, dtype)
    if isinstance(network, str) and file is None:
        source = _source(x, asked)
        subject = new_cell(network, seed=seed, input_size=source.input_size, **new)
    elif given := [name for name, value in new.items() if value is not None]:
        raise InvalidInputError(f"{given[0]} is for a new cell by its name, this network says what it is: leave it out")
    elif file:
        source = _source(x, replace(asked, checkpoint=file), text=what_it_reads(file)[0] == "text")
        subject = checkpoint_cells(file, layer, None, input_size=source.input_size)[0]
    else:
        subject, source = _in_module(Watched(network, layer, submodule), x, asked)
    part = None
    if leading is not None:
        part = Leading(leading, SHARE * memory_there(device, None), seed)
    else:
        check_memory(subject.cell, source.steps, dtype, device)
    how = {"device": device, "dtype": dtype, "discs": discs, "leading": part, "progress": progress}
    return measure_along(source, subject, subject.build(device, dtype), title=subject.title, **how)[-1]


def _check_place(device: str, dtype: torch.dtype) -> None:
    """Raise InvalidInputError where a device is not on this machine, or nothing is measured in a dtype."""
    if dtype not in (torch.float32, torch.float64):
        raise InvalidInputError(f"dtype is {dtype!r:.40}: expected torch.float64 or torch.float32")
    try:
        torch.empty(1, device=torch.device(device)).item()
    except (RuntimeError, AssertionError, TypeError) as error:  # whatever torch says of a device that it does not have
        raise InvalidInputError(f"device is {device!r:.40}: expected 'cpu' or a GPU of this machine, 'cuda'") from error


def _checkpoint(network) -> Path | None:
    """The file or folder that is meant, or None: a cell's name has neither a folder nor that suffix."""
    if isinstance(network, str) and not network.endswith(".safetensors") and "/" not in network:
        return None
    if isinstance(network, str | Path):
        return Path(network)
    if isinstance(network, nn.Module):
        return None
    kind = type(network).__name__
    raise InvalidInputError(f"network is a {kind}: expected a cell's name, a checkpoint or a torch module")


def _in_module(watched: Watched, x, asked: _Asked) -> tuple[Subject, Source]:
    """The cell of a module, and what is read: by the module, or where x is given as numbers, by the cell when the module reads them."""
    subject = watched_cell(watched, type(watched.cell).__name__)
    if not isinstance(x, Tensor | np.ndarray) or isinstance(x, Piece):
        return subject, _source(x, asked)
    cell, seen = watched.along(x, 0)
    source = replace(_source(seen.detach().cpu().numpy(), asked), name=_shape(x))
    if not isinstance(cell, OwnLoop):
        return replace(subject, inputs=lambda sequence: sequence), source
    return replace(subject, inputs=lambda sequence: watched.along(x, 0)[0].until(len(sequence))), source


def _source(x, asked: _Asked, text: bool = False) -> Source:
    """What is read, by a language model a text; see `measure`."""
    if isinstance(x, Piece):
        source = chorale_source(x).cut(asked.steps)
    elif isinstance(x, Tensor | np.ndarray):
        source = _numbers(x, text).cut(asked.steps)
    elif x is not None and not isinstance(x, str | Path):
        raise InvalidInputError(f"x is a {type(x).__name__}: expected a chorale's name, a file, or numbers (T, m)")
    elif text:
        if x is None:
            raise InvalidInputError(f"{asked.checkpoint} holds a language model: give it a text file, or ids of tokens")
        source = read_source(replace(asked, text=Path(x)))
    elif isinstance(x, Path) or str(x).lower().endswith(SUFFIXES):
        source = read_source(replace(asked, input=Path(x)))
    else:
        source = read_source(replace(asked, chorale=asked.chorale if x is None else x))
    return replace(source, unit=asked.unit or source.unit)


def _numbers(x: Tensor | np.ndarray, ids: bool) -> Source:
    """Numbers of the caller's, (T, m) or (T,), or ids of tokens (T,)."""
    values = real_tensor("x", x).detach().cpu().numpy()
    if (
        values.size == 0
        or values.dtype.kind not in ("iu" if ids else "biuf")
        or values.ndim not in ((1,) if ids else (1, 2))
    ):
        wanted = "ids of tokens (T,), integers" if ids else "real numbers (T, m) or (T,)"
        raise InvalidInputError(f"x is {values.dtype} of shape {values.shape}: expected {wanted}")
    if not np.isfinite(values).all():
        raise InvalidInputError(f"x holds {np.count_nonzero(~np.isfinite(values))} NaN or infinite numbers")
    return Source(name=_shape(x), kind="sequence", values=values if ids else values.reshape(len(values), -1))


def _shape(x: Tensor | np.ndarray) -> str:
    """As in "sequence of 85 x 88"."""
    return f"of {' x '.join(map(str, x.shape))}"

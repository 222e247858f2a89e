"""Audit the initialisation of every recurrent layer of a model: time scales, gains, gates, dead
units, weight decay.

    found = audit(model, x, optimizer=optimizer)
    found.findings            sentences about whatever is out of line; empty if nothing is

A mode with an eigenvalue of modulus r of the temporal Jacobian has the half-life log 2 / -log r.
Nothing depends on the class of a layer: it is run on what it reads while the model reads x, in the
model's own type, and measured in float64.

Legend: L recurrent layers, T steps, N entries of a state.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from gersgorin._validate import copied, with_gradients
from gersgorin.analyses.memory import Memory
from gersgorin.loading.calls import Call, check_loop, watched_calls
from gersgorin.loading.find_cell import (
    Watched,
    cells_of,
    is_hand_written,
    joined_inputs,
    layers_of,
    no_cell,
)
from gersgorin.loading.sequence_map import SequenceMap, first_tensor
from gersgorin.run.run import Progress, Run, shown_steps, silent
from rhn.errors import InvalidInputError
from rhn.plotting.figure import line_style, panels
from rhn.utils.result import Result, rows_of

LONGEST = 1e6  # steps; a slower decay is no decay
SHORT, HALVINGS = 3.0, 10  # steps; half-lives after which a thousandth is left
GROWTH = 1.05  # modulus from which on a state grows
SATURATED = 0.01  # distance of a gate from 0 or 1
ROUNDED = 2.0**-9  # distance from 1 at which a number is 1 in bfloat16
SHARE = 0.2  # of gates or modes
FACTOR = 1e3  # between a gain and 1
# a weight multiplied by the first moves the logarithm of a decay by the second
SHRUNK, MOVED = 0.99, 1e-3
PROBES = 8  # random directions of an input
MEASURES = (
    "influence",
    "growth",
    "input_rms",
    "state_rms",
    "output_rms",
    "saturated",
    "rounded",
    "dead",
)


@dataclass(frozen=True, kw_only=True, repr=False)
class Audit(Result, kind="audit"):
    """The start of each of L recurrent layers of a model, and sentences about what is out of
    line.
    """

    layers: np.ndarray
    """Names in the model, (L,)."""
    half_lives: dict[str, np.ndarray]
    """Of every mode of a layer, in steps, ascending; inf without decay. Modes that are gone in one
    step are left out.
    """
    influence: np.ndarray
    """Steps in which the influence of the first input on the state halves, from its largest on,
    (L,); inf: not along x.
    """
    growth: np.ndarray
    """The largest modulus of an eigenvalue, (L,)."""
    input_rms: np.ndarray
    """Root mean square of what the layer reads, (L,)."""
    state_rms: np.ndarray
    output_rms: np.ndarray
    saturated: np.ndarray
    """Share of gates within 0.01 of 0 or 1, (L,); NaN for a layer without known gates."""
    rounded: np.ndarray
    """Share of decays below 1 and of gates that are 0 or 1 in bfloat16, (L,); NaN without any."""
    dead: np.ndarray
    """Share of state entries that never change along the sequence, (L,)."""
    findings: np.ndarray
    """Sentences about what is out of line."""
    unit: str = "steps"
    """Of one step."""

    def sentences(self) -> Iterator[str]:
        """The findings."""
        yield from self.findings if len(self.findings) else ["Nothing is out of line."]

    def quantiles(self, k: int) -> np.ndarray:
        """10, 50 and 90 % quantile of the mode half-lives of a layer, each that of a mode, the
        nearest; NaN if it has none.
        """
        values = self.half_lives[self.layers[k]]
        return (
            np.quantile(values, (0.1, 0.5, 0.9), method="nearest")
            if len(values)
            else np.full(3, np.nan)
        )

    def table(self) -> list[dict]:
        """One row a layer: its median mode half-life and its other measures."""
        medians = [float(self.quantiles(k)[1]) for k in range(len(self.layers))]
        measures = {name: getattr(self, name) for name in MEASURES}
        return rows_of(layer=self.layers, mode_half_life=medians, **measures)

    @panels(7, 3.2, "mode half-lives at the start")
    def plot(self, ax=None) -> Axes:
        """The distribution of mode half-lives of each layer."""
        for k, layer in enumerate(self.layers):
            every = self.half_lives[layer]
            # a curve ends below 1 if the others do not decay
            values = np.maximum(every[every < LONGEST], 1e-2)
            shares = np.arange(1, len(values) + 1) / max(1, len(every))
            style = {"marker": "." if len(values) < 40 else None} | line_style(k)
            ax.step(values, shares, where="post", label=layer, **style)
        ax.set(
            xscale="log",
            xlabel=f"mode half-life ({self.unit})",
            ylabel="share of modes",
            ylim=(0, 1.02),
        )
        return ax


@with_gradients()
def audit(
    module: nn.Module | SequenceMap,
    x: Tensor | np.ndarray | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    submodule: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Audit:
    """Audit the initialisation of every recurrent layer of a model; the model is left as it was.

    Args:
        module: a torch module with recurrent cells. Infinite weights are findings, and measured
            as the largest finite number.
        x: one sequence, see `gersgorin.memory`; some 20 to 100 steps of real data are enough.
        optimizer: of the training, on the module's parameters: weight decay of a parameter that is
            a decay is a finding.
        submodule: the part to audit while the module reads x, by its name in `named_modules`; None:
            the module.
        seed: of the directions in which the influence of the first input is measured.
        progress: called with (layers done, layers in all).

    Raises:
        InvalidInputError: no such layer, or the errors of `SequenceMap`.
    """
    decayed = {} if optimizer is None else _decayed(module, optimizer)
    module, findings = _finite(module) if isinstance(module, nn.Module) else (module, [])
    map_ = (
        module if isinstance(module, SequenceMap) else SequenceMap(module, x, submodule=submodule)
    )
    paths, half_lives, rows = {part: path for path, part in map_.module.named_modules()}, {}, []
    with torch.no_grad():  # a layer that is not called as a module has none
        calls = {
            part: watched_calls(part, map_.module, map_.given.clone())
            for part in _recurrent(map_.part)
        }
    places = [(part, k) for part in calls for k in range(layers_of(part))]
    for done, (part, k) in enumerate(places):
        layer = k + 1 if layers_of(part) > 1 else None
        name = (paths[part] or type(part).__name__) + (f", layer {layer}" if layer else "")
        run = _run(map_, part, paths[part], layer, calls[part])
        half_lives[name], row = _measured(run, torch.Generator().manual_seed(seed))
        given, made = (
            [first_tensor(of(call)) for call in calls[part]]
            for of in (lambda c: c.x, lambda c: c.output)
        )
        rows.append(row | {"input_rms": _rms(*given), "output_rms": _rms(*made)})
        findings += [f"{name}: {said}." for said in _out_of_line(half_lives[name], **rows[-1])]
        width = (
            0 if not given or given[-1] is None else given[-1].shape[-1]
        )  # 0: it is called by other names than its own
        for own, p in part.named_parameters() if width else ():
            path = f"{paths[part]}.{own}".lstrip(".")
            if (
                path in decayed
                and p.numel() <= run.state_size
                and _sets_decays(p, part, layer, width)
            ):
                findings.append(
                    f"{path}: weight decay {decayed[path]:g} acts on a decay of the state; "
                    "expected 0."
                )
        progress(done + 1, len(places))
    measures: dict[str, Any] = {key: np.array([row[key] for row in rows]) for key in MEASURES}
    return Audit(
        layers=np.array(list(half_lives)),
        half_lives=half_lives,
        findings=np.array(findings, dtype=str),
        **measures,
        **map_.label.of_result,
    )


def _decayed(module: nn.Module | SequenceMap, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Weight decay of each parameter that has some, by name."""
    decay = {
        id(p): group.get("weight_decay", 0.0)
        for group in optimizer.param_groups
        for p in group["params"]
    }
    named = dict(module.named_parameters()) if isinstance(module, nn.Module) else {}
    if not any(id(p) in decay for p in named.values()):
        raise InvalidInputError(
            "the optimizer has no parameter of the module: expected one of module.parameters()"
        )
    return {name: decay[id(p)] for name, p in named.items() if decay.get(id(p))}


def _finite(module: nn.Module) -> tuple[nn.Module, list[str]]:
    """(The module, or a copy with the largest finite number in the place of infinity, the
    findings).
    """
    count = {name: int(p.isinf().sum()) for name, p in module.named_parameters()}
    if not any(count.values()):
        return module, []
    module = copied(module)
    for p in module.parameters():
        p.data.nan_to_num_(nan=math.nan)
    return module, [
        f"{name}: infinite in {n} of its weights; expected finite ones."
        for name, n in count.items()
        if n
    ]


def _recurrent(module: nn.Module) -> list[nn.Module]:
    """The recurrent layers of a module. Raises InvalidInputError if it has none."""
    parts = cells_of(module)
    if not parts and not is_hand_written(module):
        raise no_cell(module)
    return parts or [module]


def _run(
    map_: SequenceMap, part: nn.Module, path: str, layer: int | None, calls: list[Call]
) -> Run:
    """One layer along what it reads, in float64."""
    if map_.outputs.dtype == torch.float64:
        return Watched(map_.module, layer, path).along(map_.given, one=True).require_finite()
    x = joined_inputs(part, map_.module, calls).flatten(0, -2)
    check_loop(part, map_.module, map_.given, calls, len(x))
    return Watched(part, layer).along(x.double(), one=True).require_finite()


def _measured(run: Run, g: torch.Generator) -> tuple[np.ndarray, dict[str, float]]:
    """(Mode half-lives of a layer, its other measures)."""
    moduli = np.concatenate([_eigenvalue_moduli(run.jacobians(t)) for t in shown_steps(len(run))])
    decays, gates = moduli[(moduli > 1e-3) & (moduli < 1)], run.gates()
    gates = np.concatenate(
        [np.empty(0), *(v.detach().cpu().flatten() for v in (*gates.t, *gates.c))]
    )
    near, states = np.minimum(gates, 1 - gates), run.states[1:]
    dead = states.std(0) <= 1e-9 * states.abs().max() if len(states) > 1 else torch.zeros(1)
    return np.sort(np.r_[math.log(2) / -np.log(decays), np.full((moduli >= 1).sum(), np.inf)]), {
        "influence": _influence(run, g),
        "growth": moduli.max(initial=0),
        "state_rms": _rms(states),
        "saturated": _share(near < SATURATED),
        "rounded": _share(np.r_[decays > 1 - ROUNDED, near < ROUNDED]),
        "dead": float(dead.double().mean()),
    }


def _influence(run: Run, g: torch.Generator) -> float:
    """Steps in which the influence of the first input on the state halves, as `gersgorin.memory`
    reads it from its lags.
    """
    B = run.input_jacobians(0)
    signs = torch.randint(2, (B.shape[1], PROBES), generator=g).mul(2).sub(1)
    columns = [B @ signs.to(B)]
    for push in islice(run.tangent_maps(), 1, None):
        columns.append(push(columns[-1]))
    norms = np.array([each.norm().item() for each in reversed(columns)])
    return Memory(influence=norms[None], error=0 * norms[None]).half_life


def _eigenvalue_moduli(A: Tensor) -> np.ndarray:
    """|eigenvalues| of A (N, N), block by block: a triangular matrix, such as that of a scan behind
    a convolution, has small blocks.
    """
    numbers = A.detach().cpu().numpy()
    _, group = connected_components(numbers != 0, directed=True, connection="strong")
    single = np.bincount(group)[group] == 1
    found = [np.abs(numbers.diagonal()[single])]
    for k in np.unique(group[~single]):
        inside = np.flatnonzero(group == k)
        found.append(np.abs(np.linalg.eigvals(numbers[np.ix_(inside, inside)])))
    return np.concatenate(found)


def _sets_decays(weight: Tensor, part: nn.Module, layer: int | None, width: int) -> bool:
    """True if a layer at rest, without input, stays as it is but decays at another rate when this
    weight is a little smaller.
    """
    seen = []
    for factor in (1.0, SHRUNK):
        before = weight.detach().clone()
        weight.data.mul_(factor)
        run = Watched(part, layer).along(torch.zeros(2, width), one=True)
        moduli = np.sort(_eigenvalue_moduli(run.jacobians(0)))
        seen.append((run.states, np.log(np.maximum(moduli, np.finfo(float).tiny))))
        weight.data.copy_(before)
    (rest, logarithms), (moved, shrunk) = seen
    return torch.equal(rest, moved) and bool(
        (np.abs(shrunk - logarithms) > MOVED * np.abs(logarithms)).any()
    )


def _rms(*parts: Tensor | None) -> float:
    numbers = [part.detach().double().flatten() for part in parts if part is not None]
    return float(torch.cat(numbers).square().mean().sqrt()) if numbers else math.nan


def _share(of: np.ndarray) -> float:
    return float(of.mean()) if len(of) else math.nan


def _out_of_line(
    half_lives, influence, growth, input_rms, state_rms, output_rms, saturated, rounded, dead
) -> Iterator[str]:
    """Sentences, without a name and a full stop, about one layer."""
    finite, longest = half_lives[half_lives < LONGEST], half_lives.max(initial=0.0)
    gain = output_rms / max(input_rms, 1e-300)
    if growth and longest < SHORT:
        left = (
            f"after {HALVINGS * longest:.0f} steps a thousandth of an input is left, too "
            "little for longer lags"
        )
        yield f"its longest mode half-life is {longest:.2g} steps: {left}"
    if len(half_lives) == len(finite) >= 8 and finite.max() < 1.01 * finite.min():
        yield (
            f"all its modes have the same half-life, {finite.max():.3g} steps; expected a "
            "spread of time scales"
        )
    if growth > GROWTH:
        yield f"a state grows by {growth:.5g} in a step; expected at most {GROWTH}"
    if gain < 1 / FACTOR or gain > FACTOR:
        yield f"its output is {gain:.2g} times its input; expected within a factor of {FACTOR:.0f}"
    if saturated > SHARE:
        yield (
            f"{saturated:.0%} of its gates are within {SATURATED} of 0 or 1; expected at "
            f"most {SHARE:.0%}"
        )
    if rounded > SHARE:
        yield (
            f"{rounded:.0%} of its decays and gates are 0 or 1 in bfloat16; expected at most "
            f"{SHARE:.0%}, or float32"
        )
    if dead:
        yield f"{dead:.0%} of its state never changes; expected every unit to change"

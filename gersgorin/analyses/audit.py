"""Audit the initialisation of every recurrent layer of a model: time scales, gains, rates of learning, saturated gates, dead units.

    found = audit(model, x)
    found.findings            sentences about whatever is out of line; empty if nothing is

A mode with an eigenvalue of modulus r of the temporal Jacobian has the half-life log 2 / -log r. The rates of learning are relative
gradients ||dL/dW|| / ||W|| of a loss that pulls every output in a random direction with the same strength, so no targets are needed.

Legend: L recurrent layers, T steps, N entries of a state.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from gersgorin._validate import with_gradients
from gersgorin.analyses.plateau import relative_rate
from gersgorin.loading.find import Watched, is_hand_written, layers_of, no_cell, recurrent_cells, state_layers
from gersgorin.loading.sequence_map import Function, SequenceMap, first_tensor
from gersgorin.plotting.figure import line_style, panel, plain_numbers
from gersgorin.run import Progress, run_of, shown_steps, silent
from rhn.errors import InvalidInputError
from rhn.utils.result import Result

LONGEST = 1e6  # steps; a slower decay is no decay
SHORT = 3.0  # steps; with only shorter half-lives nothing beyond about ten steps is learned
GROWTH = 1.05  # modulus from which on a state grows
SATURATED = 0.01  # distance of a gate from 0 or 1
SHARE = 0.2  # of saturated gates
FACTOR = 1e3  # between a gain and 1
RATES = 1e6  # between a rate of learning and the median


@dataclass(frozen=True, kw_only=True, repr=False)
class Audit(Result, kind="audit"):
    """The start of each of L recurrent layers of a model, and sentences about what is out of line."""

    layers: np.ndarray
    """Names in the model, (L,)."""
    half_lives: dict[str, np.ndarray]
    """Of every mode of a layer, in steps, ascending; inf without decay. Modes that are gone in one step are left out."""
    growth: np.ndarray
    """The largest modulus of an eigenvalue, (L,)."""
    input_rms: np.ndarray
    """Root mean square of what the layer reads, (L,)."""
    state_rms: np.ndarray
    """Of its states, (L,)."""
    output_rms: np.ndarray
    """Of its outputs, (L,)."""
    saturated: np.ndarray
    """Share of gates within 0.01 of 0 or 1, (L,); NaN for a layer without known gates."""
    dead: np.ndarray
    """Share of state entries that never change along the sequence, (L,)."""
    rates: dict[str, float]
    """Relative rate of learning of every parameter of the model; inf for a parameter that is zero and has a gradient."""
    findings: np.ndarray
    """Sentences about what is out of line."""
    unit: str = "steps"
    """Of one step."""

    def sentences(self) -> Iterator[str]:
        """A line for each layer, and the findings."""
        wide = max(map(len, self.layers))
        yield f"{'':<{wide}}  mode half-lives (10, 50, 90 %)   RMS in, state, out    saturated  dead"
        for k, layer in enumerate(self.layers):
            quantiles = ", ".join(f"{q:.3g}" for q in self.quantiles(k))
            sizes = ", ".join(f"{rms[k]:.2g}" for rms in (self.input_rms, self.state_rms, self.output_rms))
            gates = "-" if np.isnan(self.saturated[k]) else f"{100 * self.saturated[k]:.0f} %"
            yield f"{layer:<{wide}}  {quantiles:<30}   {sizes:<20}  {gates:>9}  {100 * self.dead[k]:.0f} %"
        yield from self.findings if len(self.findings) else ["Nothing is out of line."]

    def quantiles(self, k: int) -> np.ndarray:
        """10, 50 and 90 % quantile of the mode half-lives of a layer; NaN if it has none."""
        values = self.half_lives[self.layers[k]]
        return np.quantile(values, (0.1, 0.5, 0.9), method="nearest") if len(values) else np.full(3, np.nan)

    def table(self) -> list[dict]:
        """One row a parameter or a layer's quantity: {"of", "quantity", "value"}."""
        columns = {"largest modulus": self.growth, "input RMS": self.input_rms, "state RMS": self.state_rms}
        columns |= {"output RMS": self.output_rms, "saturated": self.saturated, "dead": self.dead}
        rows = []
        for k, layer in enumerate(self.layers):
            names = (f"mode half-life, {which}" for which in ("10 %", "median", "90 %"))
            values = dict(zip(names, self.quantiles(k), strict=True)) | {name: v[k] for name, v in columns.items()}
            rows += [{"of": str(layer), "quantity": name, "value": float(value)} for name, value in values.items()]
        return rows + [{"of": name, "quantity": "rate of learning", "value": rate} for name, rate in self.rates.items()]

    @panel(7, 4, "mode half-lives at the start")
    def plot(self, ax: Axes | None = None) -> Axes:
        """The distribution of mode half-lives of each layer."""
        for k, layer in enumerate(self.layers):
            values = np.clip(self.half_lives[layer], 1e-2, LONGEST)
            shares = np.arange(1, len(values) + 1) / max(1, len(values))
            style = {"marker": "." if len(values) < 40 else None} | line_style(k)
            ax.step(values, shares, where="post", label=layer, **style)
        ax.set(xscale="log", xlabel=f"mode half-life ({self.unit})", ylabel="share of modes", ylim=(0, 1.02))
        plain_numbers(ax)
        return ax


@with_gradients()
def audit(
    module: nn.Module | SequenceMap,
    x: Tensor | np.ndarray | None = None,
    *,
    submodule: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Audit:
    """Audit the initialisation of every recurrent layer of a model, in float64; the model is left as it was.

    Args:
        module: a torch module with recurrent cells, scans (`scan_elements`) or layers of transformers with a cache.
        x: one sequence, see `gersgorin.memory`; some 20 to 100 steps of real data are enough.
        submodule: the part to audit while the module reads x, by its name in `named_modules`; None: the module.
        seed: of the direction in which the outputs are pulled.
        progress: called with (layers done, layers in all).

    Raises:
        InvalidInputError: no such layer, or the errors of `SequenceMap`.
    """
    map_ = module if isinstance(module, SequenceMap) else SequenceMap(module, x, submodule=submodule)
    if isinstance(map_.module, Function):
        raise InvalidInputError(f"{map_.name} is a function: expected a torch module with recurrent layers")
    parts = recurrent_cells(map_.part) or [map_.part] * is_hand_written(map_.part)
    inside = {inner for part in parts for inner in part.modules()}
    parts += [part for part in state_layers(map_.part) if part not in inside]
    if not parts:
        raise no_cell(map_.part)
    if next(map_.module.parameters()).dtype != torch.float64:
        raise InvalidInputError(
            f"{map_.name} does not run in float64, in which layers are measured: audit its {type(parts[0]).__name__} alone, on the "
            "numbers that it reads"
        )
    names = {part: name for name, part in map_.module.named_modules()}
    sizes, rates = _sizes(map_, parts), _rates(map_, seed)
    rows, half_lives, findings = [], {}, []
    places = [(part, k) for part in parts for k in range(layers_of(part))]
    for done, (part, k) in enumerate(places):
        name = names[part] or type(part).__name__
        name += f", layer {k + 1}" if layers_of(part) > 1 else ""
        watched = Watched(map_.module, k + 1 if layers_of(part) > 1 else None, names[part])
        run = run_of(*watched.along(map_.given, one=True))
        run.require_finite()
        steps = (run.jacobians(t).detach().cpu().numpy() for t in shown_steps(len(run)))
        moduli = np.concatenate([_eigenvalue_moduli(A) for A in steps])
        decays = moduli[(moduli > 1e-3) & (moduli < 1)]
        half_lives[name] = np.sort(np.r_[math.log(2) / -np.log(decays), np.full((moduli >= 1).sum(), np.inf)])
        states, gates = run.states[1:], [*run.gates().t, *run.gates().c]
        dead = states.std(0) <= 1e-9 * states.abs().max() if len(states) > 1 else torch.zeros(1)
        row = {
            "growth": moduli.max(initial=0),
            "input_rms": sizes[part][0],
            "state_rms": _rms(states),
            "output_rms": sizes[part][1],
            "saturated": _saturated(gates),
            "dead": float(dead.double().mean()),
        }
        rows.append(row)
        findings += [f"{name}: {said}." for said in _out_of_line(half_lives[name], **row)]
        progress(done + 1, len(places))
    return Audit(
        layers=np.array(list(half_lives)),
        half_lives=half_lives,
        **{key: np.array([row[key] for row in rows]) for key in rows[0]},
        rates=rates,
        findings=np.array([*findings, *_slow(rates)], dtype=str),
        **map_.label.of_result,
    )


def _eigenvalue_moduli(A: np.ndarray) -> np.ndarray:
    """|eigenvalues| of A (N, N), block by block: a triangular matrix, such as that of a scan behind a convolution, has small blocks."""
    _, group = connected_components(A != 0, directed=True, connection="strong")
    single = np.bincount(group)[group] == 1
    found = [np.abs(A.diagonal()[single])]
    for k in np.unique(group[~single]):
        inside = np.flatnonzero(group == k)
        found.append(np.abs(np.linalg.eigvals(A[np.ix_(inside, inside)])))
    return np.concatenate(found)


def _sizes(map_: SequenceMap, parts: list[nn.Module]) -> dict[nn.Module, tuple[float, float]]:
    """Root mean squares of what each part reads and returns while the model reads x; NaN for a part that is not called as a module."""
    found = dict.fromkeys(parts, (math.nan, math.nan))

    def seen(part, args, kwargs, output):
        first = first_tensor((*args, *kwargs.values()))
        found[part] = (math.nan if first is None else _rms(first), _rms(first_tensor(output)))

    hooks = [part.register_forward_hook(seen, with_kwargs=True) for part in parts]
    try:
        with torch.no_grad():
            map_.module(map_.given.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _rates(map_: SequenceMap, seed: int) -> dict[str, float]:
    """||dL/dW|| / ||W|| of every parameter for L = mean of o v, v random signs."""
    inside = set(map(id, map_.part.parameters()))
    weights = {name: p for name, p in map_.module.named_parameters() if p.is_floating_point() and id(p) in inside}
    for p in weights.values():
        p.requires_grad_()
    o = first_tensor(map_.module(map_.given.clone()))
    signs = torch.randint(2, o.shape, generator=torch.Generator().manual_seed(seed)).mul(2).sub(1).to(o)
    how = {"allow_unused": True, "materialize_grads": True}
    found = torch.autograd.grad((o * signs).mean(), list(weights.values()), **how)
    for p in weights.values():
        p.requires_grad_(False)
    return {name: relative_rate(g, p) for (name, p), g in zip(weights.items(), found, strict=True)}


def _rms(t: Tensor | None) -> float:
    return math.nan if t is None else float(t.detach().double().square().mean().sqrt())


def _saturated(gates: list[Tensor]) -> float:
    values = torch.cat([g.flatten() for g in gates]) if gates else torch.empty(0)
    return float((torch.minimum(values, 1 - values) < SATURATED).double().mean()) if len(values) else math.nan


def _out_of_line(half_lives, growth, input_rms, state_rms, output_rms, saturated, dead) -> Iterator[str]:
    """Sentences, without a name and a full stop, about one layer."""
    finite = half_lives[half_lives < LONGEST]
    longest = half_lives.max(initial=0.0)
    if growth and longest < SHORT:
        yield f"its longest mode half-life is {longest:.2g} steps: inputs are forgotten at once; expected {SHORT:.0f} or more"
    if len(finite) >= 8 and finite.max() < 1.01 * finite.min():
        yield f"all its modes have the same half-life, {finite.max():.3g} steps; expected a spread of time scales"
    if growth > GROWTH:
        yield f"a state grows by {growth:.3g} in a step; expected at most {GROWTH}"
    if output_rms < input_rms / FACTOR or output_rms > FACTOR * input_rms:
        yield f"its output is {output_rms / input_rms:.2g} times its input; expected within a factor of {FACTOR:.0f}"
    if saturated > SHARE:
        yield f"{100 * saturated:.0f} % of its gates are within {SATURATED} of 0 or 1; expected at most {100 * SHARE:.0f} %"
    if dead:
        yield f"{100 * dead:.3g} % of its state never changes; expected that every unit does"


def _slow(rates: dict[str, float]) -> Iterator[str]:
    """Sentences about parameters whose rate of learning is out of line."""
    usual = np.array([rate for rate in rates.values() if 0 < rate < math.inf])
    median = float(np.median(usual)) if len(usual) else 0.0
    if stuck := [name for name, rate in rates.items() if rate == 0]:
        more = f" and {len(stuck) - 3} more" if len(stuck) > 3 else ""
        yield f"{', '.join(stuck[:3])}{more}: no gradient at this start; expected that every parameter learns."
    for name, rate in rates.items():
        if 0 < rate < median / RATES or median * RATES < rate < math.inf:
            yield f"{name}: its rate of learning is {rate / median:.2g} times the median; expected within a factor of {RATES:.0e}."

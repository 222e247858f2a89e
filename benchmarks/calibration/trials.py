"""Trials as rows: what a network was, what a check measures of it before its training, and what the training came to.

Networks are rebuilt from the study's protocol and their numbers, so that the rows can be made anew from the runs alone. They are
written to one table, which is also the cache: what is in it is not measured again.
"""

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import get_type_hints

LEARNED = 0.9
"""A network learned where its best training loss is below this share of the best constant output's."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """One trial; losses in nats a frame, times in epochs."""

    source: str
    """study (what the calibration is made from), gated, transitions, open-gates (new ones) or full (the paper's size)."""
    arch: str
    depth: int
    trial: int
    hidden_size: int
    init_scheme: str
    init_std: float
    transform_bias: float
    learning_rate: float
    momentum: float
    epochs: int
    """Those that it was given."""
    batches: int
    seed: int
    best_train_nll: float
    constant_nll: float
    left_epoch: float
    """First epoch whose training loss is 2 % below the constant output's; infinite where none is, NaN where no curve was kept."""
    escape_epochs: float = math.nan
    """What was predicted of it."""
    ended: str = ""
    """How the predicted way ended: left, never, diverged or unsettled (`gersgorin.analyses.escape.Trajectory`)."""
    order: float = math.nan
    fastest_rate: float = math.nan
    """Of all matrices, on the plateau."""
    input_gain: float = math.nan
    """Of the last layer."""
    exponent: float = math.nan
    weight_gain: float = math.nan
    """Root mean square of the recurrent weights, times the square root of the units."""

    @property
    def key(self) -> tuple:
        return self.source, self.arch, self.depth, self.trial, self.seed

    @property
    def learned(self) -> bool:
        return self.best_train_nll < LEARNED * self.constant_nll

    @property
    def left(self) -> bool:
        return self.left_epoch <= self.epochs

    @property
    def measured(self) -> bool:
        return not math.isnan(self.escape_epochs)

    @property
    def kind(self) -> str:
        """As `gersgorin.checking.calibration.kind_of` has it."""
        gates = " open" if self.arch == "rhn" and self.transform_bias > 0 else ""
        return f"{self.arch} {self.init_scheme}{gates}"


FOLLOWED = 1000
"""Times the epochs of a training for which the way off the plateau is followed; later counts as never."""
COLUMNS = tuple(f.name for f in fields(Network))
_TYPES = get_type_hints(Network)


def stored(folder: Path, source: str) -> Iterator[Network]:
    """The finished trials of a run, not measured yet."""
    from optim_study.backend import left_epoch
    from optim_study.results import stored_rows
    from optim_study.storage import open_existing
    from optim_study.study import StudyFolder, stored_configs

    storage = open_existing(None, folder)
    for config in stored_configs(storage):
        files = StudyFolder(folder / config.name, config.fingerprint)
        for row in stored_rows([config], storage):
            left = left_epoch(files.load_record(row.trial).curve, row.constant_nll)
            yield Network(
                source=source,
                left_epoch=math.inf if left is None else left,
                momentum=config.momentum,
                epochs=config.epochs,
                seed=config.seed,
                batches=_batches(config.batch_size),
                **_of_row(row),
            )


def full_size(table: Path, epochs: int = 1000, most: int = 15) -> Iterator[Network]:
    """The first trials of a run at the paper's size, from its table alone: best losses, no curves. Measuring one takes seconds."""
    from optim_study.results import read_csv
    from rhn.data import chorales
    from rhn.training.evaluation import constant_output_nll

    constant = constant_output_nll(chorales(progress=False))
    for row in read_csv(table):
        if row.trial >= most:
            continue
        known = _of_row(row) | {"constant_nll": constant}
        yield Network(
            source="full", left_epoch=math.nan, momentum=0.9, epochs=epochs, seed=0, batches=_batches(32), **known
        )


def _of_row(row) -> dict:
    names = ("arch", "depth", "trial", "hidden_size", "init_std", "learning_rate")
    same = {name: getattr(row, name) for name in (*names, "best_train_nll", "constant_nll")}
    return same | {"transform_bias": row.transform_bias or 0.0, "init_scheme": row.init_scheme or "gaussian"}


def _batches(batch_size: int) -> int:
    from gersgorin.checking.checking import chorale_batches

    return chorale_batches(batch_size=batch_size)


def build(network: Network):
    """The network before its training, as `optim_study.backend.build_models` made it."""
    from optim_study.protocol import Settings
    from rhn.models import PolyphonicModel
    from rhn.training.seeds import weights_generator

    names = ("learning_rate", "init_scheme", "init_std", "transform_bias")
    settings = Settings(**{name: getattr(network, name) for name in names})
    return PolyphonicModel(
        network.arch,
        hidden_size=network.hidden_size,
        depth=network.depth,
        init=settings.init,
        generator=weights_generator(network.seed, network.arch, network.depth, network.trial),
        **({"transform_bias": network.transform_bias} if network.arch == "rhn" else {}),
    )


def measure_one(network: Network) -> Network:
    """The network with what a check measures of it."""
    import torch

    from gersgorin.analyses.plateau import plateau
    from gersgorin.checking.calibration import weight_scale
    from gersgorin.checking.checking import chorale_probe
    from gersgorin.checking.gains import measure_gains

    torch.set_num_threads(1)
    model = build(network)
    probe = chorale_probe(model)
    found = plateau(model, probe)
    (gains,) = measure_gains(found.objective)
    most = FOLLOWED * network.epochs * network.batches
    way = found.escape(network.learning_rate, network.momentum, until=most)
    return replace(
        network,
        escape_epochs=way.leaves_after / network.batches,
        ended=way.ended,
        order=found.order,
        fastest_rate=max(found.rates.values()),
        input_gain=float(gains.input_gain[-1]),
        exponent=float(gains.exponents.mean()),
        weight_gain=weight_scale(found.objective.model) * math.sqrt(network.hidden_size),
    )


def measure_all(
    networks: Iterable[Network], cache: Path, jobs: int, progress: Callable[[int, int], None]
) -> list[Network]:
    """All of them, measured; those that the table at `cache` already has are taken from there, and it is kept up to date."""
    networks = list(networks)
    known = {n.key: n for n in read_networks(cache)} if cache.exists() else {}
    done = {n.key: known[n.key] for n in networks if n.key in known and known[n.key].measured}
    missing = sorted((n for n in networks if n.key not in done), key=lambda n: -n.learning_rate)
    if missing:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(measure_one, n) for n in missing]
            for count, future in enumerate(as_completed(futures), 1):
                found = future.result()
                done[found.key] = found
                progress(len(networks) - len(missing) + count, len(networks))
                if count % 50 == 0 or count == len(missing):
                    write_networks(cache, [done[n.key] for n in networks if n.key in done])
    return [done[n.key] for n in networks]


def write_networks(path: Path, networks: Iterable[Network]) -> None:
    """As a table."""
    from rhn.utils.io import write_csv

    write_csv(path, COLUMNS, ([*asdict(n).values()] for n in networks))


def read_networks(path: Path) -> list[Network]:
    """From a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Network(**{name: _TYPES[name](row[name]) for name in COLUMNS}) for row in csv.DictReader(file)]

"""A study as sections of a report: how many settings train, the swarm and the map with what each trial was, the best trials."""

import shlex
from collections.abc import Sequence
from dataclasses import fields

from gersgorin.report.about import ABOUT, values_table
from gersgorin.report.page import Section, Table
from gersgorin.report.study_charts import map_charts, map_words, swarm_chart
from optim_study.columns import By, swarm
from optim_study.protocol import SharedSettings, StudyConfig
from optim_study.results import Row, by_network
from optim_study.shares import BELOW, summary, training_shares
from rhn.cell_names import lacking, with_depth
from rhn.engine.curves import Objective
from rhn.errors import DataError
from rhn.options import flag
from rhn.wording import counted

BEST_TRIALS = 5  # of each network
SETTINGS = ("learning_rate", "init_scheme", "init_std", "transform_bias")
FEW = 30  # trials of a network, below which the shares say little


def study_sections(configs: Sequence[StudyConfig], rows: Sequence[Row]) -> list[Section]:
    """Everything about the finished trials of a run's studies; raises DataError where there is none."""
    if not rows:
        raise DataError("no trial of this study is finished yet: `optim-study status` says how far it is")
    loss = configs[0].objective
    return [_about(configs, rows), _shares(rows, loss), _swarm(rows, loss), _map(rows, loss), _best(rows, loss)]


def best_study(rows: Sequence[Row], configs: Sequence[StudyConfig]) -> StudyConfig:
    """The study of the best trial of all."""
    best = min(rows, key=lambda row: (row.loss(configs[0].objective), row.arch, row.depth, row.trial))
    return next(c for c in configs if (c.label, c.depth) == (best.arch, best.depth))


def study_command(configs: Sequence[StudyConfig]) -> str:
    """The command of studies of one protocol, as a run makes them, in a folder that is not theirs."""
    first, words = configs[0], []
    for f in fields(SharedSettings):
        value = getattr(first, f.name)
        if value != f.default:
            words += [flag(f.name), *map(str, value if isinstance(value, tuple) else (value,))]
    skip = [word for name, value in first.options.items() for word in (flag(name), str(value))]
    archs, depths = (
        [str(each) for each in dict.fromkeys(values)]
        for values in zip(*((c.arch, c.depth) for c in configs), strict=True)
    )
    return shlex.join(
        ["optim-study", "run", "--arch", *archs, "--depth", *depths, *skip, *words, "--out", "runs/again"]
    )


def _about(configs: Sequence[StudyConfig], rows: Sequence[Row]) -> Section:
    done = {network: len(trials) for network, trials in by_network(rows).items()}
    counts = ", ".join(f"{c.name} {done.get((c.label, c.depth), 0)} of {c.trials}" for c in configs)
    first = configs[0]
    spans = (("learning rate", first.learning_rate), ("initial standard deviation", first.init_std))
    drawn = [f"{name} ({low:g} to {high:g})" for name, (low, high) in spans]
    if not all("transform_bias" in lacking(config.label) for config in configs):
        drawn.append(f"transform bias ({', '.join(f'{bias:g}' for bias in first.transform_bias)})")
    words = [
        f"Random search over {', '.join(drawn[:-1])} and {drawn[-1]}; "
        f"at most {counted(first.epochs, 'epoch')} a trial, budgets of {first.budget_scale:g} times the paper's, seed {first.seed}.",
        f"Finished trials: {counts}.",
    ]
    words.append(f"Run it again: {study_command(configs)}")
    told = {c.name: c.protocol() | {"trials": c.trials, "fingerprint": c.fingerprint} for c in configs}
    return Section(title=ABOUT, words=words, tables=[values_table(told, "The whole protocol of every study")])


def _shares(rows: Sequence[Row], loss: Objective) -> Section:
    found = training_shares(rows, loss)
    columns = [
        "network",
        "units",
        "trials",
        "diverged",
        "best",
        "median",
        f"below {BELOW:g}",
        "share (%)",
        "95 % from",
        "to",
        "p (Holm)",
    ]
    table = [
        [with_depth(s.arch, s.depth), s.hidden_size, s.trials, s.diverged, s.best, s.median, s.below]
        + [100 * share for share in (s.share, *s.interval)]
        + [s.p_holm]
        for s in found
    ]
    words = summary(found).splitlines()
    trained, trials = sum(s.below for s in found), sum(s.trials for s in found)
    verdict = f"{trained} of {counted(trials, 'trial')} of {counted(len(found), 'network')} train (below {BELOW:g} nats a frame)."
    if (least := min(s.trials for s in found)) < FEW:
        words.append(f"With as few as {least} trials a network these shares are hardly known, as the intervals say.")
    caption = "Settings that train, with exact intervals; p: Fisher's exact test against the RHN of the depth, by Holm's method"
    return Section(
        title="How many settings train",
        verdict=verdict,
        words=words,
        tables=[Table(caption=caption, columns=columns, rows=table)],
    )


def _swarm(rows: Sequence[Row], loss: Objective) -> Section:
    charts = [swarm_chart(swarm(rows, loss=loss, by=by)) for by in _groupings(rows)]
    return Section(title="Swarm", charts=charts)


def _groupings(rows: Sequence[Row]) -> list[By]:
    """By architecture; and by depth where that is another order."""
    several = len({row.arch for row in rows}) > 1 and len({row.depth for row in rows}) > 1
    return ["arch", "depth"] if several else ["arch"]


def _map(rows: Sequence[Row], loss: Objective) -> Section:
    return Section(title="Map", words=[map_words(rows, loss)], charts=map_charts(rows, loss))


def _best(rows: Sequence[Row], loss: Objective) -> Section:
    table = []
    for (arch, depth), trials in by_network(rows).items():
        for row in sorted(trials, key=lambda row: (row.loss(loss), row.trial))[:BEST_TRIALS]:
            settings = ["" if (value := getattr(row, name)) is None else value for name in SETTINGS]
            table.append(
                [
                    with_depth(arch, depth),
                    row.trial,
                    row.best_train_nll,
                    row.best_valid_nll,
                    row.test_nll,
                    *settings,
                    row.epochs,
                ]
            )
    columns = ["network", "trial", "train", "valid", "test", "learning rate", "scheme", "std", "bias", "epochs"]
    caption = f"The best {BEST_TRIALS} of each network, losses in nats a frame"
    return Section(title="The best trials", tables=[Table(caption=caption, columns=columns, rows=table)])

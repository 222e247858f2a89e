"""The calibration as JSON, the tables of the note, and its figure."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

import numpy as np

from benchmarks.calibration.judge import (
    SCORES,
    area,
    brier,
    difference,
    fit,
    groups,
    left_out,
    probabilities,
    trusted,
    within,
)
from benchmarks.calibration.trials import Network
from rhn.utils.binomial import exact_interval

SIZE_MARGIN, EPOCH_MARGIN = 2.0, 10.0
"""Factors by which a network's units, and its epochs, may lie beyond all that was tried and still count as alike."""


def calibrate(networks: Sequence[Network], made_by: dict) -> dict:
    """What `gersgorin.checking.calibration` loads: bins of the study alone; limits and trust from all networks."""
    study, others = _study(networks), _others(networks)
    bins = fit(study)
    by_arch = {arch: _judgement(bins, group) for arch, group in groups(others, lambda n: n.arch).items()}
    judged = {kind: _judgement(bins, group) for kind, group in groups(others, lambda n: n.kind).items()}
    for kind, known in judged.items():  # few of a kind refute little: all of its cell speak, too
        known["trusted"] &= by_arch[kind.split()[0]]["trusted"]
    return {
        "made_by": made_by,
        "outcome": "the best training loss is below 0.9 of the best constant output's",
        "bins": [asdict(b) for b in bins],
        "kinds": sorted({n.kind for n in study}),
        "limits": limits(networks),
        "judged": judged,
    }


def _judgement(bins, group: Sequence[Network]) -> dict:
    expected, learned = float(probabilities(bins, group).sum()), sum(n.learned for n in group)
    return {
        "networks": len(group),
        "learned": learned,
        "expected": round(expected, 2),
        "trusted": trusted(learned, len(group), expected),
    }


def limits(networks: Sequence[Network]) -> dict[str, tuple[float, float]]:
    """The range of each quantity among all networks, a little wider for sizes and epochs."""

    def span(name: str, margin: float = 1.0) -> tuple[float, float]:
        values = [getattr(n, name) for n in networks]
        return min(values) / margin, max(values) * margin

    return {
        "depth": span("depth"),
        "hidden_size": span("hidden_size", SIZE_MARGIN),
        "learning_rate": (1e-4, 1.0),
        "momentum": (0.0, 0.95),  # it enters as learning_rate / (1 - momentum)
        "epochs": span("epochs", EPOCH_MARGIN),
        "weight_gain": (0.0, max(n.weight_gain for n in networks)),
    }


def tables(networks: Sequence[Network]) -> str:
    """All tables, as Markdown."""
    study, others = _study(networks), _others(networks)
    parts = [("The bins (study)", _bins(study)), ("Areas under the curve on the study itself", _areas(study))]
    parts += [("Within architecture and depth (study)", _by_group(study, lambda n: (n.arch, n.depth)))]
    for name, part in (("architecture", lambda n: n.arch), ("depth", lambda n: n.depth)):
        parts.append((f"Each {name} left out (study)", _left_out(study, part)))
    if others:
        new = [n for n in others if n.source != "full"]
        parts += [("New networks, all", _areas(new))] if new else []
        parts.append(("New networks by kind", _judged(study, others)))
        parts.append(
            ("New networks within architecture and depth", _by_group(others, lambda n: (n.source, n.arch, n.depth)))
        )
        parts.append(("Calibration on new networks", _reliability(study, others)))
    parts.append(("Leaving: predicted against observed epoch", _leaving(networks)))
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts) + "\n"


def draw(networks: Sequence[Network]):
    """Learned or not by delay and learning rate, and predicted against observed shares; a Figure."""
    from matplotlib.figure import Figure

    from rhn.plotting.figures import BLUE, GREY, ORANGE, titled

    study, others = _study(networks), _others(networks)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    titled(
        figure,
        "What the delay on the plateau says about learning",
        f"{len(networks)} networks, {len(study)} of them of the small study (seed 0), on the rebuilt chorales; learned: best training "
        "loss below 0.9 of the best constant output's; orange: no delay, observed as predicted",
    )
    for axes, group, title in (
        (left, study, "study, which set the probabilities"),
        (middle, others, "new networks, which test them"),
    ):
        for learned, colour, label in ((False, GREY, "did not learn"), (True, BLUE, "learned")):
            chosen = [n for n in group if n.learned is learned]
            axes.scatter(
                [np.clip(-SCORES["delay"](n), -2.5, 6) for n in chosen],
                [n.learning_rate for n in chosen],
                s=9,
                c=colour,
                label=label,
                alpha=0.6,
                linewidths=1 if label == "learned" else 0.6,
                marker="o" if label == "learned" else "x",
            )
        axes.axvline(0, color=ORANGE, lw=1)
        axes.set(yscale="log", title=title, xlabel="delay: log10(predicted / given epochs)")
    left.set_ylabel("learning rate")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    bins = fit(study)
    for group, colour, marker, shift, label in ((study, GREY, "o", -0.01, "study"), (others, BLUE, "s", 0.01, "new")):
        for expected, share, low, high, _ in _shares(bins, group):
            right.errorbar(
                *(expected + shift, share, [[share - low], [high - share]]),
                **{"fmt": marker, "ms": 4, "color": colour, "label": label, "capsize": 2},
            )
            label = None
    right.plot([0, 1], [0, 1], color=ORANGE, lw=1)
    right.set(xlabel="predicted probability", ylabel="share that learned", title="calibration, exact 95 % intervals")
    right.legend(loc="upper left")
    return figure


def _study(networks: Sequence[Network]) -> list[Network]:
    return [n for n in networks if n.source == "study"]


def _others(networks: Sequence[Network]) -> list[Network]:
    return [n for n in networks if n.source != "study"]


def _bins(study: Sequence[Network]) -> str:
    bins, rows = fit(study), []
    for b, following in zip(bins, [*bins[1:], None], strict=True):
        start = f"{b.least:.2f}" if math.isfinite(b.least) else "below"
        to = "above" if following is None else f"{following.least:.2f}"
        rows.append((f"{start} to {to}", b.networks, b.learned, f"{b.probability:.2f}", _percent(b.interval)))
    return _table(("delay", "networks", "learned", "probability", "95 % interval"), rows)


def _areas(networks: Sequence[Network]) -> str:
    rows = []
    for score in SCORES:
        whole, left = (
            area(networks, score),
            area([n for n in networks if not math.isnan(n.left_epoch)], score, lambda n: n.left),
        )
        rows.append((score, whole, left, f"{within(networks, score):.2f}"))
    lines = [_table(("score", "learned", "left the plateau", "learned, within architecture and depth"), rows)]
    for baseline in ("learning rate", "rhn or shallow"):
        value, low, high = difference(networks, "delay", baseline)
        lines.append(f"delay less {baseline}: {value:+.2f} ({low:+.2f} to {high:+.2f})")
    return "\n\n".join(lines)


def _by_group(networks: Sequence[Network], part: Callable[[Network], tuple]) -> str:
    rows = []
    for name, group in groups(networks, part).items():
        found = [area(group, score) for score in ("delay", "learning rate")]
        rows.append((" ".join(map(str, name)), len(group), found[0].learned, *found))
    return _table(("group", "networks", "learned", "delay", "learning rate"), rows)


def _left_out(study: Sequence[Network], part: Callable[[Network], object]) -> str:
    by_score = {score: left_out(study, part, score) for score in ("delay", "learning rate", "rhn or shallow")}
    rows = []
    for name, group in groups(study, part).items():
        learned = sum(n.learned for n in group)
        told = [f"{by_score[s][name].sum():.0f}, {brier(by_score[s][name], group):.3f}" for s in by_score]
        rows.append((name, len(group), learned, *told))
    return _table(("left out", "networks", "learned", *(f"{s}: expected, Brier" for s in by_score)), rows)


def _judged(study: Sequence[Network], others: Sequence[Network]) -> str:
    bins, rows = fit(study), []
    for (source, kind), group in groups(others, lambda n: (n.source, n.kind)).items():
        told, learned = probabilities(bins, group), sum(n.learned for n in group)
        share = _percent(exact_interval(learned, len(group)))
        verdict = "yes" if trusted(learned, len(group), float(told.sum())) else "no"
        rows.append(
            (
                source,
                kind,
                len(group),
                f"{learned} ({share})",
                f"{told.sum():.1f}",
                verdict,
                *_two_areas(group),
                f"{brier(told, group):.3f}",
            )
        )
    header = (
        "source",
        "kind",
        "networks",
        "learned",
        "expected",
        "agrees",
        "area, delay",
        "area, learning rate",
        "Brier",
    )
    return _table(header, rows)


def _two_areas(group: Sequence[Network]) -> list[str]:
    return [str(area(group, score)) for score in ("delay", "learning rate")]


def _reliability(study: Sequence[Network], others: Sequence[Network]) -> str:
    rows = [
        (f"{expected:.2f}", count, f"{share:.2f} ({low:.2f} to {high:.2f})")
        for expected, share, low, high, count in _shares(fit(study), others)
    ]
    return _table(("probability told", "networks", "share that learned"), rows)


def _shares(bins, networks: Sequence[Network]) -> list[tuple[float, float, float, float, int]]:
    """(Probability told, share that learned, its interval, networks) of each bin that holds any of these networks."""
    found = []
    told = probabilities(bins, networks) if networks else np.empty(0)
    for probability in sorted(set(told.tolist())):
        chosen = [n.learned for n, p in zip(networks, told, strict=True) if p == probability]
        found.append((probability, np.mean(chosen), *exact_interval(sum(chosen), len(chosen)), len(chosen)))
    return found


def _leaving(networks: Sequence[Network]) -> str:
    """Of those that left: the median of observed / predicted, and how many within a factor of two; and who was said to leave."""
    rows = []
    for (source, arch, depth), group in groups(networks, lambda n: (n.source, n.arch, n.depth)).items():
        known = [n for n in group if not math.isnan(n.left_epoch)]
        both = [n for n in known if n.left and math.isfinite(n.escape_epochs)]
        ratios = [max(n.left_epoch, 0.5) / max(n.escape_epochs, 0.5) for n in both]
        near = sum(0.5 <= r <= 2 for r in ratios)
        said = [n.escape_epochs <= n.epochs for n in known]
        hits = sum(s and n.left for s, n in zip(said, known, strict=True))
        misses = sum(not s and n.left for s, n in zip(said, known, strict=True))
        false = sum(s and not n.left for s, n in zip(said, known, strict=True))
        median = f"{np.median(ratios):.2f}" if ratios else "-"
        rows.append((source, f"{arch} {depth}", len(known), hits, misses, false, median, f"{near} of {len(ratios)}"))
    header = (
        "source",
        "network",
        "networks",
        "left as said",
        "left unsaid",
        "said and stayed",
        "observed / predicted, median",
        "within 2x",
    )
    return _table(header, rows)


def _percent(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def _table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)

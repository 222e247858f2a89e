"""`gersgorin compare`: cells, depths, initialisations, seeds or trained weights side by side, or
medians over many runs.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from gersgorin.analyses import ANALYSES, Analysis
from gersgorin.cli.outputs import default_figure, show
from gersgorin.loading.options import DataOptions, NewOrTrained, OutputOptions
from rhn.cli.entry import own_cell, resolve_device, run_command
from rhn.errors import InvalidInputError
from rhn.utils.command_line import run_read, single
from rhn.utils.figures import Outputs
from rhn.utils.progress import progress_bars
from rhn.utils.ranges import within
from rhn.utils.shared_options import given_flags
from rhn.utils.wording import counted

MOST_RUNS = 1000
COMPARISON = Parameter(group=Group("comparison", sort_key=0))


@dataclass(frozen=True, kw_only=True)
class CompareOptions(OutputOptions, DataOptions, NewOrTrained):
    """Compare networks along a sequence, or over many sequences and seeds.

    examples:
      gersgorin compare irnn,rhn --cell rnn
      gersgorin compare depth=1,2,5,10 --analysis lyapunov
      gersgorin compare bias=-1,-2,-4 --cell rhn --sequences 20 --seeds 5
      gersgorin compare runs/depth2,runs/depth6
      gersgorin compare init,lstm --checkpoint runs/depth6 --output trained.pdf
    """

    variants: Annotated[str | None, COMPARISON] = field(default=None, kw_only=False)
    """Cells (rnn,lstm), values of an option (depth=1,2, hidden-size=, init=, bias=, seed=, or the
    cell's own, leak=0.1,0.5), files (runs/a,runs/b), or init: before training.
    """
    analysis: Annotated[str, COMPARISON] = "spectra"
    """An analysis of a run, such as products, gains, gates, lyapunov, fixed-points."""
    sequences: Annotated[int | None, COMPARISON, within(least=1, most=MOST_RUNS)] = None
    """Medians over N chorales or sequences of --input."""
    seeds: Annotated[int | None, COMPARISON, within(least=1, most=MOST_RUNS)] = None
    """Medians over N draws of the weights, from --seed."""

    @property
    def many(self) -> bool:
        """True for medians over many runs."""
        return self.sequences is not None or self.seeds is not None


def main(args: list[str] | None = None, prog: str = "gersgorin compare") -> int:
    """Run the command; returns its exit code. prog: as it was typed."""
    return run_command(lambda: run_read(single(prog, CompareOptions), args, run))


def run(options: CompareOptions) -> None:
    """Resolve networks and data, compute, draw, write and print."""
    row = _analysis(options)

    from gersgorin.comparing.side_by_side import of_results
    from gersgorin.comparing.variants import CELL, panel_networks, parse_variants
    from gersgorin.loading.network import names_weights
    from gersgorin.loading.sources import sources_of_options

    option, values = variants = parse_variants(options.variants)
    first = (
        next((word for word in values if names_weights(str(word))), None)
        if option == CELL
        else None
    )
    if first and not options.checkpoint:
        others = ",".join(word for word in values if word != first)
        options = replace(options, checkpoint=Path(first), variants=others)
    _check(options)
    outputs = Outputs.of(
        options, default_figure("" if row.name == "spectra" else row.command, options)
    )
    sources = sources_of_options(options, options, options.sequences)
    networks = panel_networks(options, variants, sources[0].input_size, options.seeds or 1)
    device, measure = resolve_device(options.device), _bands if options.many else _along
    with progress_bars() as report:
        results = [measure(options, row, seeds, sources, device, report) for seeds in networks]
    found = of_results(results, row.name, f"{sources[0].kind} {sources[0].first_label}")
    outputs.write(found.figure, found.save)
    show(outputs, options, found)


def _analysis(options: CompareOptions) -> Analysis:
    """The row of --analysis. Raises InvalidInputError for a name that is none, or an analysis that
    needs a loss.
    """
    rows = {row.name.replace("_", "-"): row for row in ANALYSES.values() if row.needs == "run"}
    name = options.analysis.replace("_", "-")
    if name not in rows:
        raise InvalidInputError(f"--analysis {options.analysis}: expected one of {', '.join(rows)}")
    return rows[name]


def _check(options: CompareOptions) -> None:
    """Raise InvalidInputError for options that contradict each other."""
    many, seeds, trained = options.many, options.seeds, options.checkpoint
    refused = {
        "there is nothing to compare: name VARIANTS (see gersgorin compare --help), or "
        "give --seeds": not (options.variants or many),
        "medians over many runs are of the spectra: leave --analysis out": many
        and options.analysis != "spectra",
        "--sequences and --chorale both name something to read: give only one": options.sequences
        and given_flags(options, ("chorale",)),
        f"--seeds draws new weights, those of {trained} are trained: leave it out": seeds
        and trained,
        "seed=... shows each seed and --seeds their median: give one": seeds
        and (options.variants or "").startswith("seed="),
    }
    for sentence, wrong in refused.items():
        if wrong:
            raise InvalidInputError(sentence)


def _along(options: CompareOptions, row: Analysis, networks, sources, device: str, report):
    """The result of an analysis of one network along one sequence."""
    from gersgorin.loading.open import run_along

    (subject,), (source,) = networks, sources
    with own_cell(subject.name):
        return row(
            run_along(subject, source, device=device),
            progress=report(f"{row.name} of {subject.title}"),
        )


def _bands(options: CompareOptions, row: Analysis, networks, sources, device: str, report):
    """Medians and bands of one network over all its seeds and all sequences."""
    from gersgorin.comparing.bands import compare_runs
    from gersgorin.loading.open import run_along

    first, source, total = networks[0], sources[0], len(networks) * len(sources)
    advance, last = report(f"runs of {first.title}"), options.seed + len(networks) - 1
    made = f"{first.made} to seed {last}" if first.made and len(networks) > 1 else first.made
    along = f"{source.kind} {source.label}"
    if len(sources) > 1:
        along = counted(len(sources), "part" if source.kind == "text" else source.kind)
        if source.kind != "chorale":
            along += f" of {source.name}"
    runs = (
        (options.seed + k, run_along(replace(network, title=first.title), one, device=device))
        for k, network in enumerate(networks)
        for one in sources
    )
    about = "; ".join(filter(None, (made, source.about)))
    with own_cell(first.name):
        return compare_runs(
            runs, along=along, about=about, progress=lambda done: advance(done, total)
        )

"""`gersgorin plot`, `gersgorin-plot`: spectra and discs of single steps, and over time what their products do."""

from dataclasses import dataclass
from typing import Literal

from gersgorin.cli.outputs import FILES, default_figure, saver, show
from gersgorin.loading.options import DataOptions, NetworkOptions, OutputOptions
from rhn.cli.entry import own_cell, resolve_device, run_command
from rhn.utils.figures import Outputs
from rhn.utils.options import option, parse
from rhn.utils.progress import progress_bars


@dataclass(frozen=True, kw_only=True)
class PlotOptions(OutputOptions, DataOptions, NetworkOptions):
    """Spectra and Geršgorin discs of a recurrent cell along a sequence, and what the products of its Jacobians do.

    examples:
      gersgorin-plot --cell rhn --depth 5
      gersgorin-plot --checkpoint runs/mine --chorale bwv66.6 --output trained.pdf trained.npz
      gersgorin-plot --module my_package.models:make --checkpoint weights.pt --input x.npy
      gersgorin-plot --cell lstm --hidden-size 830 --leading 32 --steps 20
    """

    group = "spectra"

    discs: Literal["row", "column", "both"] = option(
        "row", "Discs of rows, of columns (the paper's rows), or where both unions overlap."
    )
    leading: int | None = option(
        None, "Only the K eigenvalues of largest modulus, for large states (default: all; 32 of more than 4,096)."
    )


def main(args: list[str] | None = None, prog: str = "gersgorin-plot") -> int:
    """Run the command; returns its exit code. prog: as it was typed."""
    return run_command(lambda: run(parse(PlotOptions, args, prog=prog)))


def run(options: PlotOptions) -> None:
    """Check everything that can be checked, then measure, draw, write and print."""
    outputs = Outputs.of(options, default_figure("", options), FILES)
    device = resolve_device(options.device)

    from gersgorin.analyses.spectra import spectra, usual_leading
    from gersgorin.loading.open import network_of_options, run_along
    from gersgorin.loading.sources import source_of_options
    from gersgorin.plotting.animation import moving_run
    from gersgorin.plotting.run_figure import draw_run

    source = source_of_options(options, options)
    subject = network_of_options(options, source.input_size, source.steps)
    leading = usual_leading(subject.state_size) if options.leading is None else options.leading
    with progress_bars() as report, own_cell(subject.name):
        run = run_along(subject, source, device=device, whole=leading is None)
        found = spectra(run, discs=options.discs, leading=leading, progress=report(f"spectra of {run.label.title}"))
        outputs.write(lambda: draw_run(found), saver(found, moving_run, report))
    show(outputs, options, found)

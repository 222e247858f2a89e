"""The options of `gersgorin report`: the subject of the page, its data, and the parts of the
page.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from gersgorin.cli.options import DATA, BatchAxisOption, DataOptions
from rhn.utils.ranges import within
from rhn.utils.shared_options import OUTPUT_GROUP, Sized

REPORT = Parameter(group=Group("report", sort_key=0))


@dataclass(frozen=True, kw_only=True)
class ReportedNetwork:
    """The subject of the report."""

    about: Annotated[Path, REPORT] = field(kw_only=False)
    """Subject of the page: a file of weights, or the folder of a training run or of a study."""
    cell: Annotated[str | None, REPORT] = None
    """The cell of the trained weights, if it is your own: package.module:factory."""
    module: Annotated[str | None, REPORT] = None
    """Your torch module, as package.module:factory, or a layer of torch, such as torch.nn:LSTM.
    With this option, the file in ABOUT holds the state_dict of the module.
    """
    submodule: Annotated[str | None, REPORT] = None
    """The part of --module that holds the cell, such as encoder.rnn (default: the first recurrent
    cell in the module is used).
    """
    storage: Annotated[str | None, REPORT, Parameter(metavar="URL")] = None
    """Database with the results of a study (default: the journal file in its folder)."""

    lesions: Annotated[bool, REPORT] = False
    """Measure lesions even if this takes longer than about half a minute. For a language model
    they are measured on the first 20,000 tokens of its validation text. Default: leave lesions out
    if they take longer.
    """
    also: Annotated[tuple[str, ...], REPORT] = ()
    """Names of further analyses to show on the page, such as lyapunov (default: none)."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Sized, DataOptions, BatchAxisOption, ReportedNetwork):
    """Write one HTML page about a network, a training run or a study: four numbers, spectra,
    gradients, gates, lesions, curves, swarm plot and map. The page loads no other files, so it can
    be sent, opened anywhere and printed.

    examples:
      gersgorin report runs/depth6 -o depth6.html
      gersgorin report runs/depth6/best.safetensors --chorale bwv66.6 --lesions
      gersgorin report runs/ptb --input novel.txt --steps 50
      gersgorin report runs/all --output study.html
      gersgorin report my.pt --module my_models:make --input x.npy
    """

    output: Annotated[Path | None, OUTPUT_GROUP, Parameter(alias="-o")] = None
    """The page to write, .html (default: report-NAME.html in the current folder)."""
    steps: Annotated[int | None, DATA, within(least=2)] = None

"""`rhn-analyze gates` and `report`: gates of a network, and a page of figures and tables."""

from pathlib import Path
from typing import ClassVar

from analysis.cli import LayerCommand, TrainedNetwork
from rhn.utils.command_line import Device, command_class
from rhn.utils.io import atomic_path, check_output
from rhn.utils.resources import resolve_device


@command_class
class GatesCommand(LayerCommand):
    """Mean transform gate of each layer over time (figure 5(b) of the paper), and the shares of
    gates that are closed and open.
    """

    function: ClassVar[str] = "analysis.gates:gate_activity"

    output: tuple[Path, ...] = (Path("gates.png"),)
    """Files for the figure (.png, .svg, .pdf) and for all numbers (.json, .npz)."""


@command_class
class ReportCommand(TrainedNetwork):
    """Write one HTML page with the figures and tables of a training run, of the spectra of its
    network, of gates and of lesions.
    """

    output: Path = Path("report.html")
    """The file to write (.html)."""
    device: Device = "auto"
    """Device of the computation; auto: a GPU if there is one, else the CPU."""

    def run(self) -> None:
        """Measure, and write the page."""
        from analysis.report import report_page  # loads torch
        from rhn.utils.resources import tune_malloc

        check_output(self.output, (".html",))
        tune_malloc()
        given = {name: getattr(self, name) for name in ("data", "cell")}
        given |= {"split": self.split or "", "device": resolve_device(self.device)}
        page = report_page(self.checkpoint, **given)
        with atomic_path(self.output) as temporary:
            temporary.write_text(page, encoding="utf-8")
        print(f"file: {self.output}")

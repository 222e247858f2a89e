"""Transform gates, lesions and refinement of trained networks (Zilly et al. 2017, section 6).

    activity = analysis.gate_activity(model, pieces)     # layers x time, figure 5(b)
    table = analysis.lesion(model, pieces, mode="bias")  # loss without each layer, figure 6
    found = analysis.refinement(model, pieces)           # loss if the readout follows each layer
    print(table); table.figure().savefig("lesions.png"); table.csv("lesions.csv")

`model` is a network of `rhn.models`, your own torch module, or the path of a checkpoint or run
folder; then `pieces` are, by default, the data of its training run. `pieces` are piano rolls
(T, keys), or for a language model ids of tokens (T,). The commands `rhn-analyze gates`, `lesion`,
`refine` and `report` call these functions.
"""

from typing import TYPE_CHECKING

from rhn.utils.lazy import lazy_names
from rhn.version import __version__ as __version__

if TYPE_CHECKING:
    from analysis.gate_table import GateActivity as GateActivity
    from analysis.gates import gate_activity as gate_activity
    from analysis.jackknife import paired_interval as paired_interval
    from analysis.lesion_modes import Lesion as Lesion
    from analysis.lesion_table import LesionTable as LesionTable
    from analysis.lesioned_network import lesioned as lesioned
    from analysis.lesions import lesion as lesion
    from analysis.refine import Refinement as Refinement
    from analysis.refine import refinement as refinement
    from analysis.report import report_page as report_page
    from analysis.texts import Excerpt as Excerpt
    from analysis.texts import excerpts as excerpts
    from analysis.texts import stretches as stretches

__all__, _load, __dir__ = lazy_names(
    __name__,
    {
        "gate_table": ("GateActivity",),
        "gates": ("gate_activity",),
        "jackknife": ("paired_interval",),
        "lesion_table": ("LesionTable",),
        "lesions": ("lesion",),
        "lesion_modes": ("Lesion",),
        "lesioned_network": ("lesioned",),
        "refine": ("Refinement", "refinement"),
        "report": ("report_page",),
        "texts": ("Excerpt", "excerpts", "stretches"),
    },
)
if not TYPE_CHECKING:  # a name outside the table is an error
    __getattr__ = _load

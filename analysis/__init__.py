"""Transform gates and lesions of trained networks (Zilly et al. 2017, section 6).

    activity = analysis.gate_activity(model, pieces)     # layers x time, figure 5(b)
    table = analysis.lesion(model, pieces, mode="bias")  # loss without each layer, figure 6
    print(table); table.figure().savefig("lesions.png"); table.csv("lesions.csv")

`model` is a network of `rhn.models`, your own torch module, or the path of a checkpoint or run
folder; then `pieces` are, by default, the data of its training run. `pieces` are piano rolls
(T, keys), or for a language model ids of tokens (T,). The commands `rhn-analyze gates`, `lesion`
and `report` call these functions.
"""

from rhn.utils.lazy import lazy_names
from rhn.version import __version__ as __version__

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "activity": ("GateActivity",),
        "damage": ("LesionTable",),
        "gates": ("gate_activity",),
        "lesions": ("lesion", "paired_interval"),
        "lesion_modes": ("Lesion", "lesioned"),
        "report": ("report_page",),
        "texts": ("Excerpt", "excerpts", "stretches"),
    },
)

"""Transform gates and lesions of trained networks (Zilly et al. 2017, section 6).

    activity = analysis.gate_activity(model, pieces)     # layers x time, figure 5(b)
    table = analysis.lesion(model, pieces, mode="bias")  # loss without each layer, figure 6
    activity.plot(); table.plot(); table.to_csv("lesions.csv")

`model` is a network of `rhn.models`, your own torch module with cells of `rhn` or torch.nn, in any
layout, or the path of a checkpoint or run folder, whose data are then read, too.

`pieces` are piano rolls (T, keys): those of `rhn.data.chorales()`, or your own arrays; for a
language model ids of tokens (T,): `analysis.excerpts` and `analysis.stretches` cut them out of a
text. `gate_activity` returns a `GateActivity`, `lesion` a `LesionTable`: results of plain numbers,
which are drawn, saved and printed without torch. `rhn-analyze gates` and `rhn-analyze lesion` are
the same two as commands.

`analysis.lesion_modes` shows how to add a kind of lesion, `analysis.sequences` a kind of network,
`analysis.network` how a module's axes and the calls of its cells are read.
"""

from rhn.utils.lazy import lazy_names
from rhn.version import __version__ as __version__

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "activity": ("GateActivity",),
        "damage": ("LesionTable",),
        "gates": ("gate_activity",),
        "lesions": ("lesion", "paired_bootstrap"),
        "lesion_modes": ("Lesion", "lesioned"),
        "sequences": ("Excerpt", "excerpts", "stretches"),
    },
)

"""Transform gates and lesions of trained networks (Zilly et al. 2017, section 6).

    activity = analysis.gate_activity(model, pieces)     # layers x time, figure 5(b)
    table = analysis.lesion(model, pieces, mode="bias")  # loss without each layer, figure 6
    activity.plot(); table.plot(); table.to_csv("lesions.csv")

`model` is a network of `rhn.models`, or your own torch module with cells of `rhn` or torch.nn, time
first or batch first. `model` can also be the path of a checkpoint or run folder; then `pieces` are,
by default, the data of its training run.

`pieces` are piano rolls (T, keys), such as those of `rhn.data.chorales()` or your own arrays. For a
language model, `pieces` are ids of tokens (T,), which `analysis.excerpts` and `analysis.stretches`
cut out of a text. `gate_activity` returns a `GateActivity`, and `lesion` a `LesionTable`. Both hold
plain numbers, and can be drawn, saved and printed without torch. The commands `rhn-analyze gates`
and `lesion` call these functions.

`analysis.lesion_modes` shows how to add a kind of lesion, and `analysis.sequences` how to add a
kind of network. `analysis.network` finds the axes of a module and records the calls of its cells.
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
        "sequences": ("Excerpt", "excerpts", "stretches"),
    },
)

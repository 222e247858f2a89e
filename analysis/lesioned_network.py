"""Lesion layers of a network: choose a mode that its layers can have, edit its tensors.

Layers of a network are counted from 1, in the order in which it declares them.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from analysis.layers import Place, copied_network, places
from analysis.lesion_modes import MODES, Lesion
from gersgorin import checks


def check_mode(every: Sequence[Place], mode: str | None) -> str:
    """Return the mode; for None the first one in `MODES` that some layer has. Raises
    InvalidInputError for a mode that is unknown, or that no layer can have.
    """
    has = [m for m in MODES if lesioned_layers(every, m)]
    kinds = ", ".join(sorted({type(place.cell).__name__ for place in every}))
    found = next(iter([*has, *MODES])) if mode is None else mode
    wanted = ", ".join(has) or "layers() and run_layer()"
    checks.require(found in has, f"mode of {kinds}", found, wanted)
    return found


def lesioned_layers(every: Sequence[Place], mode: str) -> list[int]:
    """Return the layers that a mode can lesion, counted from 1."""
    return [k for k, place in enumerate(every, start=1) if MODES[mode].applies(place)]


def changes(
    every: Sequence[Place], tensors: Mapping[str, Tensor], lesion: Lesion
) -> dict[str, Tensor]:
    """Return new values of the tensors that a lesion changes in a network, by name.

    every, tensors: the layers and the tensors of the network, which the mode has prepared.
    """
    changed: dict[str, Tensor] = {}

    def copied(name: str) -> Tensor:
        return changed.setdefault(name, tensors[name].clone())

    for number in lesion.layers:
        MODES[lesion.mode].change(every[number - 1], copied)
    return changed


def lesioned(model: nn.Module, lesion: Lesion) -> nn.Module:
    """Return a copy of a network with one lesion, in evaluation mode. Raises InvalidInputError for
    a mode or layers that the network lacks.

    >>> from rhn import PolyphonicModel
    >>> model = PolyphonicModel("rhn", hidden_size=3, depth=2)
    >>> shut = lesioned(model, Lesion("bias", (2,)))  # the transform gate of the second layer
    >>> shut.cells[0].bias[1].tolist()
    [0.0, 0.0, 0.0, -10000.0, -10000.0, -10000.0]
    """
    is_lesion = isinstance(lesion, Lesion)
    checks.require(is_lesion, "lesion", checks.kind(lesion), "a Lesion")
    network = copied_network(model)
    every = places(network)
    mode, layers = check_mode(every, lesion.mode), lesion.layers
    fits = lesioned_layers(every, mode)
    good = isinstance(layers, tuple) and layers and {*layers} <= {*fits}
    checks.require(bool(good), "layers", layers, f"a tuple of some of {fits}, counted from 1")
    ready = MODES[mode].prepare(network)
    ready.load_state_dict(changes(places(ready), ready.state_dict(), lesion), strict=False)
    return ready

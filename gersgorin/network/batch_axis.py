"""Find the axis of the batch in the input of a module that reads data.

axis = axis_for(module, read_data("x.npy"), None)    # 0, 1 or None
"""

from torch import nn

from gersgorin.data.files import Dataset
from gersgorin.data.inputs import reads_ids
from gersgorin.data.layout import declared_axis


def axis_for(
    module: nn.Module,
    data: Dataset,
    batch_axis: int | None,
    *,
    ids: bool | None = None,
    state_size: int | tuple[int, ...] | None = None,
) -> int | None:
    """The axis of the batch in the input of a module that reads data: the axis that the caller
    gives, or else the one that the module declares. If the data has a batch axis, or if the module
    does not run on the one sequence (T, m), it is otherwise the axis along which the module keeps
    two sequences apart. If both axes do, as for a step, either is right: that of the data. If none
    does, it is that of the data only if the data is one sequence. None: not known, or no batch.

    ids: whether the data contains ids; None: see `reads_ids`. state_size: entries of the state of a
    step that does not declare them.
    """
    # which loads the models of rhn
    from gersgorin.network.sequence_map import keeps_apart, runs_without_batch

    axis = declared_axis(module) if batch_axis is None else batch_axis
    ids = reads_ids(module, data.x) if ids is None else ids
    layout = data.layout(ids=ids)
    if axis is not None:
        return axis
    one = data.first(None, ids=ids)
    if layout.batch is None and runs_without_batch(module, one, state_size):
        return None
    apart = [keeps_apart(module, one, axis, state_size) for axis in (0, 1)]
    if apart[0] != apart[1]:
        return apart.index(True)
    return layout.batch if all(apart) or layout.sizes(data.x)[1] == 1 else None

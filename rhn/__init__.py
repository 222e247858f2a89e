"""Recurrent highway networks and related networks: cells, kernels, data, training, checkpoints.

    import rhn

    cell = rhn.make_cell("dt-rnn", 88, 16, depth=2)  # or "torch.nn:GRU", "my_package.cells:MyCell"
    data = rhn.load_data("jsb")  # chorales as piano rolls (T, 88); "ptb" and other texts likewise
    outputs, state = cell(cell.weight_ih.new_tensor(data.train[0]))

    settings = {"cell": "gru", "hidden_size": 16, "epochs": 2}
    (result,) = rhn.train("jsb-depth-1", data, out="runs/gru", **settings)
    model = rhn.load("runs/gru")
    print(rhn.evaluate(model, data, "test").nll, "nats per frame")
    frames = rhn.sample(model, bars=2)

Each name loads its module on first use, so `import rhn` loads neither torch nor data.
"""

from typing import TYPE_CHECKING

from rhn.errors import RhnError as RhnError
from rhn.utils.lazy import lazy_names
from rhn.version import __version__ as __version__

if TYPE_CHECKING:
    from rhn import cells as cells
    from rhn import data as data
    from rhn import models as models
    from rhn.cells.base import Cell as Cell
    from rhn.cells.conversion import from_torch as from_torch
    from rhn.cells.registry import make_cell as make_cell
    from rhn.cells.registry import register_cell as register_cell
    from rhn.checkpoints import load as load
    from rhn.checkpoints import save as save
    from rhn.data import load_data as load_data
    from rhn.models import LanguageModel as LanguageModel
    from rhn.models import PolyphonicModel as PolyphonicModel
    from rhn.presets import preset as preset
    from rhn.training.ensemble import Ensemble as Ensemble
    from rhn.training.evaluation import evaluate as evaluate
    from rhn.training.run import train as train
    from rhn.training.sampling import sample as sample

__all__, _load, __dir__ = lazy_names(
    __name__,
    {
        "cells.base": ("Cell",),
        "cells.conversion": ("from_torch",),
        "cells.registry": ("make_cell", "register_cell"),
        "checkpoints": ("load", "save"),
        "data": ("load_data",),
        "errors": ("RhnError",),
        "models": ("LanguageModel", "PolyphonicModel"),
        "training.configure": ("preset",),
        "training.ensemble": ("Ensemble",),
        "training.evaluation": ("evaluate",),
        "training.run": ("train",),
        "training.sampling": ("sample",),
        "version": ("__version__",),
    },
    submodules=("cells", "data", "models"),
)
if not TYPE_CHECKING:  # a name outside the table is an error
    __getattr__ = _load

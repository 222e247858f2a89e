"""Lesions of the paper's depth-6 RHN over the training chorales: all networks as one stack, against
one after another.

On a CPU both do the same arithmetic, and the stack only must not cost anything; the aim is for
GPUs.
"""

import torch

from analysis import lesion
from benchmarks.registry import on_both
from rhn.data import chorales
from rhn.models import PolyphonicModel

DEPTH, UNITS = 6, 262  # 900,000 parameters


NAME = f"lesions of an RHN n={UNITS} depth={DEPTH} over the training chorales, one stack"


@on_both(NAME, "the same networks one by one", 0.9, pairs=3)
def _(device):
    pieces = chorales().train
    generator = torch.Generator().manual_seed(0)
    model = PolyphonicModel(
        "rhn", hidden_size=UNITS, depth=DEPTH, init="gaussian:0.05", generator=generator
    ).to(device)
    return (lambda: lesion(model, pieces, "bias")), (
        lambda: lesion(model, pieces, "bias", at_once=1)
    )

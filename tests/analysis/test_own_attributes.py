"""Names of attributes of a user's module mean nothing to an analysis."""

import numpy as np
import pytest
import torch
from torch import nn

import analysis


class Named(nn.Module):
    """Two cells and an attribute that happens to have a name of ours."""

    def __init__(self, **attributes):
        super().__init__()
        self.a, self.b, self.out = nn.GRU(5, 4), nn.GRU(4, 3), nn.Linear(3, 5)
        vars(self).update(attributes)

    def forward(self, x):
        return self.out(self.b(self.a(x)[0])[0])


@pytest.mark.parametrize(
    "attribute", [{"order": "ba"}, {"order": 2}, {"layout": 0}, {"returned": 1}]
)
def test_an_attribute_of_a_module_changes_nothing(attribute):
    frames = [np.eye(5)[[0, 1, 2, 3, 4, 0]], np.eye(5)[[2, 1, 0, 3]]]
    torch.manual_seed(0)
    plain = Named()
    named = Named(**attribute)
    named.load_state_dict(plain.state_dict())
    wanted = analysis.gate_activity(plain, frames).activity
    np.testing.assert_array_equal(analysis.gate_activity(named, frames).activity, wanted)
    losses = [analysis.lesion(model, frames).loss for model in (named, plain)]
    np.testing.assert_array_equal(*losses)

"""How much memory there is: the machine's, and what a container may take of it."""

from dataclasses import replace

import pytest

from rhn.cells import RHN
from rhn.errors import InvalidInputError
from rhn.training import ensemble
from rhn.training.ensemble import build_model, build_models
from rhn.utils import validation as memory
from tests.rhn.texts import SMALL


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    assert memory._left_in_group(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 250\n")
    assert memory._left_in_group(tmp_path) == 550
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._left_in_group(tmp_path) == float("inf")
    assert memory.free_memory("cpu") > 12345
    monkeypatch.setattr(memory, "_left_in_group", lambda group: 12345)
    assert memory.free_memory("cpu") == 12345


class Own(RHN):
    """A user's cell, which cannot be built without memory."""

    def __init__(self, *args, device=None, **options):
        if str(device) == "meta":
            raise AssertionError("a user's cell is not built on the meta device")
        super().__init__(*args, device=device, **options)


def test_a_users_cell_is_built_once_and_refused_if_its_training_is_beyond_memory(monkeypatch):
    config = replace(SMALL, cell=f"{__name__}:Own")

    def first(seed):
        return build_model(config, 10, seed=seed)

    model = first(0)
    monkeypatch.setattr(
        memory, "free_memory", lambda device: 2 * ensemble.TRAINED * ensemble.weight_bytes(model)
    )
    assert len(build_models(first, [0, 1], "cpu")) == 2
    with pytest.raises(InvalidInputError, match=r"^training needs about .* fewer or smaller"):
        build_models(first, [0, 1, 2], "cpu")

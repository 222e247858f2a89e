"""What a command reads from the user's file."""

import torch

from trainability.cli import arguments_in

FILE = """
def model(x):
    import late_helper
    return late_helper.A * x


parts = {"model": model}
"""


def test_a_model_of_a_file_may_import_when_it_runs(own_folder):
    (own_folder / "late").mkdir()
    (own_folder / "late" / "late_helper.py").write_text("A = 3\n")
    (own_folder / "late" / "train.py").write_text(FILE)
    assert arguments_in("late/train.py:parts")["model"](torch.ones(2)).tolist() == [3, 3]

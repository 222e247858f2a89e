"""Every public name of version 0.7.0 still works, and warns if it has moved."""

import importlib
import warnings
from pathlib import Path
from pkgutil import resolve_name

import pytest

import optim_study
from rhn.utils.old_names import NEW_NAMES

NAMES = Path(__file__).with_name("names_of_0_7.txt").read_text().split()
"""What `__all__` of the packages had, and what docs/api listed, by the path of that time."""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NEW_NAMES])
def test_a_public_name_of_0_7_stays_without_a_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        assert resolve_name(name) is not None


@pytest.mark.parametrize("name", NEW_NAMES)
def test_a_name_that_has_moved_warns_with_its_new_path(name):
    home, _, last = name.rpartition(".")
    module, new = importlib.import_module(home), NEW_NAMES[name]
    sentence = f"^{name} works until 1.1: expected {new}$"
    with pytest.warns(DeprecationWarning, match=sentence) as seen:
        old = getattr(module, last)
    assert old is resolve_name(new)
    assert [each.filename for each in seen] == [__file__]
    assert not hasattr(module, "nonsense")


def test_a_study_takes_quiet_as_0_7_did(tmp_path, capsys):
    config = optim_study.smoke(arch=("rnn",), out=tmp_path / "run", trials=1, epochs=1)
    with pytest.warns(DeprecationWarning, match="quiet=") as seen:
        optim_study.run(config, quiet=True)
    assert [each.filename for each in seen] == [__file__]
    assert capsys.readouterr().err == ""
    with pytest.warns(DeprecationWarning, match="quiet="):
        optim_study.run(config, quiet=False)
    assert capsys.readouterr().err


@pytest.mark.parametrize("name", ["status", "export"])
def test_out_names_a_folder_as_in_0_7_and_warns(name, command, tmp_path):
    folder = tmp_path / "run"
    optim_study.run(optim_study.smoke(arch=("rnn",), out=folder, trials=1, epochs=1))
    plain, old = (command(f"optim-study {name}", *how, folder) for how in ((), ("--out",)))
    assert old.out == plain.out
    warning = f"optim-study {name} --out works until 1.1: expected optim-study {name} FOLDER"
    assert plain.err == "" and old.err == f"warning: {warning}\n"

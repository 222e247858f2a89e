"""The compiled library is made once, is never trusted when damaged, and is never needed."""

import logging
import subprocess
import sys

import pytest

from rhn.kernels.compiled import build

PROBE = "from rhn.kernels.compiled.build import library; print(library() is not None)"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(build.SWITCH, raising=False)
    return tmp_path / "rhn" / "compiled"


@pytest.fixture
def compiler():
    try:
        return build._compiler()
    except build.CompileError as error:
        pytest.skip(str(error))


@pytest.fixture
def compilations(monkeypatch):
    """How often the compiler has made a library."""
    made, run = [], build._run

    def counted(name, *arguments):
        if "-o" in arguments:
            made.append(arguments)
        return run(name, *arguments)

    monkeypatch.setattr(build, "_run", counted)
    return made


def kept(home):
    return sorted(home.iterdir())


def test_it_is_compiled_once_and_belongs_to_the_user_alone(home, compiler, compilations):
    for _ in range(2):
        assert build._load(compiler).rhn_lanes() == 32
    assert len(compilations) == 1
    assert [path.suffix for path in kept(home)] == [".so"]
    assert home.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-40] + b"x" + b[-39:]])
def test_a_damaged_file_is_compiled_again(home, compiler, compilations, damage):
    build._load(compiler)
    (path,) = kept(home)
    whole = path.read_bytes()
    path.unlink()  # the loaded library is mapped: its file must not be written to
    path.write_bytes(damage(whole))
    assert build._load(compiler).rhn_lanes() == 32
    assert len(compilations) == 2 and build._whole(path) is not None


def test_other_sources_make_another_file(home, compiler, monkeypatch):
    first = build._key(compiler)
    monkeypatch.setattr(build, "_FLAGS", ("-O1", *build._FLAGS))
    assert build._key(compiler) != first


@pytest.mark.parametrize("obstacle", ["a file", "open to others"])
def test_where_nothing_can_be_kept_a_process_compiles_for_itself(home, compiler, compilations, obstacle):
    home.parent.mkdir()
    if obstacle == "a file":
        home.touch()
    else:
        home.mkdir()
        home.chmod(0o777)
    assert build._load(compiler).rhn_lanes() == 32
    assert len(compilations) == 1
    assert obstacle == "a file" or kept(home) == []


def test_two_processes_at_once_both_have_it(home, compiler):
    children = [subprocess.Popen([sys.executable, "-c", PROBE], stdout=subprocess.PIPE) for _ in range(2)]
    assert [child.communicate()[0].split() for child in children] == [[b"True"]] * 2
    assert len(kept(home)) == 1


def test_without_a_compiler_there_is_no_library_and_one_line_says_why(home, monkeypatch, caplog):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    with caplog.at_level(logging.INFO):
        assert build.library.__wrapped__() is None
    (record,) = caplog.records
    assert record.message == "The recurrences run without compiled code: no C compiler was found (cc, gcc or clang)"


def test_a_compiler_that_fails_is_done_without(home, tmp_path, monkeypatch, caplog):
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho it hurts >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with caplog.at_level(logging.INFO):
        assert build.library.__wrapped__() is None
    assert [r.message for r in caplog.records] == [
        f"The recurrences run without compiled code: {broken} failed: it hurts"
    ]


def test_the_environment_can_switch_it_off(monkeypatch):
    monkeypatch.setenv(build.SWITCH, "0")
    assert build.library.__wrapped__() is None

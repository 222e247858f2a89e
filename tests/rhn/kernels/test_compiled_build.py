"""The compiled library is made once for a user, is loaded from a private folder only, and is never
needed.
"""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rhn.kernels import compiled

NATIVE = ("test_compiled.py", "test_kernels_mapped.py", "test_softmax.py")
PROBE = "from rhn.kernels.compiled import library; print(library() is not None)"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(compiled.SWITCH, raising=False)
    # compiles in a fifth of the time
    monkeypatch.setattr(compiled, "_FLAGS", ("-O0", *compiled._FLAGS[1:]))
    return tmp_path / "rhn" / "compiled"


@pytest.fixture
def compiler():
    return shutil.which(os.environ.get("CC") or "cc") or pytest.skip("no C compiler")


def kept(home):
    return sorted(home.iterdir())


def test_it_is_compiled_once_and_belongs_to_the_user_alone(home, compiler, monkeypatch):
    assert compiled._load(compiler).rhn_bernoulli
    (path,) = kept(home)
    made = path.stat().st_mtime_ns
    assert compiled._load(compiler).rhn_bernoulli
    assert [each.stat().st_mtime_ns for each in kept(home)] == [made]
    assert home.stat().st_mode & 0o077 == 0
    path.unlink()  # it is loaded: its bytes must not change
    path.write_bytes(b"no library")
    assert compiled._load(compiler).rhn_bernoulli, "a damaged file is compiled again"
    monkeypatch.setattr(compiled, "_FLAGS", ("-O1", *compiled._FLAGS))
    compiled._load(compiler)
    assert len(kept(home)) == 2, "other flags, another file"


OBSTACLES = ["a file", "open to others", "a link", "another user's", "read-only"]


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_without_a_private_folder_a_process_compiles_for_itself(
    home, compiler, obstacle, caplog, monkeypatch
):
    other = home.parent / "other"
    other.mkdir(mode=0o700, parents=True)
    if obstacle == "a file":
        home.touch()
    elif obstacle == "a link":
        home.symlink_to(other)
    elif obstacle == "read-only":
        home.mkdir(mode=0o700)
        home.chmod(0o500)
        monkeypatch.setattr(os, "access", lambda path, mode: path != home)  # root may write
    else:
        home.mkdir(mode=0o700)
        home.chmod(0o701) if obstacle == "open to others" else os.chown(home, 65534, 65534)
    assert compiled._load(compiler).rhn_bernoulli
    assert obstacle == "a file" or kept(home) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(("cc", "says"), [("", "no C compiler"), ("./cc", "it hurts")])
def test_without_a_working_compiler_there_is_no_library_and_one_line_says_why(
    home, own_folder, monkeypatch, caplog, cc, says
):
    broken = own_folder / "cc"
    broken.write_text("#!/bin/sh\necho it hurts >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", os.environ["PATH"] if cc else "")
    monkeypatch.setenv("CC", cc)
    with caplog.at_level(logging.INFO):
        assert compiled.library.__wrapped__() is None
    (record,) = caplog.records
    assert says in record.message


def test_the_environment_can_switch_it_off(monkeypatch):
    monkeypatch.setenv(compiled.SWITCH, "0")
    assert compiled.library.__wrapped__() is None


@pytest.fixture
def sanitizing(tmp_path) -> dict[str, str]:
    """An environment in which the library is built with the address and undefined-behaviour
    sanitizers.
    """
    gcc = shutil.which(os.environ.get("CC", "gcc"))
    if gcc is None:
        pytest.skip("no gcc")
    found = subprocess.run(
        [gcc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if "/" not in found:
        pytest.skip(f"{gcc} has no address sanitizer")
    compiler = tmp_path / "cc"
    compiler.write_text(
        f'#!/bin/sh\nexec {gcc} "$@" -O2 -g -fno-omit-frame-pointer '
        "-fsanitize=address,undefined -fno-sanitize-recover=all\n"
    )
    compiler.chmod(0o755)
    options = "detect_leaks=0:allocator_may_return_null=1:abort_on_error=0:exitcode=99"
    return os.environ | {
        "CC": str(compiler),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "LD_PRELOAD": f"{found}:libstdc++.so.6",  # whose exceptions the sanitizer intercepts
        "ASAN_OPTIONS": options,
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


@pytest.mark.chaos
def test_the_sanitizers_find_nothing_in_the_kernels(sanitizing):
    def run(*words):
        words = [sys.executable, *words]
        return subprocess.run(words, env=sanitizing, capture_output=True, text=True, check=False)

    done = run("-c", PROBE)
    assert done.stdout.split() == ["True"], done.stderr
    files = [Path(__file__).parent / name for name in NATIVE]
    done = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not chaos", *files)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]

"""The compiled library is made once, is never trusted when damaged, and is never needed."""

import errno
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

from rhn.kernels.compiled import build

PROBE = "from rhn.kernels.compiled.build import library; print(library() is not None)"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(build.SWITCH, raising=False)
    monkeypatch.setattr(build, "_FLAGS", ("-O0", *build._FLAGS[1:]))  # compiles in a fifth of the time
    return tmp_path / "rhn" / "compiled"


@pytest.fixture
def compiler():
    try:
        return build._compiler()
    except build.CompileError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A library that the compiler has made."""
    path = tmp_path_factory.mktemp("compiled") / "kernels.so"
    try:
        build._run(build._compiler(), "-O0", *build._FLAGS[1:], str(build._SOURCES / "kernels.c"), "-o", str(path))
    except build.CompileError as error:
        pytest.skip(str(error))
    return path


@pytest.fixture
def compilations(monkeypatch, compiled):
    """How often a library was to be compiled; each time it is a copy of one that the compiler has made before."""
    made, run = [], build._run

    def copied(name, *arguments):
        if "-o" not in arguments:
            return run(name, *arguments)
        made.append(arguments)
        shutil.copyfile(compiled, arguments[-1])
        return b""

    monkeypatch.setattr(build, "_run", copied)
    return made


def kept(home):
    return sorted(home.iterdir())


def test_it_is_compiled_once_and_belongs_to_the_user_alone(home, compiler, monkeypatch):
    assert build._load(compiler).rhn_lanes() == 32
    monkeypatch.setattr(build, "_compiled", None)
    assert build._load(compiler).rhn_lanes() == 32
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
    assert len(compilations) == 2 and path.read_bytes()[-32:] == whole[-32:]


def test_other_sources_make_another_file(home, compiler, monkeypatch):
    first = build._key(compiler)
    monkeypatch.setattr(build, "_FLAGS", ("-O1", *build._FLAGS))
    assert build._key(compiler) != first


@pytest.mark.parametrize("obstacle", ["a file", "open to others"])
def test_where_nothing_can_be_kept_a_process_compiles_for_itself(home, compiler, compilations, obstacle):
    home.parent.mkdir(mode=0o700)
    if obstacle == "a file":
        home.touch()
    else:
        home.mkdir()
        home.chmod(0o777)
    assert build._load(compiler).rhn_lanes() == 32
    assert len(compilations) == 1
    assert obstacle == "a file" or kept(home) == []


@pytest.mark.slow
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


def another_user_s(path):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(path, 65534, 65534, follow_symlinks=False)


def prepared(home, compiler):
    """The kept library, which this process did not load under that name before."""
    build._load(compiler)
    (path,) = kept(home)
    return path


@pytest.mark.parametrize("parent", ["belongs to another user", "other users can write to"])
def test_below_a_folder_that_others_can_change_nothing_is_kept_or_loaded(
    tmp_path, compiler, compilations, monkeypatch, caplog, parent
):
    shared = tmp_path / "shared"
    home = shared / "cache" / "rhn" / "compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
    prepared(home, compiler)
    if parent == "belongs to another user":
        another_user_s(shared)
    else:
        shared.chmod(0o777)
    before = {path: path.stat().st_mtime_ns for path in (*kept(home), home)}
    assert build._load(compiler).rhn_lanes() == 32
    assert before == {path: path.stat().st_mtime_ns for path in before}
    (record,) = caplog.records
    assert record.levelname == "WARNING" and parent in record.message and str(shared) in record.message


def test_a_folder_with_the_sticky_bit_is_as_safe_as_tmp(tmp_path, compiler, compilations, monkeypatch):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared" / "mine"))
    for _ in range(2):
        build._load(compiler)
    assert len(compilations) == 1


@pytest.mark.parametrize(
    "kind", ["another user's", "open to others", "link", "pipe", "device", "folder of another process", "too large"]
)
def test_what_is_no_library_of_this_user_is_not_loaded(home, compiler, compilations, kind):
    """Each of them holds the very library, or would wait for ever or fill the memory."""
    path = prepared(home, compiler)
    aside = home / "aside"
    path.rename(aside)
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind in ("link", "device"):
        path.symlink_to(aside if kind == "link" else "/dev/zero")
    elif kind == "folder of another process":
        path.mkdir()
    elif kind == "too large":
        path.touch()
        os.truncate(path, 2**40)
    else:
        shutil.copy(aside, path)
        another_user_s(path) if kind == "another user's" else path.chmod(0o666)
    assert build._load(compiler).rhn_lanes() == 32
    assert len(compilations) >= 2
    assert path.is_dir() or (path.stat().st_uid == os.geteuid() and path.lstat().st_mode & 0o777 == 0o600)


@pytest.fixture
def fake_compiler(tmp_path, compiler, monkeypatch):
    """fake_compiler(size): let the compiler be one that makes a library without our functions, cut after so many bytes."""

    def fake(size=None):
        source, library, command = (tmp_path / name for name in ("empty.c", "empty.so", "fake-cc"))
        source.write_text("int rhn_lanes(void) { return 32; } char filling[100000] = {1};")
        subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library], check=True)
        if size is not None:
            os.truncate(library, size)
        command.write_text(f'#!/bin/sh\ncase "$*" in *-E*) echo;; *) for OUT; do :; done; cp {library} "$OUT";; esac\n')
        command.chmod(0o755)
        monkeypatch.setenv("CC", str(command))

    return fake


@pytest.mark.parametrize("size", [None, 0], ids=["lacks functions", "empty"])
def test_a_library_that_cannot_be_used_is_refused_and_never_kept(home, fake_compiler, caplog, size):
    """The compiler is content with itself."""
    fake_compiler(size)
    with caplog.at_level(logging.INFO):
        assert build.library.__wrapped__() is None
    assert "made a library that cannot be used" in caplog.text and len(caplog.records) == 1
    assert kept(home) == []


def test_a_truncated_library_which_kills_the_process_that_loads_it_is_refused_and_never_kept(home, fake_compiler):
    fake_compiler(8192)
    code = PROBE.replace("from", "import logging; logging.basicConfig(level='INFO'); from", 1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
    assert done.stderr.count("made a library that cannot be used") == 1
    assert kept(home) == []


def test_a_kept_library_that_lacks_functions_is_compiled_again(home, compiler, compilations, monkeypatch):
    path = prepared(home, compiler)
    other = home / "other.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", os.devnull, "-o", other], check=True)
    content = other.read_bytes()
    other.unlink()
    path.unlink()
    path.write_bytes(content + hashlib.sha256(content).digest())
    path.chmod(0o600)
    assert build._load(compiler).rhn_lanes() == 32
    assert len(compilations) == 2


def test_a_full_disk_of_the_cache_is_told_once_and_the_temporary_folder_used(home, compilations, monkeypatch, caplog):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(build, "keep", full)
    assert build.library.__wrapped__().rhn_lanes() == 32
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "No space left on device" in record.message


def test_what_killed_compilers_left_is_removed_an_hour_later(home, tmp_path, compiler, compilations, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    home.mkdir(parents=True)
    home.chmod(0o700)
    left = [home / ".kernels-0123.rhn-partial-01234567.so", home / "rhn-compile-abcd_123"]
    recent, own = home / ".kernels-0123.rhn-partial-76543210.so", home / "rhn-compiled-by-me"
    for path in (left[0], recent):
        path.touch()
    for path in (left[1], own):
        path.mkdir()
        (path / "kernels.so").touch()
    for path in (*left, own):
        os.utime(path, (0, 0))
    build._load(compiler)
    assert not any(path.exists() for path in left) and recent.exists() and own.exists()

"""The documentation shows what is there: its links lead somewhere, its commands exist, and what it
says can be copied works.
"""

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from commands import MAINS, complaint

from gersgorin.catalog import RESULTS
from optim_study import TrialRow
from optim_study.results import LEFT
from trainability.changes import ROW_LABELS
from trainability.facts import FACTS

ROOT = Path(__file__).resolve().parents[2]
DOCS, README = ROOT / "docs", (ROOT / "README.md").read_text()
PUBLIC = ("gersgorin", "gersgorin.linalg", "trainability", "analysis", "optim_study", "rhn")
OPTIONAL = ("lightning", "pandas", "sklearn", "transformers", "xarray")  # the extras frames, peers


def script(name: str):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs_commands, docs_notebook = script("commands"), script("notebook")
docs_reference = script("reference")

PAGES = docs_commands.pages()
NAMES = [str(page.relative_to(DOCS)) for page in PAGES]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page):
    for line in docs_commands.commands(page):
        assert complaint(line) is None, line


def test_the_commands_of_readme_exist():
    shown = re.findall(rf"(?:`|^)((?:{'|'.join(MAINS)}) [^`\n]+)", README, re.MULTILINE)
    assert len(shown) >= 5
    for line in shown:
        assert complaint(line.partition("#")[0]) is None, line


def test_the_targets_that_texts_name_exist():
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    files = [*ROOT.glob("*.*"), *DOCS.rglob("*.*"), *(ROOT / ".github").rglob("*.*")]
    kinds = ".md", ".py", ".yml", ".toml"
    texts = [f.read_text() for f in files if f.suffix in kinds and f.stem != "CHANGELOG"]
    named = re.findall(r"(?:`|^ *|run: )make ([a-z-]+)(?=[ `\n])", "\n".join(texts), re.MULTILINE)
    assert set(named) - set(targets) == set() and 5 <= len(targets) <= 9


def test_an_example_of_a_help_fits_a_line_of_80_columns():
    """A longer one would wrap in mid-command, and could not be pasted."""
    text = (DOCS / "commands.md").read_text()
    lines = re.findall(rf"^  (?:{'|'.join(MAINS)}) .*$", text, re.MULTILINE)
    assert len(lines) > 15
    assert [line for line in lines if len(line) > 80] == []


def test_a_command_of_the_gallery_draws_each_of_its_pictures():
    page = DOCS / "gallery.md"
    words = {Path(word).stem for line in docs_commands.commands(page) for word in line.split()}
    pictures = re.findall(r"!\[.*?\]\((.*)\)", page.read_text())
    assert {Path(picture).stem for picture in pictures} <= words


def test_the_site_lists_every_page_and_no_other():
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(NAMES), "the nav of mkdocs.yml and the files of docs/ differ"


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("*.md")], ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).is_file(), link


def test_the_page_on_check_has_every_fact_and_row():
    page = (DOCS / "guides" / "check-rows.md").read_text()
    assert [name for name in (*FACTS, *ROW_LABELS) if name not in page] == []


def test_each_column_of_the_trials_is_explained():
    page = (DOCS / "guides" / "study.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    shown = {key for row in rows for key in re.findall(r"`(.*?)`", row)}
    assert shown == {field.name for field in fields(TrialRow)}
    assert f"below {LEFT} of `constant_nll`" in page


@pytest.mark.slow
def test_the_reference_is_that_of_the_code():
    # in a process of its own: rich keeps the width of the first console that is made
    code = """
from reference import files
print([path.name for path, text in files().items() if path.read_text() != text])
"""
    command, env = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(ROOT)}
    old = subprocess.check_output(command, cwd=DOCS, env=env, text=True)
    assert old == "[]\n", "run python docs/reference.py"


RESULTS_BY_MODULE = {
    **RESULTS,
    "Check": "trainability.checks",
    "Cure": "trainability.cures",
    "LoopResult": "trainability.watching.loop_result",
}


@pytest.mark.parametrize(("name", "module"), RESULTS_BY_MODULE.items(), ids=[*RESULTS_BY_MODULE])
def test_the_page_of_a_result_exists(name, module):
    page = getattr(importlib.import_module(module), name).page
    assert page and (ROOT / page).is_file()


def test_the_names_of_the_reference_are_imported_from_where_it_says():
    pages = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    shown = re.findall(r"^\| `([\w.]+)` \|", pages, re.MULTILINE)
    assert len(shown) > 100
    for path in shown:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path


@pytest.mark.parametrize("package", PUBLIC, ids=str)
def test_every_public_name_is_in_the_reference_and_has_an_example(package):
    """As >>> lines, which pytest runs."""
    pages = "\n".join(page.read_text() for page in (DOCS / "api").iterdir())
    shown = {*re.findall(r"^::: \S+\.(\w+)$", pages, re.MULTILINE), "__version__"}
    module = importlib.import_module(package)
    public = {name: getattr(module, name) for name in module.__all__}
    assert public.keys() <= shown, "add a line ::: module.name to a page of docs/api"
    called = {name: value.__doc__ or "" for name, value in public.items() if callable(value)}
    assert [name for name, text in called.items() if ">>>" not in text] == []


def environment() -> dict:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PYTHONPATH": str(ROOT), "PATH": path, "MPLBACKEND": "Agg"}


def skip_without(text: str) -> None:
    """Skip a test of code that imports a library of others, if it is not installed."""
    for name in OPTIONAL:
        if re.search(rf"^ *(?:from|import) {name}\b", text, re.MULTILINE):
            pytest.importorskip(name, reason=f"{name} is in the extra all")


NOTEBOOKS = docs_notebook.PAGES
RUNNABLE = [
    page
    for page in PAGES
    if page not in NOTEBOOKS
    and (docs_commands.commands(page, to_run=True) or "\n```python" in page.read_text())
]


@pytest.mark.docs
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUNNABLE, ids=[str(page.relative_to(DOCS)) for page in RUNNABLE])
def test_what_a_page_shows_can_be_copied(page, tmp_path):
    skip_without(page.read_text())
    run = [sys.executable, DOCS / "commands.py", page, tmp_path]
    subprocess.run(run, env=environment(), check=True)


@pytest.mark.docs
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path, tmp_path):
    skip_without(path.read_text())
    words = [tmp_path] if path.stem == "figures" else []
    subprocess.run([sys.executable, path, *words], cwd=tmp_path, env=environment(), check=True)


@pytest.mark.docs
@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.name)
def test_the_notebook_of_a_page_is_up_to_date(page):
    """Its cells are those of the page; `python docs/notebook.py` writes it."""
    notebook = page.with_suffix(".ipynb")
    cells = json.loads(notebook.read_text())["cells"]
    stored = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    assert stored == docs_notebook.cells(page.read_text())
    assert notebook.stat().st_size < 400_000


@pytest.mark.docs
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_a_notebook_runs(page, tmp_path, monkeypatch):
    pytest.importorskip("nbclient", reason="nbclient is in the extra notebooks")
    for name in ("PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, environment()[name])
    docs_notebook.execute(docs_notebook.cells(page.read_text()), tmp_path)


@pytest.mark.docs
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is in the extra docs")
    build = "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"
    env = environment() | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run([sys.executable, *build], cwd=ROOT, env=env, check=True)
    assert (tmp_path / "site" / "index.html").is_file()


@pytest.mark.docs
def test_readme_prints_what_it_shows(tmp_path):
    (tmp_path / "docs").symlink_to(DOCS)
    (demo,) = re.findall(r"(rhn train .*)", (ROOT / "Makefile").read_text())
    how = {"cwd": tmp_path, "env": environment(), "check": True}
    subprocess.run(demo.split(), **how)
    subprocess.run([sys.executable, DOCS / "commands.py", ROOT / "README.md", tmp_path], **how)

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
from helps import MAINS, complaint
from tables import for_each

from optim_study import TrialRow
from optim_study.results import LEFT
from trainability.changes import ROW_LABELS
from trainability.facts import FACTS

ROOT = Path(__file__).resolve().parents[2]


def script(name: str):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs_commands, docs_notebook = script("commands"), script("notebook")
docs_reference = script("reference")

PAGES = docs_commands.pages()
NAMES = [str(page.relative_to(ROOT / "docs")) for page in PAGES]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@for_each("page", PAGES)
def test_the_commands_of_a_page_exist(page):
    for line in docs_commands.commands(page):
        assert complaint(line) is None, line


def test_an_example_of_a_help_fits_a_line_of_80_columns():
    """A longer one would wrap in mid-command, and could not be pasted."""
    text = (ROOT / "docs" / "commands.md").read_text()
    lines = re.findall(rf"^  (?:{'|'.join(MAINS)}) .*$", text, re.MULTILINE)
    assert len(lines) > 15
    assert [line for line in lines if len(line) > 80] == []


def test_a_command_of_the_gallery_draws_each_of_its_pictures():
    page = ROOT / "docs" / "gallery.md"
    words = {Path(word).stem for line in docs_commands.commands(page) for word in line.split()}
    assert {
        Path(picture).stem for picture in re.findall(r"!\[.*?\]\((.*)\)", page.read_text())
    } <= words


def test_the_commands_of_readme_exist():
    mains, text = "|".join(MAINS), (ROOT / "README.md").read_text()
    shown = re.findall(rf"(?:`|^    )((?:{mains}) [^`\n]+)", text, re.MULTILINE)
    assert len(shown) >= 5
    for line in shown:
        assert complaint(line.partition("#")[0]) is None, line


def test_the_site_lists_every_page_and_no_other():
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(NAMES), "the nav of mkdocs.yml and the files of docs/ differ"


@for_each("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).is_file(), link


def test_the_page_on_check_has_every_fact_and_row():
    page = (ROOT / "docs" / "guides" / "check.md").read_text()
    assert [name for name in (*FACTS, *ROW_LABELS) if name not in page] == []


def test_each_column_of_the_trials_is_explained():
    page = (ROOT / "docs" / "guides" / "study.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    assert {key for row in rows for key in re.findall(r"`(.*?)`", row)} == {
        field.name for field in fields(TrialRow)
    }
    assert f"below {LEFT} of `constant_nll`" in page


def test_the_reference_is_that_of_the_code():
    # in a process of its own: rich keeps the width of the first console that is made
    code = """
from reference import files
print([path.name for path, text in files().items() if path.read_text() != text])
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    old = subprocess.check_output(command, cwd=ROOT / "docs", env=environment, text=True)
    assert old == "[]\n", "run make reference"


@for_each("result", docs_reference.result_classes())
def test_the_page_of_a_result_exists(result):
    assert result.page and (ROOT / result.page).is_file()


def test_the_names_of_the_reference_are_imported_from_where_it_says():
    pages = "".join(page.read_text() for page in (ROOT / "docs/api").glob("*.md"))
    shown = re.findall(r"^\| `([\w.]+)` \|", pages, re.MULTILINE)
    assert len(shown) > 100
    for path in shown:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path


def test_every_public_name_is_in_the_reference():
    shown = re.findall(
        r"^::: \S+\.(\w+)$",
        "\n".join(p.read_text() for p in (ROOT / "docs/api").iterdir()),
        re.MULTILINE,
    )
    for package in (
        "gersgorin",
        "gersgorin.linalg",
        "trainability",
        "analysis",
        "optim_study",
        "rhn",
    ):
        missing = set(importlib.import_module(package).__all__) - {*shown, "__version__"}
        assert not missing, (
            f"add a line ::: module.name to a page of docs/api for {missing} of {package}"
        )


@for_each(
    "package",
    [
        "gersgorin",
        "gersgorin.linalg",
        "trainability",
        "rhn",
        "optim_study",
        "analysis",
    ],
)
def test_every_public_function_and_class_has_an_example(package):
    """As >>> lines, which pytest runs."""
    module = importlib.import_module(package)
    public = {name: getattr(module, name) for name in module.__all__}
    without = [
        name
        for name, value in public.items()
        if callable(value) and ">>>" not in (value.__doc__ or "")
    ]
    assert not without, f"{package}: add an example, with >>>, to the docstrings of {without}"


def environment() -> dict:
    scripts = str(Path(sys.executable).parent)
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "MPLBACKEND": "Agg",
    }


NOTEBOOKS = docs_notebook.PAGES
OTHERS = [page for page in PAGES if page not in NOTEBOOKS]
RUNNABLE = [
    page
    for page in OTHERS
    if docs_commands.commands(page, to_run=True) or "\n```python" in page.read_text()
]


@pytest.mark.docs
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page", RUNNABLE, ids=[str(page.relative_to(ROOT / "docs")) for page in RUNNABLE]
)
def test_what_a_page_shows_can_be_copied(page, tmp_path):
    run = [sys.executable, ROOT / "docs" / "commands.py", page, tmp_path]
    subprocess.run(run, env=environment(), check=True)


@pytest.mark.docs
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path, tmp_path):
    subprocess.run([sys.executable, path], cwd=tmp_path, env=environment(), check=True)


@pytest.mark.docs
@for_each("page", NOTEBOOKS)
def test_the_notebook_of_a_page_is_up_to_date(page):
    """Its cells are those of the page, and code hosting sites show it; `make notebook` writes
    it.
    """
    notebook = page.with_suffix(".ipynb")
    stored = [
        (cell["cell_type"], "".join(cell["source"]))
        for cell in json.loads(notebook.read_text())["cells"]
    ]
    assert stored == docs_notebook.cells(page.read_text())
    assert notebook.stat().st_size < 400_000


@pytest.mark.docs
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_a_notebook_runs(page, tmp_path, monkeypatch):
    pytest.importorskip("nbclient", reason="nbclient is in the extra dev")
    for name in ("PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, environment()[name])
    docs_notebook.execute(docs_notebook.cells(page.read_text()), tmp_path)


@pytest.mark.docs
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is in the extra docs")
    build = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        tmp_path / "site",
    ]
    subprocess.run(build, cwd=ROOT, env=environment() | {"NO_MKDOCS_2_WARNING": "1"}, check=True)
    assert (tmp_path / "site" / "index.html").is_file()

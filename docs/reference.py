"""Write what the pages take from the code: tables of names and the page of commands.

    python docs/reference.py            # or `make docs`; tests compare the files with the code

A page of docs/api has comments <!-- names ... -->, with a line `::: module.name` for each name. The table above such a comment is written here, from the
first sentence of each docstring, with the shortest path from which each name is imported. For the site (a hook of mkdocs) the lines `::: module.name` leave the comment, and mkdocstrings fills them in.
"""

import ast
import contextlib
import importlib
import inspect
import io
import itertools
import os
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent
NAMES = re.compile(r"(?:(?:^\|[^\n]*\n)+\n)?<!-- names\n(.*?)-->", re.DOTALL | re.MULTILINE)
PANEL = re.compile(r"^(?!examples:)(\S[^\n]*):\n(?=  )", re.MULTILINE)
COMMANDS = {  # the command, its module with `main`, its subcommands
    "gersgorin": (
        "gersgorin.cli.commands",
        " ".join([*importlib.import_module("gersgorin.catalog").BY_COMMAND, "run", "recording", "known-values"]),
    ),
    "trainability": ("trainability.cli", "check cure watch"),
    "rhn": ("rhn.cli.main", "train resume evaluate sample generate report data presets info"),
    "optim-study": ("optim_study.cli", "run status plot export"),
    "rhn-analyze": ("analysis.cli", "gates lesion refine report"),
}
HEAD = """\
# Commands

The help of every command, as `COMMAND --help` prints it. `make docs` writes this page. Every command also takes `--help` and `--version`.
Options that several commands of a group share are listed once, at its end.
"""


def filled(page: str) -> str:
    """A page of docs/api with the tables of the present code."""
    return NAMES.sub(lambda block: f"{names_table(block[1])}\n\n<!-- names\n{block[1]}-->", page)


def names_table(lines: str) -> str:
    """A table of the names in `::: module.name` lines, with the first sentence about each."""
    paths = re.findall(r"^::: (\S+)$", lines, re.MULTILINE)
    rows = [f"| `{shortest(path)}` | {summary_of(path)} |" for path in paths]
    return "\n".join(["| name | |", "|---|---|", *rows])


def shortest(path: str) -> str:
    """The shortest path from which a name is imported: "gersgorin.spectra" of gersgorin.analyses.spectra.spectra."""
    module, _, name = path.rpartition(".")
    packages = itertools.accumulate(module.split("."), "{}.{}".format)
    found = (package for package in packages if hasattr(importlib.import_module(package), name))
    return f"{next(found)}.{name}"


def summary_of(path: str) -> str:
    """The first sentence of the documentation of module.name."""
    module, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    text = (
        value.__doc__ if callable(value) or inspect.ismodule(value) else _of_constant(module, name)
    )
    first = " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())
    return re.split(r"(?<=[^.]\.)(?<!al\.)\s", first)[0].replace("|", r"\|")


def _of_constant(module: str, name: str) -> str:
    """The string below the assignment of a constant."""
    body = ast.parse(Path(importlib.import_module(module).__file__).read_text()).body
    for line, below in zip(body, body[1:], strict=False):
        targets = getattr(line, "targets", [getattr(line, "target", None)])
        if any(getattr(target, "id", "") == name for target in targets):
            return ast.literal_eval(below.value) if isinstance(below, ast.Expr) else ""
    return ""


def commands_page() -> str:
    """The page of all commands, with the help of each."""
    return "\n".join([HEAD, *(_group(*row) for row in COMMANDS.items())])


def _group(command: str, row: tuple[str, str]) -> str:
    """The part of the page about a command and its subcommands."""
    module, words = row
    helps = {f"{command} {word}": _panels(help_of(module, word)) for word in words.split()}
    texts = [text for panels in helps.values() for text in panels.values()]
    shared = {
        title: text
        for panels in helps.values()
        for title, text in panels.items()
        if title and texts.count(text) > 1
    }
    parts = [f"## {command}\n"]
    for name, panels in helps.items():
        own = [_shown(title, text) for title, text in panels.items() if shared.get(title) != text]
        others = [title for title, text in panels.items() if shared.get(title) == text]
        more = f"Also the shared options: {', '.join(others)}.\n" if others else ""
        parts.append(f"### {name}\n\n```text\n" + "\n".join(own).rstrip() + f"\n```\n\n{more}")
    if shared:
        text = "\n".join(_shown(*panel) for panel in shared.items()).rstrip()
        parts.append(f"### Shared options of {command}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _shown(title: str, text: str) -> str:
    """A panel of a help text."""
    lines = [line.rstrip() for line in text.rstrip().splitlines()]
    return "\n".join([*([title.upper()] if title else []), *lines, ""])


def _panels(text: str) -> dict[str, str]:
    """The panels of a help text by their titles; "": what stands before them."""
    first, *rest = PANEL.split(text)
    return {"": first} | dict(zip(rest[::2], rest[1::2], strict=True))


def help_of(module: str, word: str) -> str:
    """The help of a subcommand."""
    os.environ["COLUMNS"] = "100"
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        importlib.import_module(module).main([word, "--help"])
    return out.getvalue()


def files() -> dict[Path, str]:
    """Every file that is written here, with the text that it should have."""
    pages = {page: filled(page.read_text()) for page in sorted((DOCS / "api").glob("*.md"))}
    return pages | {DOCS / "commands.md": commands_page()}


def on_page_markdown(markdown: str, **_) -> str:
    """A page with the names outside of comments, for mkdocstrings."""
    return re.sub(r"<!-- names\n(.*?)-->", r"\n\1", markdown, flags=re.DOTALL)


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)

"""Run what a page shows, as a reader who copies it would, and stop at the first failure.

    python docs/commands.py docs/tutorial.md FOLDER
    python docs/commands.py docs/gallery.md . all       # also commands with a title

Python blocks with a title are written as files into the folder. The others run first, in one session. Then the commands of the ```sh blocks run,
one after another. Blocks marked ```sh title="..." need something else: a data set, a GPU, a file of the reader's.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r"^ *```sh( title=[^\n]*)?\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r'^```python(?: title="(.*?)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """Every page that is written by hand, without the notes of results."""
    return sorted(p for p in DOCS.rglob("*.md") if "results" not in p.relative_to(DOCS).parts)


def commands(page: Path, *, to_run: bool = False) -> list[str]:
    """A page's command lines, comments and continuations taken away; to_run: only of blocks that can be run as they stand."""
    blocks = [text for title, text in BLOCK.findall(page.read_text()) if not (title and to_run)]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^|\s+)#.*", "", line).strip() for line in lines) if line]


def run(page: Path, folder: Path, *, titled: bool = False) -> None:
    """Run the Python and the commands of a page in a folder; titled: also blocks of commands with a title.

    Raises CalledProcessError at the first that fails.
    """
    session = []
    for name, code in CODE.findall(page.read_text()):
        if name:
            (folder / name).write_text(code)
        else:
            session.append(code)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder.resolve()), os.environ.get("PYTHONPATH", "")]), "MPLBACKEND": "Agg"}
    how = {"cwd": folder, "env": env, "check": True, "stdin": subprocess.DEVNULL}
    if session:
        subprocess.run([sys.executable, "-c", "\n".join(session)], **how)
    for line in commands(page, to_run=not titled):
        print(f"$ {line}", flush=True)
        subprocess.run(["bash", "-c", line], **how)


if __name__ == "__main__":
    where = Path(sys.argv[2])
    where.mkdir(parents=True, exist_ok=True)
    run(Path(sys.argv[1]), where, titled=sys.argv[3:] == ["all"])

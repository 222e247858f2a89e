"""The commands that the pages show: read from their ```sh blocks, and run one after another.

    python docs/commands.py docs/tutorial.md FOLDER
    python docs/commands.py docs/gallery.md . all       # also blocks with a title

runs a page's commands in a folder, as a reader who copies them would, and stops at the first that fails. Blocks marked ```sh are
meant to be run as they stand; those marked ```sh title="..." need something of the reader's (a data set, a GPU, a file).
"""

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r"^ *```sh( title=[^\n]*)?\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """Every page that is written by hand, without the notes of results."""
    return sorted(p for p in DOCS.rglob("*.md") if "results" not in p.relative_to(DOCS).parts)


def commands(page: Path, *, to_run: bool = False) -> list[str]:
    """A page's command lines, comments and continuations taken away; to_run: only of blocks that can be run as they stand."""
    blocks = [text for title, text in BLOCK.findall(page.read_text()) if not (title and to_run)]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^|\s+)#.*", "", line).strip() for line in lines) if line]


def run(page: Path, folder: Path, *, titled: bool = False) -> None:
    """Run a page's commands in a folder, also blocks with a title on request; raises CalledProcessError at the first that fails."""
    for line in commands(page, to_run=not titled):
        print(f"$ {line}", flush=True)
        subprocess.run(["bash", "-c", line], cwd=folder, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    where = Path(sys.argv[2])
    where.mkdir(parents=True, exist_ok=True)
    run(Path(sys.argv[1]), where, titled=sys.argv[3:] == ["all"])

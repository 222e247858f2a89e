"""Run what a page shows, as a reader who copies it would, and compare what it prints.

    python docs/commands.py docs/tutorial.md FOLDER
    python docs/commands.py docs/gallery.md . all       # also commands with a title

Python blocks with a title are written as files into the folder. The others run first, in one session. Then the commands of the ```sh blocks run,
one after another. Blocks marked ```sh title="..." need something else: a data set, a GPU, a file of the reader's. A ```text block shows what the
block before it prints: `...` stands for lines that are left out, and numbers may differ by a twentieth. A ```text block with a title differs between processors.
"""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r'^ *```(\w+)(?: title="(.*?)")?\n(.*?)^ *```$', re.DOTALL | re.MULTILINE)
END = "end of a block"


def pages() -> list[Path]:
    """Every page of docs."""
    return sorted(DOCS.rglob("*.md"))


def lines_of(text: str) -> list[str]:
    """The command lines of a block, comments and continuations taken away."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^|\s+)#.*", "", line).strip() for line in lines) if line]


def commands(page: Path, *, to_run: bool = False) -> list[str]:
    """A page's command lines; to_run: only of blocks that can be run as they stand."""
    blocks = BLOCK.findall(page.read_text())
    return [line for kind, title, text in blocks if kind == "sh" and not (title and to_run) for line in lines_of(text)]


def same(shown: str, printed: str) -> bool:
    """True for lines with the same words, and numbers that differ by at most a twentieth, or 0.02."""
    words, others = shown.split(), printed.split()
    return len(words) == len(others) and all(a == b or close(a, b) for a, b in zip(words, others, strict=True))


def close(a: str, b: str) -> bool:
    try:
        return abs(float(a) - float(b)) <= max(0.02, abs(float(a)) / 20)
    except ValueError:
        return False


def compare(shown: str, printed: str) -> None:
    """Raise AssertionError unless the lines that are shown were printed, in this order; `...` leaves out others."""
    lines, place = [line.rstrip() for line in printed.splitlines()], 0
    for part in re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE):
        rows = part.strip("\n").splitlines()
        starts = [k for k in range(place, len(lines) - len(rows) + 1) if all(map(same, rows, lines[k:]))]
        assert starts, f"not printed:\n{part}\nbut:\n{printed}"
        place = starts[0] + len(rows)


def run(page: Path, folder: Path, *, titled: bool = False) -> None:
    """Run the Python and the commands of a page in a folder; titled: also blocks of commands with a title.

    Raises CalledProcessError at the first that fails, AssertionError at the first that prints something else.
    """
    blocks = [*BLOCK.findall(page.read_text()), ("", "", "")]
    shown = [
        (kind, title, text, after if next_kind == "text" and not varies else None) for (kind, title, text), (next_kind, varies, after) in pairwise(blocks)
    ]
    for kind, title, text, _ in shown:
        if kind == "python" and title:
            (folder / title).write_text(text)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder.resolve()), os.environ.get("PYTHONPATH", "")]), "MPLBACKEND": "Agg"}
    how = {"cwd": folder, "env": env, "check": True, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    session = [(text, after) for kind, title, text, after in shown if kind == "python" and not title]
    if session:
        code = "".join(f"{text}\nprint({END!r})\n" for text, _ in session)
        printed = subprocess.run([sys.executable, "-c", code], **how).stdout.split(f"{END}\n")
        print(*printed, sep="", flush=True)
        for (_, after), text in zip(session, printed, strict=False):
            if after is not None:
                compare(after, text)
    for kind, title, text, after in shown:
        if kind == "sh" and (titled or not title):
            printed = ""
            for line in lines_of(text):
                print(f"$ {line}", flush=True)
                printed += subprocess.run(["bash", "-c", line], **how).stdout
            print(printed, flush=True)
            if after is not None:
                compare(after, printed)


if __name__ == "__main__":
    where = Path(sys.argv[2])
    where.mkdir(parents=True, exist_ok=True)
    run(Path(sys.argv[1]), where, titled=sys.argv[3:] == ["all"])

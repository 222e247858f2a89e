"""Count the source files of a training: those whose functions run until the first change of a
weight, and in the whole command.

    python -m benchmarks.training_path [jsb-depth-5 --epochs 1 ...]

Only functions of our packages count that are called: no class bodies, and nothing that runs during
an import.
"""

import inspect
import sys
import tempfile
from pathlib import Path
from types import FrameType

from rhn.cli.entry import rhn

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = tuple(f"{ROOT / name}/" for name in ("rhn", "gersgorin", "optim_study", "analysis"))
# its first return is the first change of a weight
UPDATE = str(ROOT / "rhn/training/optimizers.py"), "step"


def count(words: list[str]) -> tuple[list[str], list[str]]:
    """(files until the first change of a weight, all files) of `rhn train WORDS`, in the order of
    their first call.
    """
    files, until_update = {}, []

    def watch(frame: FrameType, event: str, _) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGES) or not code.co_flags & inspect.CO_OPTIMIZED:
            return
        if event == "call" and code.co_filename not in files and not _importing(frame):
            files[code.co_filename] = str(Path(code.co_filename).relative_to(ROOT))
        if event == "return" and not until_update and (code.co_filename, code.co_name) == UPDATE:
            until_update.extend(files.values())

    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["rhn", "train", *words, "--out", folder]
        sys.setprofile(watch)
        code = rhn()
        sys.setprofile(None)
    if code:
        raise SystemExit(code)
    return until_update, list(files.values())


def _importing(frame: FrameType | None) -> bool:
    """True if the import system is among the callers."""
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


if __name__ == "__main__":
    until_update, files = count(sys.argv[1:] or ["jsb-depth-5", "--epochs", "1"])
    print(*files, sep="\n")
    print(
        f"{len(until_update)} files to the first change of a weight, {len(files)} in the "
        "whole command"
    )

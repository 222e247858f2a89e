"""Find the lines of the user's code in a traceback."""

import sysconfig
import traceback
from pathlib import Path

# packages beside this one
OURS = [str(marker.parent) for marker in Path(__file__).parents[2].glob("*/py.typed")]
# the beginnings of files that are not the user's
LIBRARIES = ("<", *OURS, *map(sysconfig.get_path, ("stdlib", "platstdlib")))
INSTALLED = {"site-packages", "dist-packages"}  # and their folders, of any environment


def frames_outside(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an error's traceback that are outside our packages, Python and installed
    libraries.
    """
    found = traceback.StackSummary.extract(
        traceback.walk_tb(error.__traceback__), lookup_lines=False
    )
    return [frame for frame in found if _is_users(frame.filename)]


def _is_users(file: str) -> bool:
    """Return True for a file outside our packages, Python and installed libraries."""
    return not file.startswith(LIBRARIES) and INSTALLED.isdisjoint(Path(file).parts)

"""The cache folder, for data that are computed once for each user: the rebuilt chorales and the
compiled kernels.
"""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return the user's cache folder, which may not exist yet."""
    return user_cache_path("rhn", appauthor=False)


def replace_unwritable_cache() -> None:
    """Use a temporary cache folder, and print a notice, if the user's cache folder cannot be
    written, as in a container without a home folder. This applies to this process, the processes
    that it starts, and matplotlib.

    The temporary folder is removed when the process ends. Raises OSError if temporary files cannot
    be written either.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        reason = error.strerror or str(error)
    replacement = tempfile.mkdtemp(prefix="rhn-cache-")
    atexit.register(shutil.rmtree, replacement, ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = replacement
    os.environ.setdefault("MPLCONFIGDIR", replacement)
    print(
        f"The cache folder {folder} cannot be written ({reason}): the chorales are rebuilt and the "
        "kernels compiled anew each time; to keep them, set XDG_CACHE_HOME to a folder of yours",
        file=sys.stderr,
    )

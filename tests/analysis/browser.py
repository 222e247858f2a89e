"""A headless Chromium for tests: the one that CHROMIUM names, the machine's, or playwright's
own.
"""

import os
import shutil

import pytest

PLACES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/usr/bin/chromium",
    "/snap/bin/chromium",
)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
)
HOW = "apt-get install chromium (Debian), playwright install chromium, or CHROMIUM=/path/to/one"


def chromium(sync_api):
    """A started (playwright, browser); skips, saying how to get one, where there is none."""
    playwright = sync_api.sync_playwright().start()
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PLACES)), None)
    try:
        return playwright, playwright.chromium.launch(executable_path=path, args=list(FLAGS))
    except sync_api.Error as error:
        playwright.stop()
        pytest.skip(
            f"no Chromium starts here, {path or 'none is installed'}: {HOW} "
            f"({str(error).splitlines()[0]})"
        )

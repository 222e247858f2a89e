"""A headless Chromium for tests: playwright's own, or the machine's."""

import shutil

import pytest

BINARIES = ("chromium", "chromium-browser", "google-chrome")


def chromium(sync_api):
    """A started (playwright, browser); skips, with the reason, where there is none."""
    playwright = sync_api.sync_playwright().start()
    path = next(filter(None, map(shutil.which, BINARIES)), None)
    try:
        return playwright, playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
    except sync_api.Error as error:
        playwright.stop()
        pytest.skip(f"no Chromium starts here: {str(error).splitlines()[0]}")

"""mkdocs hook: fill the table of analyses into the pages that show it."""

from gersgorin.analyses import listing


def on_page_markdown(markdown: str, **_) -> str:
    """A page with the table instead of its placeholder."""
    return markdown.replace("ANALYSES_TABLE", listing())

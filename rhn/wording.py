"""Words that depend on a number."""


def counted(count: int, what: str, several: str | None = None) -> str:
    """So many of something; `several` where its plural is not made with an s.

    >>> counted(1, "step"), counted(0, "step"), counted(2, "batch", "batches")
    ('1 step', '0 steps', '2 batches')
    """
    return f"{count} {what if count == 1 else several or f'{what}s'}"

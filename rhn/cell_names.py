"""The names of the cells, for what must not wait for torch: `rhn.cells.CELLS` says what they are."""

CELL_NAMES = (
    "rnn",
    "irnn",
    "dt-rnn",
    "dts-rnn",
    "rhn",
    "lstm",
    "gru",
    "indrnn",
    "mgu",
    "mingru",
    "lru",
    "slstm",
    "antisymmetric",
    "orthogonal",
    "cornn",
    "leaky",
)

DEEP = ("dt-rnn", "dts-rnn", "rhn")  # have a recurrence depth
GATED = ("rhn",)  # have a bias of transform gates


def with_depth(name: str, depth: int) -> str:
    """What titles call a network.

    >>> with_depth("rhn", 4), with_depth("lstm", 1)
    ('rhn, depth 4', 'lstm')
    """
    return name if "depth" in lacking(name) else f"{name}, depth {depth}"


def lacking(name: str) -> set[str]:
    """Which of depth and transform_bias a cell does not have; nothing is known of the user's own.

    >>> sorted(lacking("lstm")), lacking("dts-rnn-skip-last"), lacking("my_cells:Mine")
    (['depth', 'transform_bias'], {'transform_bias'}, set())
    """
    own = max((cell for cell in CELL_NAMES if f"{name}-".startswith(f"{cell}-")), key=len, default=None)
    found = (("depth", DEEP), ("transform_bias", GATED)) if own else ()
    return {setting for setting, cells in found if own not in cells}

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

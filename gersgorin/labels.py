"""Labels that tell the networks of a comparison apart, and the footer of its figure.

A label names a property, such as "depth 3", only if the networks differ in nothing else. Otherwise
it begins with the name of the network.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count

MOST_DESCRIBED = 4  # networks, each of which has its own words in the footer


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Names and origin of a network that is compared with others."""

    cell: str
    """Title of its cell: "rhn, depth 3, 64 units"."""
    name: str = ""
    """The user's name, a run folder, a class or a factory; "": the name of the cell."""
    state: str = ""
    """Training so far, if the network is compared in two states: "before training"."""
    given: bool = False
    """True for a name that the user gave in Python. It is the whole title."""
    depth: int = 1
    """Recurrence depth; the title of a cell leaves out a depth of 1."""
    along: str = ""
    """The sequences that the network reads: "chorale bwv269"."""
    made: str = ""
    """Origin of the weights, see `gersgorin.run.run.Label`."""
    data: str = ""
    """Origin of the sequences."""

    @property
    def kind(self) -> str:
        """The kind of its cell: "rhn"."""
        return comma_parts(self.cell.rpartition(": ")[2])[0]

    @property
    def own(self) -> str:
        """The name of the network, or else of its cell."""
        return self.name or self.kind

    @property
    def telling(self) -> list[str]:
        """Words that can tell the network from others with its name."""
        words = [] if self.given else comma_parts(self.cell)
        return [word for word in (self.state, *words, self.along) if word not in ("", self.own)]

    def title(self, label: str) -> str:
        """The title: that of the cell, after the label if this has other words."""
        if self.given:
            return self.name
        known = {*comma_parts(label)} <= {*comma_parts(self.cell)}
        return self.cell if known else f"{label}: {self.cell}"


def labels_of(networks: Sequence[Identity], *, only: bool = False) -> list[str]:
    """Return a label for each network. No two labels are the same up to case.

    A label is the network's name. If others have this name, the label continues with all properties
    in which they differ.

    only: True if the networks are known to differ in one property and in nothing else. Then the
    label is this property.

    >>> pair = Identity(cell="rhn, depth 1"), Identity(cell="rhn, depth 3")
    >>> labels_of(pair)
    ['rhn, depth 1', 'rhn, depth 3']
    >>> labels_of(pair, only=True)
    ['depth 1', 'depth 3']
    >>> labels_of([Identity(cell="rnn"), Identity(cell="RNN", name="BigRNN")])
    ['rnn', 'BigRNN']
    >>> labels_of([Identity(cell="rnn"), Identity(cell="RNN")])
    ['rnn', 'RNN (2)']
    """
    labels = list[str]()
    for one in networks:
        alike = [other for other in networks if other.own.casefold() == one.own.casefold()]
        differing = [
            word for word in one.telling if any(word not in other.telling for other in alike)
        ]
        named = [] if only and differing and len(alike) == len(networks) else [one.own]
        labels.append(unused_name(", ".join(named + differing), labels))
    return labels


def with_depths(networks: Sequence[Identity]) -> list[Identity]:
    """Return the networks, with "depth 1" in the titles of their cells if cells of their kind
    differ in depth.

    >>> pair = Identity(cell="rhn, 8 units"), Identity(cell="rhn, depth 3, 8 units", depth=3)
    >>> with_depths(pair)[0].cell
    'rhn, depth 1, 8 units'
    """
    depths: dict[str, set[int]] = {}
    for one in networks:
        depths.setdefault(one.kind, set()).add(one.depth)
    return [
        replace(one, cell=re.sub(r"(?=\d+ units?\b)", "depth 1, ", one.cell, count=1))
        if one.depth == 1 and len(depths[one.kind]) > 1
        else one
        for one in networks
    ]


def unused_name(name: str, others: Iterable[str]) -> str:
    """Return the name, with a number added if another has the same name up to case.

    >>> unused_name("rnn", ["RNN", "gru"]), unused_name("lstm", ["rnn", "gru"])
    ('rnn (2)', 'lstm')
    """
    used = {other.casefold() for other in others}
    names = (f"{name} ({k})" if k > 1 else name for k in count(1))
    return next(each for each in names if each.casefold() not in used)


def footer_of(networks: Sequence[Identity], labels: Sequence[str]) -> str:
    """Return the footer of a comparison. It begins with the words that all networks share, and the
    sequence. If there are only a few networks, the other words and the origin of each follow. The
    footer ends with the shared origin and the data.

    >>> pair = [
    ...     Identity(cell=f"rhn, {n} units", made=f"uniform:0.04, seed {n}", along="bwv269")
    ...     for n in (8, 9)
    ... ]
    >>> footer_of(pair, ["a", "b"])
    'rhn on bwv269; a: 8 units, seed 8; b: 9 units, seed 9; uniform:0.04'
    """
    words = _shared([comma_parts(one.cell) for one in networks])
    origin = _shared([comma_parts(one.made) for one in networks])
    along = _shared([[one.along] for one in networks])
    described = list[str]()
    for one, label in zip(networks, labels, strict=True):
        named = [part.removeprefix("after ") for part in comma_parts(label)]
        every = [*comma_parts(one.cell), *comma_parts(one.made), one.along]
        own = [part for part in every if part not in ("", *words, *origin, *along, *named)]
        described += [f"{label}: {', '.join(dict.fromkeys(own))}"] if own else []
    parts = (
        " on ".join(filter(None, (", ".join(words), *along))),
        *(described if len(networks) <= MOST_DESCRIBED else ()),
        ", ".join(origin),
        *dict.fromkeys(one.data for one in networks),
    )
    return "; ".join(filter(None, parts))


def comma_parts(text: str) -> list[str]:
    """Split a title or description at its commas and colons, except in brackets.

    >>> comma_parts("a.pt: Memory (left, right), 4 units")
    ['a.pt', 'Memory (left, right)', '4 units']
    """
    return [*filter(None, re.split(r"(?:, |: )(?![^(]*\))", text))]


def _shared(texts: Sequence[Sequence[str]]) -> list[str]:
    return [part for part in texts[0] if all(part in others for others in texts)]

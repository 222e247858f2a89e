"""Which networks `gersgorin-plot` looks at, and what each is called: that of its options first, unless it is among the others."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gersgorin.comparing.variants import Variants, short_names, spoken
from gersgorin.subject import Subject, checkpoint_cells, module_cells, new_cell
from rhn.cells import CELLS, resolve_cell
from rhn.errors import InvalidInputError
from rhn.fields import check_seed


@dataclass(frozen=True)
class Panel:
    """One kind of network."""

    title: str
    """What figures and tables call it."""
    subjects: tuple[Subject, ...]
    """Itself, of each seed."""

    @property
    def subject(self) -> Subject:
        """Of the first seed."""
        return self.subjects[0]


def panels(options, variants: Variants | None, input_size: int | None, seeds: int = 1) -> list[Panel]:
    """What is to be measured, each network with this many seeds of initial weights from options.seed on.

    input_size: what is read, as `gersgorin.sources.Source` tells it.

    Raises InvalidInputError, as `new_cell` and `checkpoint_cells` do, and where nothing is left to compare.
    """
    check_seed(options.seed + seeds - 1)
    of_seeds = [list(_named(replace(options, seed=options.seed + k), variants, input_size)) for k in range(seeds)]
    found = [Panel(of_one[0][0], tuple(subject for _, subject in of_one)) for of_one in zip(*of_seeds, strict=True)]
    if variants is not None and len(found) < 2:
        raise InvalidInputError(
            f"--compare {options.compare}: nothing to compare with: expected something else than {found[0].title}"
        )
    return found


def _named(options, variants: Variants | None, input_size: int | None) -> Iterator[tuple[str, Subject]]:
    """(title, subject) of each panel."""
    if options.checkpoint or options.module or variants is None or variants.kind == "cell":
        yield from _fixed(options, variants, input_size)
        return
    given = _given(options, input_size)
    base, kind = new_cell(options.cell or "rhn", **given), variants.kind
    own = _value(base, kind, options)
    for value in variants.values if own in variants.values else (own, *variants.values):
        subject = base if value == own else new_cell(base.name, **given | _changed(base.name, kind, value))
        yield _title(subject, kind, value), subject


def _fixed(options, variants: Variants | None, input_size: int | None) -> Iterator[tuple[str, Subject]]:
    """The network of the options, and other files or other cells."""
    kind, values = (variants.kind, variants.values) if variants else ("cell", ())
    if options.module:
        yield from _of_module(options, values if kind == "checkpoint" else (), input_size)
    elif options.checkpoint:
        files = [options.checkpoint, *(values if kind == "checkpoint" else ())]
        for path, name in zip(files, short_names(files), strict=True):
            before = options.seed if options.compare_init and path == options.checkpoint else None
            for subject in checkpoint_cells(path, options.layer, options.cell, input_size=input_size, before=before):
                yield f"{name}: {subject.title}" if variants else subject.title, subject
    base = options.cell or "rhn"
    if kind == "cell":
        given = _given(options, input_size)
        others = options.checkpoint or options.module
        for name in values if others or base in values else (base, *values):
            subject = new_cell(name, compared=name != base or others is not None, **given)
            yield subject.title, subject


def _of_module(options, files: tuple, input_size: int | None) -> Iterator[tuple[str, Subject]]:
    """The user's module with the weights of the options, and with those of other files."""
    known = {"submodule": options.submodule, "layer": options.layer, "input_size": input_size}
    known |= {"hidden_size": options.hidden_size, "seed": options.seed}
    names = short_names([options.checkpoint, *files]) if files else [""]
    for path, name in zip([options.checkpoint, *files], names, strict=True):
        fresh = options.compare_init and path == options.checkpoint
        for subject in module_cells(options.module, weights=path, fresh=fresh, **known):
            yield f"{name}: {subject.title}" if files else subject.title, subject


def _given(options, input_size: int | None) -> dict:
    """What the options say of new cells."""
    given = {name: getattr(options, name) for name in ("depth", "hidden_size", "seed", "transform_bias", "init")}
    return given | ({} if input_size is None else {"input_size": input_size})


def _changed(name: str, kind: str, value) -> dict:
    return {bias_option(name) if kind == "bias" else kind: value}


def bias_option(name: str) -> str:
    """The option of a cell that says how its gates' bias starts: transform_bias, forget_bias and the like; raises InvalidInputError."""
    found = _biases(resolve_cell(name))
    if not found:
        such = ", ".join(cell for cell, factory in CELLS.items() if _biases(factory))
        raise InvalidInputError(
            f"--compare bias=... is for cells with gates whose bias can be set ({such}), not for {name}"
        )
    return found[0]


def _biases(factory) -> list[str]:
    return [option for option in getattr(factory, "options", ()) if option.endswith("_bias")]


def _value(base: Subject, kind: str, options):
    """What the network of the options has of what varies; None where it does not say."""
    if kind == "seed":
        return options.seed
    if kind == "bias":
        return getattr(base.cell, bias_option(base.name), None)
    value = getattr(base.cell, kind, None)
    return str(value) if kind == "init" and value is not None else value


def _title(subject: Subject, kind: str, value) -> str:
    """What a panel is called, with what varies said in full."""
    said = "as drawn" if value is None else spoken(value)
    if kind == "bias":
        return f"{subject.title}, {bias_option(subject.name).replace('_', ' ')} {said}"
    if kind in ("init", "seed") or (kind, value) == ("depth", 1):
        return f"{subject.title}, {kind} {said}"
    return subject.title

"""What a report says of how a network, a training or a study was made: the values in its files, as one table.

What a report's network reads: a chorale, a text, or the numbers of a file; and why not, where there is nothing for it to read.

What a network does, as sections of a report: spectra, products, gains, exponents, gates, and what lesions cost.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from analysis.damage import reading as lesion_reading
from analysis.gates import gate_activity
from analysis.lesions import lesion
from analysis.report import charts
from analysis.report.page import Section, Table, shown
from analysis.texts import Excerpt, stretches
from gersgorin.analyses.lyapunov import lyapunov
from gersgorin.analyses.overview import COLUMNS, Analysis, analyze
from gersgorin.analyses.spectra import gradient_words
from gersgorin.data import TEXT_STEPS, Source, first_tokens, read_source
from gersgorin.extract import extract_cell, part_of
from gersgorin.networks import build_module, load_weights, read_state
from gersgorin.own_loop import OwnLoop
from gersgorin.run import shown_steps
from rhn.cell_names import lacking
from rhn.checkpoints import load_model, read_metadata, weights_file
from rhn.chorales.evaluation import corpus_of
from rhn.data.corpus import KEYS
from rhn.errors import DataError, InvalidInputError
from rhn.models import LanguageModel
from rhn.wording import counted

LEFT_OUT = ("vocabulary",)  # thousands of words
MOST_ROWS, DEEPEST = 400, 8
ABOUT = "What it is and how it was made"
NETWORK = ("cell", "depth", "layers", "hidden_size", "init", "transform_bias")
TRAINING = ("corpus", "epochs", "batch_size", "learning_rate", "momentum", "seed")


def checkpoint_section(path: Path) -> Section:
    """What a checkpoint says of itself; raises CheckpointError."""
    header = read_metadata(path)
    told = {"file": str(path), "holds": header["class"], "network": header["config"]}
    told |= {"versions": header.get("versions"), "made": header.get("metadata")}
    return Section(title=ABOUT, words=[_in_words(header)], tables=[values_table(told, "All that the file says")])


def weights_section(asked) -> Section:
    """What a file of weights for a user's module holds; raises CheckpointError."""
    state = read_state(weights_file(asked.checkpoint))
    count = sum(t.numel() for t in state.values())
    told = {"module": asked.module, "file": str(asked.checkpoint)}
    told |= {"tensors": {name: "x".join(map(str, t.shape)) for name, t in state.items()}}
    words = f"{asked.module}, with the {count:,} numbers of {asked.checkpoint.name}, which does not say how they were trained."
    return Section(title=ABOUT, words=[words], tables=[values_table(told, "All that the file says")])


def _in_words(header: dict) -> str:
    """The most of it in a sentence: "PolyphonicModel: rhn, depth 6, 24 units; seed 0; train_nll 11.1 at epoch 12; data: ..."."""
    config, made = header["config"], header.get("metadata")
    made = made if isinstance(made, dict) else {}
    how = {**_dict(made.get("study")), **_dict(made.get("train")), **_dict(made.get("settings"))}
    told = [name for name in NETWORK if name in config and name not in lacking(str(config.get("cell")))]
    words = [", ".join(f"{name.replace('_', ' ')} {shown(config[name])}" for name in told)]
    words += [", ".join(f"{name.replace('_', ' ')} {shown(how[name])}" for name in TRAINING if name in how)]
    results = {**_dict(made.get("metrics")), **_dict(made.get("outcome"))}
    words += [", ".join(f"{k.replace('_', ' ')} {shown(v)}" for k, v in results.items() if _is_number(v))]
    words += [f"data: {shown(source)}"] if (source := _dict(made.get("data")).get("source")) else []
    return f"{shown(header['class'])}: {'; '.join(filter(None, words))}."


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def values_table(told: dict, caption: str) -> Table:
    """Nested values as rows, "train.seed" beside 0."""
    rows = list(flat(told))
    left = len(rows) - MOST_ROWS
    rows = rows[:MOST_ROWS] + ([["...", f"{left} more"]] if left > 0 else [])
    return Table(caption=caption, columns=["what", "value"], rows=rows, folded=True)


def flat(value, name: str = "", depth: int = 0) -> Iterator[list]:
    """Rows (name, value) of nested objects; lists as one text. What is nested too deeply is left out.

    >>> list(flat({"train": {"seed": 0, "rates": [1, 2]}, "cell": "rhn"}))
    [['train.seed', '0'], ['train.rates', '[1, 2]'], ['cell', 'rhn']]
    """
    if depth > DEEPEST:
        yield [name, "..."]
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in LEFT_OUT:
                yield from flat(inner, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(value, list | tuple):
        try:
            yield [name, json.dumps(value)]
        except RecursionError:
            yield [name, "..."]
    else:
        yield [name, str(value)]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of `gersgorin.data`, for one checkpoint."""

    checkpoint: Path
    cell: str | None = None
    chorale: str = "bwv269"
    data: Path | None = None
    text: Path | None = None
    input: Path | None = None
    unit: str | None = None
    module: str | None = None
    submodule: str | None = None
    steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class Read:
    """A network and what it reads."""

    model: nn.Module
    source: Source
    sequence: np.ndarray
    """As both packages take it: numbers (T, m), or an `Excerpt` of ids (T,)."""


def read_network(asked: Asked) -> Read:
    """The network of a checkpoint with a sequence; raises CheckpointError, DataError or InvalidInputError."""
    if asked.module is not None:
        return _module(asked)
    model = load_model(asked.checkpoint, asked.cell)
    if isinstance(model, LanguageModel):
        return _text(asked, model)
    if asked.text is not None:
        raise InvalidInputError(f"--text is for a language model, and {asked.checkpoint} holds none: leave it out")
    size = getattr(model, "input_size", KEYS)
    if asked.input is None and size != KEYS:
        raise InvalidInputError(
            f"{asked.checkpoint} reads {size} inputs a step, not a chorale's {KEYS} keys: say what, with --input FILE"
        )
    source = read_source(asked)
    return Read(model=model, source=source, sequence=np.asarray(source.sequence()))


def _module(asked: Asked) -> Read:
    """A module of the user's, or a part of it, with the weights of the file."""
    source = read_source(asked)
    module = build_module(asked.module, input_size=source.input_size, weights=asked.checkpoint)
    load_weights(module, asked.checkpoint)
    return Read(model=part_of(module, asked.submodule), source=source, sequence=np.asarray(source.sequence()))


def _text(asked: Asked, model: LanguageModel) -> Read:
    """From the beginning of --text, or of the validation part of what the network was trained on."""
    from rhn.language.trained import load_text_model

    if asked.input is not None:
        raise InvalidInputError(f"--input is for numbers, and {asked.checkpoint} holds a language model: give --text")
    trained = load_text_model(asked.checkpoint, asked.cell)
    steps = asked.steps or TEXT_STEPS
    if asked.text is not None:
        name, ids = asked.text.name, first_tokens(asked.text, trained.vocabulary, steps)
    else:
        corpus = trained.corpus(asked.data)
        known = "of its training" if trained.config.corpus == "text" else trained.config.corpus
        name, ids = f"{known} (validation)", np.asarray(corpus.valid[:steps])
    source = Source(name=name, kind="text", values=ids, unit="tokens").cut(asked.steps)
    excerpt = Excerpt(source.values, name=name, vocabulary=trained.vocabulary)
    return Read(model=model, source=source, sequence=excerpt)


EXPONENTS, READINGS = 8, 6  # of which the first is not counted
QUICK = 2e7  # weights x lesioned networks x sequences: about half a minute
LESION_PIECES, LESION_TOKENS, LESION_LENGTH = 20, 20_000, 200

Progress = Callable[[str], Callable[[int, int], None]]


def network_sections(asked: Asked, lesions: bool, progress: Progress) -> list[Section]:
    """Everything about the network of a checkpoint along one sequence; `lesions` also where they take long.

    A part that cannot be measured says why in a sentence. Raises CheckpointError, DataError or InvalidInputError where nothing can.
    """
    read = read_network(asked)
    bar = progress("spectra, gains and gradients")
    found = _analysis(read)
    bar(1, 1)
    spectrum = replace(found.spectrum, chorale=read.source.first_label, reads=read.source.kind)
    return [
        _in_words_network(replace(found, spectrum=spectrum)),
        _spectra(spectrum),
        Section(
            title="Gradients over time",
            charts=[charts.products_chart(spectrum), charts.steps_chart(spectrum)],
        ),
        Section(title="Within a step", charts=[charts.gains_chart(found.input_gain, found.state_gain)]),
        _attempt("Lyapunov exponents", lambda: _exponents(read, progress("exponents"))),
        _attempt("Transform gates", lambda: _gates(read, spectrum.time_label, progress("gates"))),
        _attempt("Lesions", lambda: _lesions(read, asked, lesions, progress("lesions"))),
    ]


def _analysis(read: Read) -> Analysis:
    """Of the whole network; of its cell alone where the sequence has no plateau, as one that never changes."""
    x = torch.as_tensor(np.asarray(read.sequence))
    try:
        return analyze(read.model, x, unit=read.source.unit)
    except InvalidInputError:
        cell, inputs = extract_cell(read.model, x)
        if isinstance(cell, OwnLoop):
            raise
        return analyze(cell, inputs[:, 0], unit=read.source.unit)


def _attempt(title: str, measured: Callable[[], Section]) -> Section:
    """A section, or why there is none."""
    try:
        return measured()
    except (InvalidInputError, DataError) as error:
        return Section(title=title, words=[f"Not measured: {error}."])


def _in_words_network(found: Analysis) -> Section:
    rows = [[row["quantity"], *(row[name] for name in COLUMNS)] for row in found.table()]
    table = Table(caption=f"{found.title}, along {found.spectrum.along}", columns=["quantity", *COLUMNS], rows=rows)
    T, radius = len(found.input_gain), float(np.nanmax(found.spectrum.spectral_radius))
    verdict = (
        f"Over {counted(T, 'step')} {gradient_words(found.spectrum)}; the spectral radius is {radius:.3g} at most."
    )
    return Section(title="In words", verdict=verdict, words=[found.summary()], tables=[table])


def _spectra(spectrum) -> Section:
    steps = shown_steps(len(spectrum.norm))
    about = f"One step's Jacobian at {len(steps)} of {len(spectrum.norm)} steps along {spectrum.along}, from a state of zeros."
    return Section(title="Spectra", words=[about], charts=[charts.spectrum_chart(spectrum, t) for t in steps])


def _exponents(read: Read, progress) -> Section:
    cell, inputs = extract_cell(read.model, torch.as_tensor(np.asarray(read.sequence)))
    T = len(inputs)
    x = inputs[:, 0].repeat(READINGS, 1)
    if isinstance(cell, OwnLoop):
        cell = cell.repeated(READINGS).sequence(0)
    found = lyapunov(cell, x, min(EXPONENTS, cell.state_size), warmup=T, progress=progress)
    words = f"The sequence is read {READINGS} times over, {counted(T, 'step')} each, of which the first reading is not counted."
    return Section(title="Lyapunov exponents", words=[words], charts=[charts.exponents_chart(found)])


def _gates(read: Read, time: str, progress) -> Section:
    found = gate_activity(read.model, [read.sequence], progress=progress)
    (sequence,) = found.sequences
    sequence = replace(sequence, name=read.source.first_label)
    columns = ["layer", "mean", "below 0.1 (%)", "between (%)", "above 0.9 (%)"]
    rows = [
        [label, float(mean), *(100 * float(share) for share in shares)]
        for label, mean, shares in zip(found.labels, found.mean_by_layer, found.saturation, strict=True)
    ]
    words = f"Effective depth, the layers' worth of gates open at a step: {sequence.effective_depth.mean():.3g} of {found.layers}."
    table = Table(caption=f"How far the {found.gate_name}s are open", columns=columns, rows=rows)
    return Section(
        title="Transform gates",
        words=[words],
        charts=[charts.gates_chart(replace(found, sequences=(sequence,)), time)],
        tables=[table],
    )


def _lesions(read: Read, asked: Asked, anyway: bool, progress) -> Section:
    text = isinstance(read.model, LanguageModel)
    work = sum(p.numel() for p in read.model.parameters()) * (1 + _layers(read.model)) * LESION_PIECES
    if not anyway and (text or work > QUICK):
        raise InvalidInputError("lesions of a network of this size take minutes, add --lesions for them")
    if text:
        from rhn.language.trained import load_text_model

        split, corpus = "valid", load_text_model(asked.checkpoint, asked.cell).corpus(asked.data)
        sequences = stretches(corpus.valid, length=LESION_LENGTH, max_tokens=LESION_TOKENS)
    else:
        split = "train" if anyway else "test"
        sequences = getattr(corpus_of(asked.checkpoint, asked.data), split)
        sequences = sequences if anyway else sequences[:LESION_PIECES]
    found = lesion(read.model, sequences, split=split, progress=progress)
    kinds = {"": found.layers, ": blind": found.controls}
    rows = [[f"layer {r.label}{kind}", r.loss, r.delta, r.low, r.high] for kind, rs in kinds.items() for r in rs]
    columns = ["lesioned", "loss", "damage", "95 % from", "to"]
    judged = counted(found.frames, f"predicted {found.step}")
    about = f"{found.mode} lesions on {counted(found.sequences, 'sequence')} of {split}, {judged} (nats)"
    return Section(
        title="Lesions",
        words=[lesion_reading(found)],
        charts=[charts.lesions_chart(found)],
        tables=[Table(caption=about, columns=columns, rows=rows)],
    )


def _layers(model: nn.Module) -> int:
    from analysis.layers import places

    return len(places(model))

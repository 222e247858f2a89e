"""The sections about a network: how it was made, every default analysis along one sequence, its gates and lesions."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from analysis.activity import draw_gates
from analysis.damage import draw_lesions
from analysis.gates import gate_activity
from analysis.lesion_modes import places
from analysis.lesions import lesion
from analysis.report.page import Section, Table, in_words, picture, section_of
from analysis.sequences import Excerpt, stretches
from gersgorin.analyses import ANALYSES, Analysis
from gersgorin.analyses.spectra import Spectra, gradient_words
from gersgorin.loading.data import TEXT_STEPS, Source, read_source
from gersgorin.loading.find import part_of
from gersgorin.loading.network import build_module, load_weights, read_state
from gersgorin.loading.sequence_map import SequenceMap
from gersgorin.objective import Objective
from gersgorin.options import DataOptions, NetworkOptions
from gersgorin.plotting.spectra import draw_run
from gersgorin.resolve import network_of_options, run_along
from gersgorin.run import Run
from rhn.cells.registry import lacking
from rhn.checkpoints import load_model, read_metadata, weights_file
from rhn.data.corpus import KEYS
from rhn.errors import DataError, InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.trained import corpus_of, load_text_model
from rhn.utils.wording import counted

ABOUT = "What it is and how it was made"
NETWORK = ("cell", "depth", "layers", "hidden_size", "init", "transform_bias")
TRAINING = ("corpus", "epochs", "batch_size", "learning_rate", "momentum", "seed")
LEFT_OUT = ("vocabulary",)  # thousands of words
MOST_ROWS, DEEPEST = 400, 8
QUICK = 2e7  # weights x lesioned networks x sequences: about half a minute
LESION_PIECES, LESION_TOKENS, LESION_LENGTH = 20, 20_000, 200

Progress = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A network, the data that it reads, and the parts that are not default."""

    network: NetworkOptions
    data: DataOptions
    lesions: bool = False
    also: tuple[str, ...] = ()
    """Names of further rows of `ANALYSES`."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """A network with its sequence."""

    model: nn.Module
    source: Source
    sequence: np.ndarray
    """Numbers (T, m), or an `Excerpt` of ids (T,)."""
    run: Run
    """Of its first recurrent cell."""


def checkpoint_section(path: Path) -> Section:
    """The header of a checkpoint. Raises CheckpointError."""
    header = read_metadata(path)
    values = {"file": str(path), "holds": header["class"], "network": header["config"]}
    values |= {"versions": header.get("versions"), "made": header.get("metadata")}
    return Section(title=ABOUT, text=[_header_words(header)], tables=[values_table(values, "Everything in the file")])


def weights_section(module: str, path: Path) -> Section:
    """The tensors in a file of weights of a user's module. Raises CheckpointError."""
    state = read_state(weights_file(path))
    count = sum(t.numel() for t in state.values())
    values = {"module": module, "file": str(path)}
    values |= {"tensors": {name: "x".join(map(str, t.shape)) for name, t in state.items()}}
    text = f"{module}, with {count:,} numbers from {path.name}; the file holds no training settings."
    return Section(title=ABOUT, text=[text], tables=[values_table(values, "Everything in the file")])


def _header_words(header: dict) -> str:
    """The header in one sentence: "PolyphonicModel: cell rhn, depth 6; seed 0; train nll 11.1; data: ..."."""
    config, made = header["config"], _dict(header.get("metadata"))
    how = {**_dict(made.get("study")), **_dict(made.get("train")), **_dict(made.get("settings"))}
    known = [name for name in NETWORK if name in config and name not in lacking(str(config.get("cell")))]
    groups = [{name: config[name] for name in known}, {name: how[name] for name in TRAINING if name in how}]
    results = {**_dict(made.get("metrics")), **_dict(made.get("outcome"))}
    groups += [{k: v for k, v in results.items() if isinstance(v, int | float) and not isinstance(v, bool)}]
    words = [", ".join(f"{k.replace('_', ' ')} {in_words(v)}" for k, v in group.items()) for group in groups]
    words += [f"data: {in_words(source)}"] if (source := _dict(made.get("data")).get("source")) else []
    return f"{in_words(header['class'])}: {'; '.join(filter(None, words))}."


def _dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def values_table(values: dict, caption: str) -> Table:
    """Nested values as rows, "train.seed" beside 0."""
    rows = list(flat(values))
    left = len(rows) - MOST_ROWS
    rows = rows[:MOST_ROWS] + ([["...", f"{left} more"]] if left > 0 else [])
    return Table(caption=caption, columns=["what", "value"], rows=rows, folded=True)


def flat(value, name: str = "", depth: int = 0) -> Iterator[list]:
    """Rows (name, value) of nested objects; a list is one text. Deeply nested values are left out.

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


def network_sections(question: Question, progress: Progress) -> list[Section]:
    """Default and further analyses, gates and lesions of a network along one sequence.

    A part that cannot be measured is one sentence. Raises CheckpointError, DataError or InvalidInputError if nothing can.
    """
    read = read_network(question)
    names = [name for name, row in ANALYSES.items() if row.default or row.reported or name in question.also]
    parts = {
        ANALYSES[name].about: lambda progress, row=ANALYSES[name]: _analysis(row, read, progress) for name in names
    }
    parts["Gates by layer and step"] = lambda progress: _gates(read, progress)
    parts["Lesions"] = lambda progress: _lesions(read, question, progress)
    sections = []
    for title, measure in parts.items():
        try:
            sections.append(replace(measure(progress(title)), title=title))
        except (InvalidInputError, DataError) as error:
            sections.append(Section(title=title, text=[f"Not measured: {error}."]))
    return sections


def _analysis(row: Analysis, read: Read, progress) -> Section:
    """The section of a row of `ANALYSES`."""
    if row.needs == "objective":
        if not isinstance(read.model, PolyphonicModel | LanguageModel):
            raise InvalidInputError(f"{read.run.label.title} has no loss")
        sequence = torch.as_tensor(np.asarray(read.sequence))
        return section_of(row(Objective(read.model, sequence), progress=progress))
    if row.needs == "map":
        return section_of(
            row(SequenceMap(read.model, np.asarray(read.sequence), label=read.run.label), progress=progress)
        )
    result = row(read.run, progress=progress)
    return _spectra(result) if row.name == "spectra" else section_of(result)


def _spectra(found: Spectra) -> Section:
    """Spectra of a few steps; their first numbers are the verdict."""
    steps, radius = counted(len(found.norm), "step"), np.nanmax(found.spectral_radius)
    verdict = f"Over {steps} {gradient_words(found)}, spectral radius up to {radius:.3g}."
    return replace(section_of(found), verdict=verdict, pictures=[picture(lambda: draw_run(found))])


def read_network(question: Question) -> Read:
    """The network of a checkpoint with a sequence. Raises CheckpointError, DataError or InvalidInputError."""
    data, network = question.data, question.network
    if network.module is not None:
        source = read_source(data)
        module = build_module(network.module, input_size=source.input_size, weights=network.checkpoint)
        load_weights(module, network.checkpoint)
        model = part_of(module, network.submodule)
    else:
        model = load_model(network.checkpoint, network.cell)
        size = None if isinstance(model, LanguageModel) else getattr(model, "input_size", KEYS)
        if data.input is None and size not in (None, KEYS):
            raise InvalidInputError(
                f"{network.checkpoint} reads {size} inputs a step, a chorale has {KEYS} keys: give data with --input FILE"
            )
        source = read_source(data) if size is not None else _read_text(question)
    run = run_along(network_of_options(network, source.input_size), source, device="cpu")
    sequence = np.asarray(source.sequence())
    if isinstance(model, LanguageModel):
        vocabulary = load_text_model(network.checkpoint, network.cell).vocabulary
        sequence = Excerpt(sequence, name=source.name, vocabulary=vocabulary)
    return Read(model=model, source=source, sequence=sequence, run=run)


def _read_text(question: Question) -> Source:
    """The beginning of --input, or of the validation part of the training text."""
    data, network = question.data, question.network
    if data.input is not None:
        return read_source(data, text_of=network.checkpoint, cell=network.cell)
    trained = load_text_model(network.checkpoint, network.cell)
    ids = np.asarray(trained.corpus(data.data).valid[: data.steps or TEXT_STEPS])
    name = "of its training" if trained.config.corpus == "text" else trained.config.corpus
    return Source(name=f"{name} (validation)", kind="text", values=ids, unit="tokens").cut(data.steps)


def _gates(read: Read, progress) -> Section:
    found = gate_activity(read.model, [read.sequence], progress=progress)
    (sequence,) = found.sequences
    found = replace(found, sequences=(replace(sequence, name=read.source.first_label),))
    columns = ["layer", "mean", "below 0.1 (%)", "between (%)", "above 0.9 (%)"]
    rows = [
        [label, float(mean), *(100 * float(share) for share in shares)]
        for label, mean, shares in zip(found.labels, found.mean_by_layer, found.saturation, strict=True)
    ]
    depth = f"{sequence.effective_depth.mean():.3g} of {found.layers}"
    return Section(
        text=[f"Effective depth, the sum of the mean gates of the layers: {depth}."],
        pictures=[picture(lambda: draw_gates(found))],
        tables=[Table(caption=f"Distribution of the {found.gate_name}s", columns=columns, rows=rows)],
    )


def _lesions(read: Read, question: Question, progress) -> Section:
    text, long = isinstance(read.model, LanguageModel), question.lesions
    work = sum(p.numel() for p in read.model.parameters()) * (1 + len(places(read.model))) * LESION_PIECES
    if not long and (text or work > QUICK):
        raise InvalidInputError("lesions of a network of this size take minutes, add --lesions for them")
    checkpoint, cell, data = question.network.checkpoint, question.network.cell, question.data.data
    if text:
        corpus, split = load_text_model(checkpoint, cell).corpus(data), "valid"
        sequences = stretches(corpus.valid, length=LESION_LENGTH, max_tokens=LESION_TOKENS)
    else:
        corpus, split = corpus_of(checkpoint, data), "train" if long else "test"
        sequences = getattr(corpus, split)[: None if long else LESION_PIECES]
    found = lesion(read.model, sequences, split=split, progress=progress)
    kinds = {"": found.layers, ": blind": found.controls}
    rows = [[f"layer {r.label}{kind}", r.loss, r.delta, r.low, r.high] for kind, rs in kinds.items() for r in rs]
    steps = counted(found.frames, f"predicted {found.step}")
    about = f"{found.mode} lesions on {counted(found.sequences, 'sequence')} of {split}, {steps} (nats)"
    return Section(
        text=[found.reading()],
        pictures=[picture(lambda: draw_lesions(found))],
        tables=[Table(caption=about, columns=["lesioned", "loss", "damage", "95 % from", "to"], rows=rows)],
    )

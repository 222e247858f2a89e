"""The sections about a network: how it was made, every default analysis along one sequence, its gates and lesions."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from analysis.gates import gate_activity
from analysis.lesion_modes import places
from analysis.lesions import lesion
from analysis.report.options import Options
from analysis.report.page import Section, Table, section_of
from analysis.sequences import Excerpt, stretches
from gersgorin.analyses import ANALYSES, Analysis
from gersgorin.analyses.spectra import Spectra, gradient_words
from gersgorin.loading.data import TEXT_STEPS, Source, read_source
from gersgorin.loading.find import part_of
from gersgorin.loading.network import build_module, load_weights, read_state
from gersgorin.loading.sequence_map import SequenceMap
from gersgorin.objective import Objective
from gersgorin.options import NetworkOptions
from gersgorin.plotting.spectra import draw_run
from gersgorin.resolve import network_of_options, run_along
from gersgorin.run import Run
from rhn.checkpoints import load_model, read_metadata, weights_file
from rhn.data.corpus import KEYS
from rhn.errors import DataError, InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.plotting.provenance import words_of_checkpoint
from rhn.training.trained import corpus_of, load_text_model
from rhn.utils.result import Result
from rhn.utils.wording import counted

ABOUT = "What it is and how it was made"
LEFT_OUT = ("vocabulary",)  # thousands of words
MOST_VALUES = 400
QUICK = 2e7  # weights x lesioned networks x sequences: about half a minute
LESION_PIECES, LESION_TOKENS, LESION_LENGTH = 20, 20_000, 200

Progress = Callable[[str], Callable[[int, int], None]]


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
    text = f"{header['class']} from {words_of_checkpoint(path)}."
    return Section(title=ABOUT, text=[text], tables=[values_table(values, "Everything in the file")])


def weights_section(module: str, path: Path) -> Section:
    """The tensors in a file of weights of a user's module. Raises CheckpointError."""
    state = read_state(weights_file(path))
    values = {name: "x".join(map(str, t.shape)) for name, t in state.items()}
    count = sum(t.numel() for t in state.values())
    text = f"{module}, with {count:,} numbers from {path.name}; the file holds no training settings."
    return Section(title=ABOUT, text=[text], tables=[values_table(values, "Everything in the file")])


def values_table(values: dict, caption: str) -> Table:
    """Nested values as rows, "train.seed" beside 0."""
    return Table(caption=caption, columns=["what", "value"], rows=list(_flat(values))[:MOST_VALUES], folded=True)


def _flat(value, name: str = "") -> Iterator[list]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in LEFT_OUT:
                yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield [name, json.dumps(value) if isinstance(value, list) else str(value)]


def network_sections(options: Options, path: Path, progress: Progress) -> list[Section]:
    """Default and further analyses, gates and lesions of the network in a file along one sequence.

    A part that cannot be measured is one sentence. Raises CheckpointError, DataError or InvalidInputError if nothing can.
    """
    read = read_network(options, path)
    names = [name for name, row in ANALYSES.items() if row.default or row.reported or name in options.also]
    parts = {
        ANALYSES[name].about: lambda progress, row=ANALYSES[name]: _analysis(row, read, progress) for name in names
    }
    parts["Gates by layer and step"] = lambda progress: _gates(read, progress)
    parts["Lesions"] = lambda progress: _lesions(read, options, path, progress)
    sections = []
    for title, measure in parts.items():
        try:
            sections.append(_section(measure(progress(title)), title))
        except (InvalidInputError, DataError) as error:
            sections.append(Section(title=title, text=[f"Not measured: {error}."]))
    return sections


def _section(result: Result, title: str) -> Section:
    """The section of a result; spectra are those of a few steps, and their first numbers are the verdict."""
    section = section_of(result, title)
    if not isinstance(result, Spectra):
        return section
    steps, radius = counted(len(result.norm), "step"), np.nanmax(result.spectral_radius)
    verdict = f"Over {steps} {gradient_words(result)}, spectral radius up to {radius:.3g}."
    return replace(section, verdict=verdict, figures=[lambda: draw_run(result)])


def _analysis(row: Analysis, read: Read, progress) -> Result:
    """The result of a row of `ANALYSES`."""
    if row.needs == "objective":
        if not isinstance(read.model, PolyphonicModel | LanguageModel):
            raise InvalidInputError(f"{read.run.label.title} has no loss")
        subject = Objective(read.model, torch.as_tensor(np.asarray(read.sequence)))
    elif row.needs == "map":
        subject = SequenceMap(read.model, np.asarray(read.sequence), label=read.run.label)
    else:
        subject = read.run
    return row(subject, progress=progress)


def read_network(options: Options, path: Path) -> Read:
    """The network in a file with a sequence. Raises CheckpointError, DataError or InvalidInputError."""
    vocabulary = None
    if options.module is not None:
        source = read_source(options)
        module = build_module(options.module, input_size=source.input_size, weights=path)
        load_weights(module, path)
        model = part_of(module, options.submodule)
    else:
        model = load_model(path, options.cell)
        if isinstance(model, LanguageModel):
            source, vocabulary = _read_text(options, path), load_text_model(path, options.cell).vocabulary
        else:
            size = getattr(model, "input_size", KEYS)
            if options.input is None and size != KEYS:
                raise InvalidInputError(
                    f"{path} reads {size} inputs a step, a chorale has {KEYS} keys: give data with --input FILE"
                )
            source = read_source(options)
    network = NetworkOptions(checkpoint=path, cell=options.cell, module=options.module, submodule=options.submodule)
    run = run_along(network_of_options(network, source.input_size), source, device="cpu")
    sequence = np.asarray(source.sequence())
    if vocabulary is not None:
        sequence = Excerpt(sequence, name=source.name, vocabulary=vocabulary)
    return Read(model=model, source=source, sequence=sequence, run=run)


def _read_text(options: Options, path: Path) -> Source:
    """The beginning of --input, or of the validation part of the training text."""
    if options.input is not None:
        return read_source(options, text_of=path, cell=options.cell)
    trained = load_text_model(path, options.cell)
    ids = trained.corpus(options.data).valid[: options.steps or TEXT_STEPS].astype(np.int64)
    name = "of its training" if trained.config.corpus == "text" else trained.config.corpus
    return Source(name=f"{name} (validation)", kind="text", values=ids, unit="tokens").cut(options.steps)


def _gates(read: Read, progress) -> Result:
    found = gate_activity(read.model, [read.sequence], progress=progress)
    sequence = replace(found.sequences[0], name=read.source.first_label)
    return replace(found, sequences=(sequence,), title=read.run.label.title)


def _lesions(read: Read, options: Options, path: Path, progress) -> Result:
    text, long = isinstance(read.model, LanguageModel), options.lesions
    work = sum(p.numel() for p in read.model.parameters()) * (1 + len(places(read.model))) * LESION_PIECES
    if not long and (text or work > QUICK):
        raise InvalidInputError("lesions of a network of this size take minutes, add --lesions for them")
    if text:
        corpus, split = load_text_model(path, options.cell).corpus(options.data), "valid"
        sequences = stretches(corpus.valid, length=LESION_LENGTH, max_tokens=LESION_TOKENS)
    else:
        corpus, split = corpus_of(path, options.data), "train" if long else "test"
        sequences = getattr(corpus, split)[: None if long else LESION_PIECES]
    return replace(lesion(read.model, sequences, split=split, progress=progress), title=read.run.label.title)

"""The sections of a report about a network: its origin, every default analysis along one sequence,
its gates and its lesions.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from analysis.gates import gate_activity
from analysis.lesions import lesion
from analysis.network import open_network, places
from analysis.report.options import ReportOptions
from analysis.report.page import Section, Table, section_of
from analysis.sequences import Excerpt, stretches, width_of
from gersgorin.analyses import ANALYSES, Analysis
from gersgorin.analyses.spectra import Spectra
from gersgorin.cli.load import chorales_file, data_of_options, load_network, run_of
from gersgorin.cli.options import NetworkOptions
from gersgorin.cli.trained import TEXT_STEPS
from gersgorin.data.files import Dataset, chorales_origin
from gersgorin.network.batch_axis import axis_for
from gersgorin.network.find import model_label, part_of
from gersgorin.network.sequence_map import on_next_frames, own_loss
from gersgorin.run.run import Label, Run
from rhn.checkpoints import entry_of, load_model, read_metadata, weights_file
from rhn.data import Corpus, chorales
from rhn.data.text import TextCorpus
from rhn.errors import DataError, InvalidInputError, NoGatesError
from rhn.models import LanguageModel
from rhn.plotting.provenance import words_of_checkpoint
from rhn.training.config import HYPERPARAMETERS
from rhn.training.trained import StoredData, TrainedText, load_text_model, stored_data
from rhn.utils.result import Result
from rhn.utils.shared_options import flag
from rhn.utils.wording import counted
from rhn.weights import read_weights

ABOUT = "Origin of the network"
LEFT_OUT = ("vocabulary",)  # thousands of words
MOST_VALUES = 400
QUICK = 1e11  # weights x lesioned networks x steps: about half a minute

NamedProgress = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True, kw_only=True)
class Read:
    """A network, and the sequence along which it is measured."""

    model: nn.Module
    text: TrainedText | None
    """Vocabulary and text of a language model; None for other networks."""
    along: Dataset
    """The sequence along which the network is measured."""
    run: Run
    """The run of the first recurrent cell of the network along the sequence."""
    options: NetworkOptions
    """The options that name the network."""
    data: Path | None
    """The data of the report's options; None: the data of the training run."""

    @cached_property
    def corpus(self) -> Corpus | TextCorpus:
        """The chorales or the text of the page. Raises InvalidInputError or DataError."""
        if self.text:
            return self.text.corpus(self.data)
        return chorales(chorales_file(self.options, self.data))

    @property
    def sequence(self) -> np.ndarray:
        """Numbers (T, m), or an `Excerpt` of ids (T,)."""
        numbers = self.along.sequence().numpy()
        if self.text is None:
            return numbers
        return Excerpt(numbers, name=self.along.name, vocabulary=self.text.vocabulary)

    @cached_property
    def stored(self) -> StoredData:
        """The data that the files of the training run name."""
        if self.text:
            return self.text.data
        file = self.options.checkpoint
        assert file is not None  # see `read_network`
        return StoredData(file.name) if self.options.module else stored_data(file)

    @property
    def label(self) -> Label:
        """Names of the whole network, and the origin of its weights and sequence."""
        return replace(self.run.label, title=model_label(self.model).title)


def checkpoint_section(path: Path) -> Section:
    """Describe the header of a checkpoint, with the settings of its training run as options. Raises
    CheckpointError.
    """
    header = read_metadata(path)
    train = entry_of(header["metadata"], "train")
    made = {name: value for name, value in header["metadata"].items() if value is not train}
    others = (
        set()
        .union(*HYPERPARAMETERS.values())
        .difference(HYPERPARAMETERS.get(str(train.get("optimizer")), ()))
    )
    settings = {flag(name): value for name, value in train.items() if name not in others}
    values = {"file": str(path), "holds": header["class"], "network": header["config"]}
    values |= {"versions": header.get("versions"), "made": made}
    tables = {"Settings of the training run": settings, "What else the file holds": values}
    return _origin(f"{header['class']} from {words_of_checkpoint(path)}.", tables)


def weights_section(module: str, path: Path) -> Section:
    """List the tensors in a user's file of weights. Raises CheckpointError."""
    state = read_weights(weights_file(path))
    count = sum(t.numel() for t in state.values())
    text = (
        f"{module}, with {count:,} numbers from {path.name}; the file holds no training settings."
    )
    shapes = {name: "x".join(map(str, t.shape)) for name, t in state.items()}
    return _origin(text, {"Shapes of the weights": shapes})


def _origin(text: str, tables: dict[str, dict]) -> Section:
    return Section(
        title=ABOUT,
        text=[text],
        tables=[values_table(v, caption) for caption, v in tables.items() if v],
    )


def values_table(values: dict, caption: str) -> Table:
    """Return nested values as a table of names and values, such as "train.seed" and 0."""
    return Table(caption=caption, rows=list(_flat(values)), most=MOST_VALUES)


def _flat(value, name: str = "") -> Iterator[dict]:
    if not isinstance(value, dict):
        yield {"what": name, "value": json.dumps(value) if isinstance(value, list) else str(value)}
        return
    for key, inner in value.items():
        if key not in LEFT_OUT:
            yield from _flat(inner, f"{name}.{key}" if name else str(key))


def network_sections(options: ReportOptions, path: Path, progress: NamedProgress) -> list[Section]:
    """Return the analyses, gates and lesions of the network in a file along one sequence.

    If a part cannot be measured, the report has a sentence with the reason in its place. A network
    without gates has no part about gates. Raises CheckpointError, DataError or InvalidInputError if
    the network or the sequence cannot be read.
    """
    read = read_network(options, path)
    rows = [row for name, row in ANALYSES.items() if row.default or name in options.also]
    parts = {row.about: partial(_analysis, row, read) for row in rows}
    parts |= {
        "Gates by layer and step": partial(_gates, read),
        "Lesions": partial(_lesions, read, options.lesions),
    }
    sections = list[Section]()
    for title, measure in parts.items():
        try:
            found = measure(progress(title))
            section = section_of(found, title)
            text = [*section.text, *_origin_sentences(read, options, title, first=not sections)]
            numbers = _numbers(found) if isinstance(found, Spectra) else []
            sections.append(replace(section, text=text, numbers=numbers))
        except NoGatesError:  # nothing is missing
            continue
        except (InvalidInputError, DataError) as error:
            sections.append(Section(title=title, text=[f"Not measured: {error}."]))
    return sections


def _origin_sentences(
    read: Read, options: ReportOptions, title: str, *, first: bool
) -> Iterator[str]:
    """Yield the sentences of a section about the network and the data that were measured. first:
    whether the section is the first one.
    """
    if first:
        label, steps = read.run.label, counted(len(read.run), "time step")
        yield f"Measured: {label.heading}, {steps}, with weights from {label.made}."
    if title == "Lesions" or (first and not options.input):
        yield _data_sentence(read)


def _numbers(found: Spectra) -> list[tuple[str, str]]:
    """Return the numbers for the head of the page, with their names."""
    grows = math.isfinite(found.doubling_time)
    time = found.doubling_time if grows else found.half_life
    means = {
        "mean spectral radius": found.spectral_radius,
        "mean 2-norm of a time step": found.norm,
        "mean of the largest modulus in the discs": found.reach,
    }
    word = "doubles" if grows else "halves"
    numbers = {f"time steps in which the gradient {word}": time}
    numbers |= {name: float(np.nanmean(values)) for name, values in means.items()}
    return [(name, f"{value:.3g}") for name, value in numbers.items()]


def read_network(options: ReportOptions, path: Path) -> Read:
    """Load the network in a file, and the sequence of the options. Raises CheckpointError,
    DataError or InvalidInputError.
    """
    asked = NetworkOptions(
        checkpoint=path,
        cell=options.cell,
        module=options.module,
        submodule=options.submodule,
        batch_axis=options.batch_axis,
    )
    stored = None if options.module else load_model(path, options.cell)
    text = load_text_model(path, options.cell) if isinstance(stored, LanguageModel) else None
    if text and options.input is None:  # the beginning of the validation text
        ids = text.corpus(options.data).valid[: options.steps or TEXT_STEPS].astype(np.int64)
        name = "of its training" if text.config.corpus == "text" else text.config.corpus
        name, x = f"{name} (validation)", torch.from_numpy(ids)[None]
        data = Dataset(name=name, kind="text", x=x, unit="tokens").cut(options.steps)
    else:
        data = data_of_options(asked, options)
    model, label = load_network(asked, data.input_size)
    run = run_of(asked, model, label, data, "cpu")
    return Read(
        model=part_of(model, asked.submodule),
        text=text,
        along=next(data.parts(1)),
        run=run,
        options=asked,
        data=options.data,
    )


def _data_sentence(read: Read) -> str:
    """Name the data of the page, and compare it with that of the training run."""
    corpus, stored = read.corpus, read.stored
    path = stored.path if read.data is None else read.data
    if isinstance(corpus, Corpus):
        name = chorales_origin(path)
    else:
        name = f"the text {corpus.name if path is None else f'in {path.name}'}"
    if other := stored.difference(path, corpus):
        return f"Data: {name}. Measured on other data: {other}."
    return f"Data: {name}{', the data of the training run' if stored.checksum else ''}."


def _analysis(row: Analysis, read: Read, progress) -> Result:
    """Return the result of the analysis in a row of `ANALYSES`."""
    if row.needs == "run":
        return row(read.run, progress=progress)
    of, frames = own_loss(read.model), read.along.all_read_by(read.model)
    axis = axis_for(read.model, read.along, read.options.batch_axis)
    subject = on_next_frames(read.model, frames, of, batch_axis=axis, label=read.label)
    return row(subject, of=of, progress=progress)


def _gates(read: Read, progress) -> Result:
    axis = read.options.batch_axis
    found = gate_activity(read.model, [read.sequence], batch_axis=axis, progress=progress)
    return replace(found, names=(read.label.along,), title=read.label.title, about=read.label.about)


def _lesions(read: Read, long: bool, progress) -> Result:
    file, axis = read.options.checkpoint, read.options.batch_axis
    if read.along.kind == "sequence" and read.stored.checksum is None and file:
        raise InvalidInputError(
            f"lesions need the data that the network predicts, and {file.name} names no such data"
        )
    if read.text:
        split, sequences = "valid", stretches(read.corpus.valid)
    else:
        split, sequences = "test", [*read.corpus.test]
    weights = sum(p.numel() for p in read.model.parameters())
    width = width_of(read.model, sequences)
    networks = 1 + len(places(open_network(read.model, width, batch_axis=axis)))
    if not long and weights * networks * sum(map(len, sequences)) > QUICK:
        raise InvalidInputError(
            "lesions of this network take longer than about half a minute: add --lesions for them"
        )
    found = lesion(read.model, sequences, split=split, batch_axis=axis, progress=progress)
    return replace(found, title=read.label.title, about=read.label.made)

"""What a network does, as sections of a report: spectra, products, gains, exponents, gates, and what lesions cost."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from analysis.damage import reading as lesion_reading
from analysis.gates import gate_activity
from analysis.lesions import lesion
from analysis.texts import stretches
from gersgorin.lyapunov.measure import lyapunov_spectrum
from gersgorin.overview import COLUMNS, Analysis, analyze
from gersgorin.own_loop import OwnLoop
from gersgorin.record import gradient_words, shown_steps
from gersgorin.report import charts
from gersgorin.report.page import Section, Table
from gersgorin.report.reading import Asked, Read, read_network
from gersgorin.watch import recurrent_part
from rhn.chorales.evaluation import corpus_of
from rhn.errors import DataError, InvalidInputError
from rhn.models import LanguageModel
from rhn.wording import counted

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
        _in_words(replace(found, spectrum=spectrum)),
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
        return analyze(read.model, x, submodule=read.submodule, unit=read.source.unit)
    except InvalidInputError:
        cell, inputs = recurrent_part(read.model, x, submodule=read.submodule)
        if isinstance(cell, OwnLoop):
            raise
        return analyze(cell, inputs[:, 0], unit=read.source.unit)


def _attempt(title: str, measured: Callable[[], Section]) -> Section:
    """A section, or why there is none."""
    try:
        return measured()
    except (InvalidInputError, DataError) as error:
        return Section(title=title, words=[f"Not measured: {error}."])


def _in_words(found: Analysis) -> Section:
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
    x = torch.as_tensor(np.asarray(read.sequence))
    cell, inputs = recurrent_part(read.model, x, submodule=read.submodule)
    T = len(inputs)
    x = inputs[:, 0].repeat(READINGS, 1)
    if isinstance(cell, OwnLoop):
        cell = cell.repeated(READINGS).sequence(0)
    found = lyapunov_spectrum(cell, x, min(EXPONENTS, cell.state_size), warmup=T, progress=progress)
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

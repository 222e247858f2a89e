"""Sample from trained models: a chorale frame by frame in four voices, or a text token by token.

Chorales: every piano key is drawn from a Bernoulli distribution. The log-odds of this distribution
are those of the model, divided by a temperature. The four most probable of the drawn keys sound,
one for each voice. If no key is drawn, the most probable of all keys sounds. The model does not
predict the first frame: it is a chord of C major or A minor, to which the data set is transposed.
Frames (T, 88) are quarter notes, and piano key 0 is MIDI pitch 21. Frames do not distinguish held
from repeated notes: equal neighbours in a voice become one note, within a bar of four frames.

Texts: w[t + 1] ~ softmax(z[t] / temperature), where z[t] are the logits after w[1..t]. With top_k,
only the k most probable symbols can be drawn. The model first reads the prompt. Without a prompt,
the model reads a newline. If the vocabulary has no newline, the model reads a symbol that is drawn
uniformly. The symbol `<unk>` is never drawn.
"""

import copy
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rhn.data.corpus import KEYS, LOWEST_PITCH
from rhn.data.text import Vocabulary
from rhn.data.vocabulary import EOS, Symbol
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.utils.io import atomic_path, check_output
from rhn.utils.validation import check_seed, number, whole_number

MUSIC_SUFFIXES = (".mid", ".musicxml")
BEATS = 4  # frames in a bar
VOICES = ("Soprano", "Alto", "Tenor", "Bass")
OPENINGS = ((72, 67, 64, 48), (69, 64, 60, 45))  # MIDI pitches of the first chord: C major, A minor
NEWLINE: dict[str, Symbol] = {"words": EOS, "characters": "\n", "bytes": ord("\n")}


def sample_chorale(
    model: PolyphonicModel,
    *,
    bars: int = 16,
    temperature: float = 1.0,
    seed: int = 0,
    dtype=torch.float64,
) -> np.ndarray:
    """Sample a new chorale: frames (4 * bars, 88) uint8, in each of which one to four keys sound.

    Raises InvalidInputError for a model without 88 keys or with an output that is not finite, for
    fewer than one bar, or for a temperature that is not positive.
    """
    if (model.input_size, model.output_size) != (KEYS, KEYS):
        raise InvalidInputError(
            f"the model has {model.input_size} inputs, expected a model of the piano's {KEYS} keys"
        )
    bars = whole_number("bars", bars)
    temperature = number("the temperature", temperature, above=0)
    generator = torch.Generator().manual_seed(check_seed(seed))
    opening = OPENINGS[torch.randint(len(OPENINGS), (), generator=generator, device="cpu")]
    frames = torch.zeros(BEATS * bars, KEYS, dtype=dtype, device="cpu")
    frames[0, [pitch - LOWEST_PITCH for pitch in opening]] = 1
    model, states = copy.deepcopy(model).to("cpu", dtype).eval(), [None] * model.layers
    with torch.no_grad():
        for t in range(1, len(frames)):
            x = frames[t - 1].view(1, 1, KEYS)
            for layer, cell in enumerate(model.cells):
                x, states[layer] = cell(x, states[layer])
            logits = model.output(x).flatten()
            _require_finite(logits, f"{t} frames")
            frames[t] = _draw_keys(logits / temperature, generator)
    return frames.to(torch.uint8).numpy()


@torch.no_grad()
def generate(
    model: LanguageModel,
    vocabulary: Vocabulary,
    *,
    prompt: str = "",
    length: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> str:
    """Sample a text: the prompt as the model reads it (an unknown word is `<unk>`), followed by
    `length` new tokens.

    Args:
        temperature: divides the logits; text is more predictable below 1, more varied above 1.
        top_k: draw from the k most probable symbols only. None: draw from all symbols.
        seed: seed of the random draws.

    Raises:
        InvalidInputError: an argument is out of range, a symbol of the prompt is not in the
            vocabulary, the vocabulary belongs to another model, or the model's output is not
            finite.
    """
    temperature = number("the temperature", temperature, above=0)
    seed = check_seed(seed)
    length, top_k = (
        whole_number("length", length),
        None if top_k is None else whole_number("top_k", top_k),
    )
    if len(vocabulary) != model.vocabulary_size:
        raise InvalidInputError(
            f"the vocabulary has {len(vocabulary)} symbols, expected the model's "
            f"{model.vocabulary_size}: give the one that the model was trained with"
        )
    if vocabulary.unknown is not None and len(vocabulary) == 1:
        raise InvalidInputError(
            "the vocabulary has `<unk>` only, expected a word that can be drawn"
        )
    generator, model = torch.Generator().manual_seed(seed), copy.deepcopy(model).eval()
    text = vocabulary.encode(prompt).tolist()
    unread, end = list(text), len(text) + length
    if not text:
        newline = vocabulary.index.get(NEWLINE[vocabulary.unit])
        if newline is None:
            uniform = torch.zeros(len(vocabulary), device="cpu")
            text = [_draw_symbol(uniform, vocabulary, None, generator)]
        unread = list(text) or [newline]
    states = None
    while len(text) < end:
        reading = model(torch.tensor(unread, device=model.embedding.device).unsqueeze(1), states)
        states = reading.states
        logits = reading.logits[-1, 0].double().cpu()
        _require_finite(logits, f"{len(text)} tokens")
        unread = [_draw_symbol(logits, vocabulary, top_k, generator, temperature)]
        text += unread
    return vocabulary.decode(text)


def write_chorale(frames: np.ndarray, path: str | Path) -> Path:
    """Write frames (T, 88) to a .mid or .musicxml file with four voices, a quarter note for each
    frame. Raises OutputError.
    """
    path = check_output(path, MUSIC_SUFFIXES)
    score = _score(voices(frames))
    with atomic_path(path) as temporary:
        score.write("midi" if path.suffix.lower() == ".mid" else "musicxml", fp=temporary)
    return path


def voices(frames: np.ndarray) -> list[list[int]]:
    """Return the MIDI pitches of soprano, alto, tenor and bass, one list of all frames for each. In
    a frame of fewer than four keys some voices are in unison.

    >>> frames = np.zeros((1, 88)); frames[0, [27, 43, 51]] = 1
    >>> voices(frames)
    [[72], [64], [48], [48]]
    """
    keys = [np.flatnonzero(frame) + LOWEST_PITCH for frame in frames]
    chords = [sorted(pitches.tolist(), reverse=True) for pitches in keys]
    return [[chord[min(voice, len(chord) - 1)] for chord in chords] for voice in range(len(VOICES))]


def _require_finite(logits: Tensor, length: str) -> None:
    if not torch.isfinite(logits).all():
        raise InvalidInputError(
            f"the model's output is no longer finite after {length}: its weights are too "
            "large, as after a training run that diverged"
        )


def _draw_keys(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the keys (88,) of the next frame: 1 for a key that sounds, else 0."""
    drawn = torch.bernoulli(torch.sigmoid(logits), generator=generator)
    likeliest = logits.masked_fill(drawn == 0, -torch.inf).topk(len(VOICES)).indices
    keys = torch.zeros_like(drawn)
    keys[likeliest] = drawn[likeliest]
    if not keys.any():
        keys[logits.argmax()] = 1
    return keys


def _score(parts: list[list[int]]):
    # here, because it takes seconds to import
    from music21 import clef, instrument, metadata, meter, note, stream

    score = stream.Score()
    score.metadata = metadata.Metadata()
    for name, pitches in zip(VOICES, parts, strict=True):
        part = stream.Part(id=name)
        sign = clef.BassClef() if name in VOICES[2:] else clef.TrebleClef()
        part.append([instrument.fromString(name), sign])
        part.append(meter.TimeSignature(f"{BEATS}/4"))
        for pitch, beats in _held(pitches):
            part.append(note.Note(pitch, quarterLength=beats))
        score.insert(0, part)
    return score


def _held(pitches: Sequence[int]) -> list[tuple[int, int]]:
    """Join a voice's pitches to notes (pitch, beats), none of which crosses a bar line.

    >>> _held([60, 60, 62, 62, 62])
    [(60, 2), (62, 2), (62, 1)]
    """
    notes = itertools.groupby(enumerate(pitches), key=lambda frame: (frame[0] // BEATS, frame[1]))
    return [(pitch, len(list(frames))) for (_, pitch), frames in notes]


def _draw_symbol(
    logits: Tensor,
    vocabulary: Vocabulary,
    top_k: int | None,
    generator: torch.Generator,
    temperature: float = 1.0,
) -> int:
    """Draw a symbol other than `<unk>` from logits (V,)."""
    if vocabulary.unknown is not None:
        unknown = torch.tensor(vocabulary.unknown, device=logits.device)
        logits = logits.index_fill(0, unknown, -torch.inf)
    if top_k is not None:
        kept = logits.topk(min(top_k, len(logits)))
        logits = torch.full_like(logits, -torch.inf).scatter(0, kept.indices, kept.values)
    # 0 is the largest: no temperature is too cold for it
    logits = (logits - logits.max()) / temperature
    return int(torch.multinomial(logits.softmax(0), 1, generator=generator))

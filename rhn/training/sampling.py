"""Sample from trained models: a chorale frame by frame in four voices, or a text token by token.

Every piano key is drawn with the model's log-odds, divided by a temperature. The four most probable
of the drawn keys sound; if there are none, the most probable of all. A token is drawn with the
model's logits, divided by a temperature; the symbol `<unk>` is never drawn.
"""

import copy
import itertools
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from rhn.data.corpus import KEYS, LOWEST_PITCH
from rhn.data.vocabulary import EOS, Symbol, Vocabulary
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.utils.io import atomic_path, check_output
from rhn.utils.progress import Progress, reported
from rhn.utils.validation import kind_of, number, whole_number

BEATS = 4  # frames, which are quarter notes, in a bar
VOICES = ("Soprano", "Alto", "Tenor", "Bass")
OPENINGS = ((72, 67, 64, 48), (69, 64, 60, 45))  # MIDI pitches of the first chord: C major, A minor
NEWLINE: dict[str, Symbol] = {"words": EOS, "characters": "\n", "bytes": ord("\n")}


def sample(
    model: PolyphonicModel | LanguageModel, vocabulary: Vocabulary | None = None, **options
) -> np.ndarray | str:
    """Sample a new chorale, an array (T, 88), or a new text from a language model with its
    vocabulary. options: those of `sample_chorale` or `generate`.

    >>> sample(PolyphonicModel("rhn", hidden_size=4), bars=2).shape  # (quarter notes, keys)
    (8, 88)
    """
    if isinstance(model, LanguageModel):
        return generate(model, vocabulary, **options)
    return sample_chorale(model, **options)


@torch.no_grad()
def sample_chorale(
    model: PolyphonicModel, *, bars: int = 16, temperature: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Sample a new chorale: frames (4 * bars, 88) uint8 with one to four keys each."""
    if getattr(model, "output_size", None) != KEYS or model.input_size != KEYS:
        raise InvalidInputError(f"model is {kind_of(model)}: expected one of {KEYS} keys")
    temperature = number("temperature", temperature, above=0)
    generator = Generator().manual_seed(whole_number("seed", seed, 0))
    opening = OPENINGS[torch.randint(len(OPENINGS), (), generator=generator, device="cpu")]
    steps = BEATS * whole_number("bars", bars)
    frames = torch.zeros(steps, KEYS, dtype=torch.float64, device="cpu")
    frames[0, [pitch - LOWEST_PITCH for pitch in opening]] = 1
    model, states = copy.deepcopy(model).to("cpu", torch.float64).eval(), [None] * model.layers
    for t in range(1, len(frames)):
        x = frames[t - 1].view(1, 1, KEYS)
        for layer, cell in enumerate(model.cells):
            x, states[layer] = cell(x, states[layer])
        logits = model.output(x).flatten() / temperature
        drawn = torch.bernoulli(torch.sigmoid(logits), generator=generator)
        likeliest = logits.masked_fill(drawn == 0, -torch.inf).topk(len(VOICES)).indices
        frames[t, likeliest] = drawn[likeliest]
        if not frames[t].any():
            frames[t, logits.argmax()] = 1
    return frames.to(torch.uint8).numpy()


@torch.no_grad()
def generate(
    model: LanguageModel,
    vocabulary: Vocabulary | None,
    *,
    prompt: str = "",
    length: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> str:
    """Sample a text: the prompt as the model reads it (an unknown word is `<unk>`; if it is empty,
    a newline or a uniformly drawn symbol), and `length` new tokens of the `top_k` most probable.
    progress: as for `rhn.train`, of tokens.
    """
    temperature, size = number("temperature", temperature, above=0), model.vocabulary_size
    if vocabulary is None or len(vocabulary) != size:
        given = len(vocabulary or ())
        raise InvalidInputError(f"vocabulary has {given} symbols: expected the model's {size}")
    most = size if top_k is None else min(whole_number("top_k", top_k), size)
    generator = Generator().manual_seed(whole_number("seed", seed, 0))
    model = copy.deepcopy(model).eval()

    def draw(logits: Tensor, most: int) -> int:
        """Draw one of the `most` most probable symbols other than `<unk>`."""
        if vocabulary.unknown is not None:
            logits[vocabulary.unknown] = -torch.inf
        kept = logits.topk(most)
        logits = torch.full_like(logits, -torch.inf).scatter(0, kept.indices, kept.values)
        # 0 is the largest: no temperature is too cold for it
        p = ((logits - logits.max()) / temperature).softmax(0)
        return int(torch.multinomial(p, 1, generator=generator))

    text = vocabulary.encode(prompt).tolist()
    end = len(text) + whole_number("length", length)
    start = vocabulary.index.get(NEWLINE[vocabulary.unit])
    if not text and start is None:
        text = [draw(torch.zeros(size, device="cpu"), size)]
    states, unread = None, text or [start]
    with reported(progress, "generate") as advance:
        while len(text) < end:
            reading = model(
                torch.tensor(unread, device=model.embedding.device).unsqueeze(1), states
            )
            states = reading.states
            unread = [draw(reading.logits[-1, 0].double().cpu(), most)]
            text = text + unread
            advance(length - end + len(text), length)
    return vocabulary.decode(text)


def write_chorale(frames: np.ndarray, path: str | Path) -> Path:
    """Write frames (T, 88) to a .mid file with four voices, of which the lowest are in unison in a
    frame of fewer keys. Equal neighbours in a bar are one note.
    """
    from music21 import instrument, meter, note, stream  # here, because it takes seconds to import

    path, score = check_output(path, (".mid",)), stream.Score()
    chords = [np.flatnonzero(frame)[::-1] + LOWEST_PITCH for frame in frames]
    for voice, name in enumerate(VOICES):
        pitches = [int(chord[min(voice, len(chord) - 1)]) for chord in chords]
        part = stream.Part([instrument.fromString(name), meter.TimeSignature(f"{BEATS}/4")])
        notes = itertools.groupby(enumerate(pitches), lambda at: (at[0] // BEATS, at[1]))
        for (_, pitch), beats in notes:
            part.append(note.Note(pitch, quarterLength=len([*beats])))
        score.insert(0, part)
    with atomic_path(path) as temporary:
        score.write("midi", fp=temporary)
    return path

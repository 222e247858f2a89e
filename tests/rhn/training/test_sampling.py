"""Sampled chorales and texts follow the model's probabilities, go on from what they begin with and
are the same for the same seed.
"""

import math

import numpy as np
import pytest
import torch

from rhn.data.text import Vocabulary
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.sampling import BEATS, LOWEST_PITCH, OPENINGS, generate, sample, write_chorale

WORDS = Vocabulary("words", ("the", "<eos>", "cat", "<unk>", "sat", "mat"))
LETTERS = Vocabulary("characters", tuple("abcd\n"))
UNENDING = Vocabulary("characters", tuple("abcd"))
BYTES = Vocabulary("bytes", (10, 97, 98, 255))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    made = PolyphonicModel("rhn", hidden_size=8, layers=2, init="gaussian:0.7")
    with torch.no_grad():
        made.output.bias.fill_(-6.0)
        made.output.bias[30:50] = -1.5
    return made


def keys(frames):
    return [set(np.flatnonzero(frame).tolist()) for frame in frames]


def test_every_frame_has_one_to_four_keys_and_the_first_is_a_known_chord(model):
    frames, again, other = (sample(model, bars=8, seed=seed) for seed in (1, 1, 2))
    assert frames.shape == (8 * BEATS, 88)
    assert all(1 <= len(chord) <= 4 for chord in keys(frames))
    openings = [{pitch - LOWEST_PITCH for pitch in chord} for chord in OPENINGS]
    assert keys(frames)[0] in openings
    assert (frames == again).all() and (frames != other).any()


def test_a_frame_is_drawn_with_the_model_s_probabilities():
    model = PolyphonicModel("rnn", hidden_size=2, init="gaussian:0")
    with torch.no_grad():
        model.output.bias.fill_(-40.0)
        model.output.bias[[40, 45]] = torch.tensor([0.0, -1.0])
    frames = sample(model, bars=250, temperature=0.5)[1:]
    p, q = 1 / (1 + np.exp([0.0, 2.0]))
    # if neither is drawn the likeliest key, 40, sounds
    assert frames[:, 40].mean() == pytest.approx(p + (1 - p) * (1 - q), abs=0.06)
    assert frames[:, 45].mean() == pytest.approx(q, abs=0.04)
    assert frames.sum() == frames[:, [40, 45]].sum()


def test_a_state_is_carried_from_frame_to_frame(model):
    """At next to no temperature the likeliest keys sound, as of the whole chorale at once."""
    frames = sample(model, bars=3, temperature=1e-6)
    with torch.no_grad():
        logits = model(torch.from_numpy(frames[:-1]).float().unsqueeze(1))[:, 0]
    for chord, z in zip(keys(frames[1:]), logits, strict=True):
        likely = set((z > 0).nonzero().flatten().tolist()) or {int(z.argmax())}
        assert chord == set(sorted(likely, key=lambda key: -z[key])[:4])


def test_the_file_sounds_as_sampled_and_lower_voices_take_the_lower_keys(model, tmp_path):
    from music21 import converter

    frames = sample(model, bars=3)
    frames[[1, 6]] = frames[0]
    frames[2:6] = np.roll(frames[0], 5)  # two notes of two beats: a bar ends between them
    score = converter.parse(write_chorale(frames, tmp_path / "chorale.mid"))
    voices = np.zeros((len(frames), 4), int)
    for voice, part in enumerate(score.parts):
        notes = [(int(n.offset), int(n.quarterLength), n.pitch) for n in part.flatten().notes]
        assert {(2, 2), (4, 2)} <= {(start, beats) for start, beats, _ in notes}
        for start, beats, pitch in notes:
            voices[start : start + beats, voice] = pitch.midi - LOWEST_PITCH
    for chord, sung in zip(keys(frames), voices.tolist(), strict=True):
        high_to_low = sorted(chord, reverse=True)
        assert sung == [*high_to_low, *high_to_low[-1:] * 4][:4]


def random_model(vocabulary):
    torch.manual_seed(7)
    how = {"vocabulary_size": len(vocabulary), "hidden_size": 9, "depth": 2}
    return LanguageModel(init="gaussian:1.2,bias:0", dtype=torch.float64, **how)


def constant_model(logits):
    """Predicts the same whatever it reads."""
    model = LanguageModel(vocabulary_size=len(logits), hidden_size=2, init="gaussian:0")
    model.output_bias.data.copy_(torch.tensor(logits))
    return model


@pytest.mark.parametrize(
    "options", [{"top_k": 1}, {"temperature": 1e-3}, {"temperature": 1e-320}], ids=str
)
def test_the_coldest_text_takes_the_likeliest_known_symbol_every_time(options):
    model, ids = random_model(LETTERS), [1, 3]
    for _ in range(20):
        logits = model(torch.tensor(ids).unsqueeze(1)).logits
        ids.append(int(logits[-1, 0].argmax()))
    assert generate(model, LETTERS, prompt="bd", length=20, **options) == LETTERS.decode(ids)
    assert len(set(ids[2:])) > 2
    unknown = constant_model([0.0, 0.1, 0.3, 50.0, 0.2, 0.1])
    assert generate(unknown, WORDS, prompt="the", length=3, **options) == "the cat cat cat"


@pytest.mark.parametrize(
    ("options", "odds"),
    [
        ({"temperature": 0.5}, [1, 4, 9, 16]),
        ({}, [1, 2, 3, 4]),
        ({"temperature": 2.0}, [1, 2**0.5, 3**0.5, 2]),
        ({"top_k": 2}, [0, 0, 3, 4]),
    ],
    ids=str,
)
def test_symbols_come_as_often_as_the_model_says(options, odds):
    model = constant_model(np.log([1.0, 2, 3, 4]).tolist())
    text = generate(model, UNENDING, length=501, **options)[1:]
    for letter, p in zip("abcd", np.array(odds) / sum(odds), strict=True):
        deviation = math.sqrt(500 * p * (1 - p))
        assert text.count(letter) == pytest.approx(500 * p, abs=4 * deviation)


def test_without_a_prompt_the_text_begins_after_a_newline_and_unknown_words_are_read_as_such():
    for vocabulary in (WORDS, LETTERS, BYTES):
        model = random_model(vocabulary)
        text = generate(model, vocabulary, prompt="\n", length=20, seed=3)
        assert text == "\n" + generate(model, vocabulary, length=20, seed=3)
    model = random_model(WORDS)
    text = generate(model, WORDS, prompt="the dog\nsat", length=10)
    assert text.startswith("the <unk>\nsat")
    assert text == generate(model, WORDS, prompt="the <unk>\nsat", length=10)

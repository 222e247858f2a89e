"""A sampled chorale is four singable voices, the same for the same seed, and the file says what was
sampled.
"""

import copy
import math

import numpy as np
import pytest
import torch
from cases import randomize

from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel
from rhn.training.sampling import (
    BEATS,
    LOWEST_PITCH,
    OPENINGS,
    sample_chorale,
    voices,
    write_chorale,
)


@pytest.fixture(scope="module")
def model():
    made = PolyphonicModel("rhn", hidden_size=8, layers=2)
    randomize(made, 3, gain=2.0)
    with torch.no_grad():
        made.output.bias.fill_(-6.0)
        made.output.bias[30:50] = -1.5
    return made


def keys(frames):
    return [set(np.flatnonzero(frame).tolist()) for frame in frames]


def test_every_frame_has_one_to_four_keys_and_the_first_is_a_known_chord(model):
    frames = sample_chorale(model, bars=8)
    assert frames.shape == (8 * BEATS, 88)
    assert all(1 <= len(chord) <= 4 for chord in keys(frames))
    assert (
        tuple(sorted((np.flatnonzero(frames[0]) + LOWEST_PITCH).tolist(), reverse=True)) in OPENINGS
    )


def test_the_seed_decides_the_notes(model):
    a, b, other = (sample_chorale(model, bars=4, seed=seed) for seed in (1, 1, 2))
    assert (a == b).all()
    assert (a != other).any()


def test_a_frame_is_drawn_with_the_model_s_probabilities():
    model = PolyphonicModel("rnn", hidden_size=2, init="gaussian:0")
    with torch.no_grad():
        model.output.bias.fill_(-40.0)
        model.output.bias[[40, 45]] = torch.tensor([0.0, -1.0])
    frames = sample_chorale(model, bars=250, temperature=0.5)[1:]
    # then the likeliest key, 40, sounds
    both_silent = (1 - 1 / (1 + np.exp(0.0))) * (1 - 1 / (1 + np.exp(2.0)))
    assert frames[:, 40].mean() == pytest.approx(0.5 + both_silent, abs=0.06)
    assert frames[:, 45].mean() == pytest.approx(1 / (1 + np.exp(2.0)), abs=0.04)
    assert frames.sum() == frames[:, [40, 45]].sum()


def test_a_state_is_carried_from_frame_to_frame(model):
    """Next to no temperature: the likeliest keys, as the model run over the whole chorale has
    them.
    """
    frames = sample_chorale(model, bars=3, temperature=1e-6)
    with torch.no_grad():
        logits = model(torch.from_numpy(frames[:-1]).float().unsqueeze(1))[:, 0]
    for chord, z in zip(keys(frames[1:]), logits, strict=True):
        likely = set((z > 0).nonzero().flatten().tolist()) or {int(z.argmax())}
        assert chord == set(sorted(likely, key=lambda key: -z[key])[:4])


def test_voices_are_ordered_and_sing_every_key():
    frames = np.zeros((3, 88))
    for t, chord in enumerate([(10, 20, 30, 40), (15, 25, 35), (50,)]):
        frames[t, list(chord)] = 1
    parts = np.array(voices(frames)) - LOWEST_PITCH
    assert parts.T.tolist() == [[40, 30, 20, 10], [35, 25, 15, 15], [50, 50, 50, 50]]


@pytest.mark.parametrize("suffix", [".mid", ".musicxml"])
def test_the_file_sounds_as_sampled(suffix, model, tmp_path):
    from music21 import converter

    frames = sample_chorale(model, bars=3)
    path = write_chorale(frames, tmp_path / f"chorale{suffix}")
    score = converter.parse(path)
    assert len(score.parts) == 4
    sounding = [set() for _ in frames]
    for note in score.flatten().notes:
        for pitch in note.pitches:
            for beat in range(int(note.offset), int(note.offset + note.quarterLength)):
                sounding[beat].add(pitch.midi - LOWEST_PITCH)
    assert sounding == keys(frames)


def test_weights_that_overflow_are_named(model):
    overflowing = copy.deepcopy(model)
    with torch.no_grad():
        overflowing.output.weight.fill_(math.inf)
    with pytest.raises(
        InvalidInputError, match="no longer finite after 1 frames: its weights are too large"
    ):
        sample_chorale(overflowing)

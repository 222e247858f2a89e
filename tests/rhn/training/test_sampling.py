"""A sampled chorale is four singable voices, the same for the same seed, and the file says what was
sampled.
"""

import numpy as np
import pytest
import torch
from cases import randomize

from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.sampling import (
    BEATS,
    LOWEST_PITCH,
    OPENINGS,
    sample_chorale,
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


def test_the_file_sounds_as_sampled_and_lower_voices_take_the_lower_keys(model, tmp_path):
    from music21 import converter

    frames = sample_chorale(model, bars=3)
    path = write_chorale(frames, tmp_path / "chorale.mid")
    score = converter.parse(path)
    assert len(score.parts) == 4
    voices = [[None] * len(frames) for _ in range(4)]
    for voice, part in zip(voices, score.parts, strict=True):
        for note in part.flatten().notes:
            for beat in range(int(note.offset), int(note.offset + note.quarterLength)):
                (pitch,) = note.pitches
                voice[beat] = pitch.midi - LOWEST_PITCH
    for chord, sung in zip(keys(frames), zip(*voices, strict=True), strict=True):
        high_to_low = sorted(chord, reverse=True)
        assert list(sung) == [*high_to_low, *high_to_low[-1:] * 4][:4]


def test_a_model_of_other_keys_is_refused(tmp_path):
    for other in (
        PolyphonicModel("rnn", hidden_size=2, input_size=5),
        LanguageModel("rnn", vocabulary_size=9, hidden_size=2),
    ):
        with pytest.raises(InvalidInputError, match="expected one of 88 keys"):
            sample_chorale(other)
